"""PixelCNN: what it reads, that it is a distribution, that a walk is the full pass, and what edits keep."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.kinds import Grid, Label
from genus.models.autoregressive import _masked
from genus.models.autoregressive.pixelcnn import PixelCNN
from genus.prob import noise
from genus.testing.checks._common import AlienDomain
from genus.testing.oracles import check_causal
from genus.testing.statistics import CheckError

LABEL = Label(("a", "b"))
GREY, RGB = Grid(1, (5, 6), 2), Grid(3, (3, 3), 3)


def build(domain: Grid, condition: Label | None = None, features: int = 6) -> PixelCNN:
    """A model with weights so large that what is read shows."""
    model = PixelCNN(domain, condition, features=features, blocks=2, first=5)
    for name, parameter in model.named_parameters():
        parameter.data = 0.2 * noise.normal(tuple(parameter.shape), noise.stream(name))
    return model


def data(domain: Grid, count: int = 3) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("x")).to(domain.dtype)


def assert_causal(model: PixelCNN) -> None:
    """Bit for bit; data and logits are turned so that the model's order runs along the axes."""

    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.logits(x.permute(0, 3, 1, 2)).permute(0, 3, 4, 1, 2).flatten(1, 3)

    check_causal(function, data(model.domain).permute(0, 2, 3, 1).contiguous(), model.domain.levels)


@pytest.mark.parametrize("domain", [GREY, RGB, Grid(2, (1, 4), 2), Grid(1, (4, 1), 5)], ids=str)
@pytest.mark.parametrize("features", [6, 7])  # 7: groups of unequal size
def test_an_entry_sees_only_those_before_it(domain: Grid, features: int) -> None:
    assert_causal(build(domain, features=features))


def leak_at_the_centre(model: PixelCNN) -> None:
    model.first.mask[:, :, -1, 2] = 1


def leak_to_the_right(model: PixelCNN) -> None:
    model.blocks[0].conv.mask[:, :, -1, 2] = 1


def mix_the_groups(model: PixelCNN) -> None:
    """Outputs in blocks, inputs taken in turn: the mistake of many ports."""
    own = _masked.group_mask(torch.arange(6) % 3, _masked.groups_of(6, 3))
    model.blocks[0].conv.mask[:, :, -1, 1] = own.float()


@pytest.mark.parametrize("break_it", [leak_at_the_centre, leak_to_the_right, mix_the_groups])
def test_a_leak_is_noticed(break_it: Callable[[PixelCNN], None]) -> None:
    model = build(RGB)
    break_it(model)
    with pytest.raises(CheckError, match="moves the output"):
        assert_causal(model)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [Grid(1, (3, 3), 2), Grid(2, (2, 1), 3), Grid(1, (2, 3), 3)], ids=str)
def test_probabilities_of_all_states_sum_to_one(every_state, domain, dtype, tolerance) -> None:
    x = every_state(domain)
    model, conditional = build(domain).to(dtype), build(domain, LABEL).to(dtype)
    with torch.no_grad():
        distributions = [model.log_prob(x)] + [
            conditional.log_prob(x, condition=torch.full((len(x),), k)) for k in range(2)
        ]
    assert all(abs(distribution.double().exp().sum().item() - 1) < tolerance for distribution in distributions)
    assert (distributions[1].exp() - distributions[2].exp()).abs().sum() > 0.01  # the label changes the distribution


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [Grid(1, (5, 7), 2), RGB, Grid(2, (1, 5), 4), Grid(1, (5, 1), 2)], ids=str)
@pytest.mark.parametrize("condition", [None, LABEL], ids=["", "labels"])
def test_a_walk_gives_the_logits_of_the_full_pass(domain, condition, dtype, tolerance) -> None:
    """Not bit for bit: a matrix product of one position sums in another order than a convolution does."""
    model, x = build(domain, condition).to(dtype), data(domain)
    labels = None if condition is None else torch.tensor([0, 1, 1])
    with torch.no_grad():
        full = model.logits(x, labels)
    stepwise = torch.full_like(full, torch.nan)

    def choose(logits: Tensor, channel: int, row: int, column: int) -> Tensor:
        stepwise[:, channel, :, row, column] = logits
        return x[:, channel, row, column]

    assert torch.equal(model.walk(3, labels, choose), x)
    torch.testing.assert_close(stepwise, full, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("domain", [Grid(1, (2, 2), 2), Grid(2, (1, 2), 2)], ids=str)
def test_samples_follow_log_prob(every_state, z_scores, domain: Grid) -> None:
    model, count, x = build(domain, LABEL), 20_000, every_state(domain)
    for label in range(2):
        draws = model.sample(count, condition=torch.full((count,), label), generator=noise.stream("draw", label))
        with torch.no_grad():
            z = z_scores(domain, draws, model.log_prob(x, condition=torch.full((len(x),), label)))
        assert len(z) > 3 and z.abs().max() < 4.5


@pytest.mark.parametrize("domain", [GREY, RGB], ids=str)
def test_an_edit_keeps_any_part(domain: Grid) -> None:
    model, x = build(domain), data(domain, 8)
    keep = noise.uniform(tuple(x.shape), noise.stream("keep")) < 0.5
    edited = model.edit(x, keep, generator=noise.stream("edit"))
    assert torch.equal(edited[keep], x[keep]) and not torch.equal(edited, x)
    sampled = model.sample(8, generator=noise.stream("same"))
    assert torch.equal(model.edit(x, torch.zeros_like(keep), generator=noise.stream("same")), sampled)


def test_the_blind_spot_is_there() -> None:
    """Two rows up and three to the right: before the entry in raster order, and never read."""
    model = PixelCNN(Grid(1, (6, 7), 2), features=4, blocks=5, first=3).double()
    planes = model.planes(data(model.domain, 1)).requires_grad_()
    model.full_pass(planes, None)[0, 0, 5, 3].backward()
    assert planes.grad is not None
    assert planes.grad[0, 0, 3, 2] != 0 and planes.grad[0, 0, 3, 6] == 0


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"grids of two axes"):
        PixelCNN(Grid(1, (4,), 2))
    with pytest.raises(ValueError, match=r"features: .* at least 3; got 2"):
        PixelCNN(RGB, features=2)
    with pytest.raises(ValueError, match=r"blocks: expected at least 1"):
        PixelCNN(RGB, blocks=0)
    with pytest.raises(ValueError, match=r"first: expected an odd size"):
        PixelCNN(RGB, first=4)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        PixelCNN(RGB, AlienDomain())
