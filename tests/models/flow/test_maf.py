"""MAF: masks that do not leak, a determinant that is right, and samples that cost one pass."""

import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.kinds import Domain, Grid, Label, Vectors
from genus.models.flow._autoregressive import MaskedMLP
from genus.models.flow._tabular import Affine, FlowSteps
from genus.models.flow.maf import MAF
from genus.nn.condition import NOTHING, ConditionEncoder, Encoded
from genus.prob import noise
from genus.testing.checks._common import AlienDomain

LABELS = Label(("a", "b", "c"))
CONTEXTS = (NOTHING, ConditionEncoder(LABELS).context)


class Table:
    """A split that holds its data in memory."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index])


def shake(module: torch.nn.Module, spread: float) -> None:
    with torch.no_grad():
        for number, p in enumerate(module.parameters()):
            p.add_(spread * noise.normal(tuple(p.shape), noise.stream("shake", number)))


def awake(features: int, condition: Label | None = None, spread: float = 0.3, **settings: int) -> MAF:
    """A model that is not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MAF(Vectors(features), condition, **{"layers": 3, "hidden": 16, **settings})
    shake(model, spread)
    return model


def rows(count: int, features: int, key: int | str = "rows") -> Tensor:
    return noise.normal((count, features), noise.stream(key))


def leaks(network: MaskedMLP, label: int | None) -> list[tuple[int, int]]:
    """(output, column) wherever an output of column i depends on column j >= i."""
    return [(i, j) for i, j in influence(network, label).nonzero().tolist() if j >= i]


def given(label: int | None, count: int) -> Encoded | None:
    """A label of each row, as a model reads it."""
    return None if label is None else ConditionEncoder(LABELS).double()(torch.full((count,), label))


def influence(network: MaskedMLP, label: int | None) -> Tensor:
    """How strongly the outputs of column i depend on column j, at most: ``(D, D)``."""
    x = rows(20, network.features).double()
    jacobian = torch.autograd.functional.jacobian(lambda v: network.double()(v.t(), given(label, 20)).sum(1), x)
    return jacobian.view(network.size, network.features, 20, network.features).abs().amax((0, 2))


@pytest.mark.parametrize("features", [1, 2, 5, 8])
@pytest.mark.parametrize("label", [None, 1])
def test_no_output_sees_its_own_column_or_a_later_one(features: int, label: int | None) -> None:
    network = MaskedMLP(features, 2, hidden=16, depth=3, context=CONTEXTS[label is not None])
    shake(network, 0.5)
    assert leaks(network, label) == []
    for layer in (*network.layers, network.last):  # mutants: the cut connections of one layer are mended
        mask = layer.mask.clone()
        layer.mask.fill_(1)
        assert bool(leaks(network, label)) == bool((mask == 0).any())
        layer.mask.copy_(mask)


def test_every_earlier_column_and_the_label_are_seen() -> None:
    network = MaskedMLP(6, 1, hidden=32, depth=2, context=CONTEXTS[1]).double()
    shake(network, 0.5)
    x = rows(1, 6).double().t()
    assert torch.equal(influence(network, 0) > 0, torch.ones(6, 6).tril(-1).bool())
    assert (network(x, given(0, 1)) != network(x, given(1, 1))).all()  # the first column too


