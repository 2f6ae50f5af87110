"""Latent tools against closed forms; each check beside something that it must refuse."""

import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.errors import CapabilityError
from genus.explore import add, difference, directions, encode, interpolate, traverse
from genus.explore.latents import between
from genus.kinds import Grid, Label, Vectors
from genus.models.autoregressive.histogram import Histogram
from genus.models.flow.realnvp import RealNVP
from genus.models.latent.vae import VAE
from genus.prob import noise
from genus.testing.mutants import Affine


def draw(*shape: int, key: str = "z") -> Tensor:
    return noise.normal(shape, noise.stream("explore", key))


def a_flow(condition: Label | None = None) -> tuple[RealNVP, Tensor]:
    """A small flow that is far from the identity, and data for it."""
    torch.manual_seed(0)
    model = RealNVP.tiny(Grid(1, (4, 4), 16), condition)
    x = noise.integers(16, (12, 1, 4, 4), noise.stream("explore", "x")).to(torch.uint8)
    labels = None if condition is None else torch.arange(12) % condition.count
    model.losses(Batch(x, labels), noise.stream("explore", "loss"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * noise.normal(tuple(parameter.shape), noise.stream("explore", "weights")))
    return model.eval(), x


class Identity(Affine):
    """Latents that are the data."""


# -- interpolation ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["linear", "spherical"])
def test_the_ends_are_the_latents_bit_for_bit(method) -> None:
    a, b = draw(20, 3, 5, key="a"), draw(20, 3, 5, key="b")
    path = between(a, b, 7, method)
    assert path.shape == (20, 7, 3, 5) and path.dtype == a.dtype
    assert torch.equal(path[:, 0], a) and torch.equal(path[:, -1], b)
    assert not torch.equal(path[:, 1], a)


@pytest.mark.parametrize("method", ["linear", "spherical"])
def test_an_invertible_model_gives_the_ends_bit_for_bit(method) -> None:
    model, x = a_flow()
    rows = interpolate(model, x[:6], x[6:], 5, method=method)
    assert rows.shape == (6, 5, 1, 4, 4) and rows.dtype == x.dtype
    assert torch.equal(rows[:, 0], x[:6]) and torch.equal(rows[:, -1], x[6:])
    torch.manual_seed(0)
    lossy = VAE.tiny(model.domain)  # control: two numbers cannot hold a picture
    assert not torch.equal(interpolate(lossy, x[:6], x[6:], 5, method=method)[:, 0], x[:6])


def lengths_stay_between(path: Tensor) -> bool:
    length = path.flatten(2).double().norm(dim=2)
    low, high = length[:, [0, -1]].amin(1, keepdim=True), length[:, [0, -1]].amax(1, keepdim=True)
    return bool(((length >= low * (1 - 1e-6)) & (length <= high * (1 + 1e-6))).all())


def test_spherical_keeps_the_length_and_linear_does_not() -> None:
    a, b = draw(50, 30, key="a"), draw(50, 30, key="b") * torch.linspace(0.1, 4, 50).unsqueeze(1)
    assert lengths_stay_between(between(a, b, 9))
    assert not lengths_stay_between(between(a, b, 9, "linear"))


def test_spherical_turns_by_the_same_angle_at_each_step() -> None:
    a, b = draw(10, 6, key="a").double(), draw(10, 6, key="b").double()
    whole = torch.nn.functional.cosine_similarity(a, b).acos()
    for method, even in (("spherical", True), ("linear", False)):
        path = between(a, b, 5, method)
        angles = torch.nn.functional.cosine_similarity(path[:, 1:], path[:, :-1], dim=2).clamp(-1, 1).acos()
        assert torch.allclose(angles, whole.unsqueeze(1) / 4, atol=1e-7) is even
        if even:  # and length changes evenly
            steps = path.norm(dim=2).diff(dim=1)
            assert torch.allclose(steps, steps[:, :1].expand(-1, 4), atol=1e-12)


def test_linear_is_the_straight_line() -> None:
    a, b = draw(3, 4, key="a"), draw(3, 4, key="b")
    assert torch.allclose(between(a, b, 3, "linear")[:, 1], (a + b) / 2, atol=1e-7)


def test_where_there_is_no_arc_the_line_is_taken() -> None:
    a = torch.tensor([[1.0, 2.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    b = torch.tensor([[-2.0, -4.0], [3.0, 1.0], [1.0, 1.0], [0.0, 0.0]])  # opposite, from zero, the same, both zero
    assert torch.equal(between(a, b, 5), between(a, b, 5, "linear"))


def test_each_step_has_the_label_of_the_nearer_end() -> None:
    seen = []

    class Listens(Affine):
        def given(self, condition: Tensor | None, count: int) -> Tensor | None:
            seen.append(condition)
            return condition

    model = Listens(Vectors(2))
    labels = torch.tensor([0, 1]), torch.tensor([2, 3])
    interpolate(model, draw(2, 2, key="a"), draw(2, 2, key="b"), 5, conditions=labels)
    assert seen[-1].tolist() == [0, 0, 0, 2, 2, 1, 1, 1, 3, 3]


def test_a_conditional_flow_gives_the_ends_with_their_own_labels() -> None:
    model, x = a_flow(Label(("a", "b", "c")))
    labels = torch.arange(12) % 3
    rows = interpolate(model, x[:6], x[6:], 4, conditions=(labels[:6], (labels[6:] + 1) % 3))
    assert torch.equal(rows[:, 0], x[:6]) and torch.equal(rows[:, -1], x[6:])


@pytest.mark.parametrize(
    ("arguments", "sentence"), [({"steps": 1}, "at least 2"), ({"method": "cubic"}, "spherical or linear")]
)
def test_interpolation_refuses(arguments, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        between(**({"a": draw(2, 3), "b": draw(2, 3), "steps": 3} | arguments))


def test_models_without_latents_and_latents_that_are_codes_are_refused() -> None:
    class Codes(Affine):
        def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
            return x.long()

    with pytest.raises(CapabilityError, match=r"histogram cannot encode.*HasLatents"):
        encode(Histogram(Grid(1, (2, 2), 2)), torch.zeros(2, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="codes"):
        encode(Codes(Vectors(3)), draw(2, 3))
    with pytest.raises(ValueError, match="at least one"):
        encode(Affine(Vectors(3)), draw(0, 3))


# -- traversal --------------------------------------------------------------------------


def test_coordinates_come_in_the_order_of_their_activity() -> None:
    z = draw(500, 4) * torch.tensor([0.1, 3.0, 1.0, 0.01]) + 5
    along = directions(z, 3)
    assert along.names == ("latent-1", "latent-2", "latent-0")
    assert torch.equal(along.vectors, torch.eye(4, dtype=torch.float64)[[1, 2, 0]])
    assert torch.allclose(along.deviations, z.double().std(0)[[1, 2, 0]])
    assert torch.allclose(along.centre, z.double().mean(0))


@pytest.mark.parametrize("count", [6, 300])
def test_principal_directions_are_those_of_the_singular_value_decomposition(count) -> None:
    z = draw(count, 80).double() @ torch.diag(0.9 ** torch.arange(80, dtype=torch.float64))
    along = directions(z, 4)
    _, values, right = torch.linalg.svd(z - z.mean(0), full_matrices=False)
    assert torch.allclose(along.deviations, values[:4] / math.sqrt(count - 1), rtol=1e-8)
    assert torch.allclose((along.vectors @ right[:4].T).abs(), torch.eye(4, dtype=torch.float64), atol=1e-7)
    assert torch.allclose(along.deviations, ((z - z.mean(0)) @ along.vectors.T).std(0), rtol=1e-8)
    uncentred = torch.linalg.svd(z + 3, full_matrices=False)[1][:4] / math.sqrt(count - 1)  # control: not these
    assert not torch.allclose(along.deviations, uncentred, rtol=0.05)


def test_there_are_no_more_directions_than_data_span() -> None:
    assert directions(draw(3, 100), 9).vectors.shape == (2, 100)
    with pytest.raises(ValueError, match="two data or more"):
        directions(draw(1, 100), 2)


def test_a_traverse_goes_by_deviations_and_stands_still_in_the_middle() -> None:
    model, x = Identity(Vectors(3)), draw(50, 3) * torch.tensor([1.0, 2.0, 3.0])
    along = directions(encode(model, x), 2)
    rows = traverse(model, x[0], along, 7, reach=3).detach()
    assert rows.shape == (2, 7, 3)
    assert torch.equal(rows[:, 3], x[0].expand(2, -1))
    deviation = x.std(0)
    for row, axis in enumerate((2, 1)):
        moved = rows[row] - x[0]
        assert torch.allclose(moved[:, axis], deviation[axis] * torch.arange(-3.0, 4), atol=1e-5)
        assert moved.abs().sum(0).count_nonzero() == 1


# -- arithmetic -------------------------------------------------------------------------


def test_arithmetic_of_equal_groups_and_scale_zero_change_nothing() -> None:
    model, x = a_flow()
    z = encode(model, x)
    same, other = difference(z, z), difference(z[:6], z[6:])
    assert torch.equal(add(model, x, same, (0.0, 1.0, -7.5)), x.unsqueeze(1).expand(-1, 3, -1, -1, -1))
    moved = add(model, x, other, (0.0, 3.0))
    assert torch.equal(moved[:, 0], x)
    assert not torch.equal(moved[:, 1], x)  # control: another move moves


def test_arithmetic_in_a_linear_model_is_arithmetic_of_the_data() -> None:
    model = Affine(Vectors(2))
    with torch.no_grad():
        model.shift.copy_(torch.tensor([3.0, -1.0]))
        model.log_scale.copy_(torch.tensor([0.5, -2.0]))
    low, high, x = draw(30, 2, key="low"), draw(40, 2, key="high") + 5, draw(4, 2, key="x")
    expected = x.unsqueeze(1) + torch.tensor([0.5, 2.0]).view(1, 2, 1) * (high.mean(0) - low.mean(0))
    moved = add(model, x, difference(encode(model, low), encode(model, high)), (0.5, 2.0)).detach()
    assert torch.allclose(moved, expected, atol=1e-4)
    swapped = add(model, x, difference(encode(model, high), encode(model, low)), (0.5, 2.0)).detach()
    assert not torch.allclose(swapped, expected, atol=1e-1)  # mutant: minus and plus in each other's place


def test_arithmetic_hands_each_datum_its_own_label() -> None:
    model, x = a_flow(Label(("a", "b", "c")))
    labels = torch.arange(12) % 3
    still = torch.zeros(16)
    assert torch.equal(add(model, x, still, (1.0, 2.0), labels)[:, 1], x)