@pytest.mark.parametrize(("features", "hidden"), [(2, 16), (5, 3), (9, 40)])
@pytest.mark.parametrize("label", [None, 2])
def test_column_by_column_is_the_whole_pass(features: int, hidden: int, label: int | None) -> None:
    network = MaskedMLP(features, 3, hidden=hidden, depth=3, context=CONTEXTS[label is not None]).double()
    shake(network, 0.5)
    x, read = rows(7, features).double(), given(label, 7)
    whole = network(x.t(), read).view(3, features, 7)
    seen = []

    def fill(i: int, outputs: Tensor) -> Tensor:
        seen.append(outputs[:, 0])
        return x.t()[i : i + 1]

    with torch.no_grad():
        back = network.in_turn(fill, 7, read)
    assert torch.equal(back, x.t())
    torch.testing.assert_close(torch.stack(seen, 1), whole.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("features", [2, 3, 8])
def test_log_det_is_that_of_the_jacobian(features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = awake(features, LABELS).double()
    model.initialise(Table(4 + 3 * rows(100, features).double()))
    x, label = 4 + 3 * rows(1, features, 1).double(), model.read_condition(torch.tensor([2]))

    def gap() -> float:
        jacobian = torch.autograd.functional.jacobian(lambda v: model.flow(v, label)[0], x)[0, :, 0]
        return float(model.flow(x, label)[1][0].detach() - torch.linalg.slogdet(jacobian).logabsdet)

    assert abs(gap()) < 1e-9
    forward = Affine.__call__

    def wrong_sign(self: Affine, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        z, log_slope = forward(self, x, raw)
        return z, -log_slope

    monkeypatch.setattr(Affine, "__call__", wrong_sign)
    assert abs(gap()) > 0.1


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=str)
@pytest.mark.parametrize("features", [2, 7, 63])
def test_rows_come_back(features: int, dtype: torch.dtype, largest: float) -> None:
    model = awake(features, LABELS, spread=0.05, hidden=64).to(dtype)
    x, label = rows(50, features).to(dtype), torch.arange(50) % 3
    z = model.encode(x, condition=label)
    assert (z - x).abs().max() > 0.1
    assert (model.decode(z, condition=label) - x).abs().max() < largest


def test_one_step_is_a_chain_of_gaussians() -> None:
    model = awake(3, layers=1).double()
    shake_free = rows(4, 3).double()
    shift, log_scale = model.flow.steps[0].network(shake_free.t(), None).view(2, 3, 4).mT
    scale = (-log_scale.atan()).exp()
    normal = torch.distributions.Normal(-shift * scale, scale)
    torch.testing.assert_close(model.log_prob(shake_free), normal.log_prob(shake_free).sum(1))


def test_density_integrates_to_one_in_the_units_of_the_data() -> None:
    model = awake(2)
    model.initialise(Table(100 + 30 * rows(1000, 2) @ torch.tensor([[1.0, 0.2], [0.0, 0.1]])))
    samples = model.sample(5000, generator=noise.stream("box"))
    low, high = samples.amin(0), samples.amax(0)
    low, step = low - (high - low) / 2, 2 * (high - low) / 800
    axis = torch.arange(800) + 0.5
    with torch.no_grad():
        total = model.log_prob(torch.cartesian_prod(axis, axis) * step + low).double().exp().sum() * step.prod()
    assert model.likelihood is Likelihood.EXACT
    assert abs(total - 1) < 0.01


def test_scales_are_bounded_but_free_near_zero() -> None:
    raw = torch.stack([torch.zeros(5), torch.tensor([-1e9, -1e-3, 0.0, 1e-3, 1e9])]).unsqueeze(-1)
    _, log_slope = Affine()(torch.ones(5, 1), raw)
    expected = torch.tensor([-math.pi / 2, -1e-3, 0.0, 1e-3, math.pi / 2])
    torch.testing.assert_close(log_slope[:, 0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("features", [2, 3, 4, 9])
def test_columns_are_reordered_and_two_steps_in_a_row_have_other_second_halves(features: int) -> None:
    steps = FlowSteps(features, [torch.nn.Identity() for _ in range(6)])
    place = torch.arange(features)
    moved = []
    for order in steps.orders:
        assert sorted(order.tolist()) == list(range(features))
        place = place[order]
        moved.append(set(place[features // 2 :].tolist()))
    for k in (0, 2, 4):
        assert moved[k] | moved[k + 1] == set(range(features))
    assert features < 4 or len({frozenset(m) for m in moved}) > 2


def test_training_finds_a_gaussian() -> None:
    mix = torch.tensor([[2.0, 0.0, 0.0], [3.0, 0.5, 0.0], [0.0, -1.0, 1.0]])
    x = rows(4000, 3) @ mix.T + 50
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MAF(Vectors(3), layers=2, hidden=16)
    model.initialise(Table(x))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(300):
        batch = Batch(x[noise.integers(4000, (256,), noise.stream(step))])
        optimizer.zero_grad()
        model.losses(batch)["loss"].mean().backward()
        optimizer.step()
    entropy = 1.5 * (1 + math.log(2 * math.pi)) + math.log(2.0 * 0.5 * 1.0)
    assert abs(model.losses(Batch(x))["loss"].mean().item() - entropy) < 0.15
    samples = model.sample(4000, generator=noise.stream("drawn"))
    torch.testing.assert_close(torch.cov(samples.T), mix @ mix.T, rtol=0.15, atol=0.4)


def test_the_flow_keeps_its_precision_when_the_networks_lose_theirs() -> None:
    model = awake(5, LABELS, spread=0.1)
    x, label = rows(6, 5), model.read_condition(torch.arange(6) % 3)
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = model.flow(x, label)
        back = model.flow.inverse(z, label)
    assert z.dtype == log_det.dtype == back.dtype == torch.float32
    assert (back - x).abs().max() < 0.1


@pytest.mark.parametrize(("domain", "says"), [(Vectors(1), "needs two"), (Grid(1, (2, 2)), "models vectors")], ids=str)
def test_refuses_with_a_reason(domain: Domain, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MAF(domain)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="is conditioned on labels"):
        MAF(Vectors(3), AlienDomain())
    with pytest.raises(ValueError, match="layers, hidden and depth"):
        MAF(Vectors(3), depth=0)
    model = MAF.tiny(Vectors(3))
    with pytest.raises(ValueError, match="expected latents"):
        model.decode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="temperature"):
        model.sample(2, temperature=-1.0)
    cold = model.sample(4, temperature=0.0)
    assert torch.equal(cold, cold[:1].expand(4, -1))
