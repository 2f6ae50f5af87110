"""Splines that are monotone, smooth at their knots and the identity outside; flows made of them."""

import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.kinds import Label, Vectors
from genus.models.flow._spline import Spline
from genus.models.flow.spline_flow import SplineFlow
from genus.prob import noise

LABELS = Label(("a", "b", "c"))
SPLINES = [Spline(8, 3.0), Spline(2, 1.0), Spline(30, 12.0)]


class Table:
    """A split that holds its data in memory."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index])


def wild(spline: Spline, key: int = 0, scale: float = 2.0) -> Tensor:
    """The parameters of one map, in float64: ``(size, 1, 1)``."""
    return scale * noise.normal((spline.size, 1, 1), noise.stream("wild", key)).double()


def at(spline: Spline, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """One map at many places."""
    z, log_slope = spline(x[None], raw.expand(-1, 1, len(x)))
    return z[0], log_slope[0]


def back(spline: Spline, z: Tensor, raw: Tensor) -> Tensor:
    return spline.inverse(z[None], raw.expand(-1, 1, len(z)))[0]


def line(spline: Spline, count: int = 4001) -> Tensor:
    return torch.linspace(-1.5 * spline.bound, 1.5 * spline.bound, count, dtype=torch.float64)


def knots(spline: Spline, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inner knots (x, z) and slopes, worked out from the paper's words rather than from the code."""
    sizes = raw[: 2 * spline.bins, 0, 0].view(2, -1).softmax(-1) * (1 - spline.bins * 1e-3) + 1e-3
    places = 2 * spline.bound * sizes.cumsum(-1)[:, :-1] - spline.bound
    return (
        places[0],
        places[1],
        torch.nn.functional.softplus(raw[2 * spline.bins :, 0, 0] + math.log(math.expm1(0.999))) + 1e-3,
    )


@pytest.mark.parametrize("spline", SPLINES, ids=lambda s: f"{s.bins} bins")
def test_it_passes_through_its_knots_with_their_slopes(spline: Spline) -> None:
    raw = wild(spline)
    x, z, slopes = knots(spline, raw)
    for side in (-1e-9, 1e-9):  # from the left and from the right: value and slope have no break
        found, log_slope = at(spline, x + side, raw)
        torch.testing.assert_close(found, z, rtol=0, atol=1e-7)
        torch.testing.assert_close(log_slope.exp(), slopes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spline", SPLINES, ids=lambda s: f"{s.bins} bins")
@pytest.mark.parametrize("key", range(3))
def test_it_is_monotone_onto_and_smooth_up_to_its_ends(spline: Spline, key: int) -> None:
    raw, x = wild(spline, key), line(spline)
    z, log_slope = at(spline, x, raw)
    assert (z.diff() > 0).all() and log_slope.isfinite().all()
    inside = x.abs() < spline.bound
    assert torch.equal(z[~inside], x[~inside]) and (log_slope[~inside] == 0).all()
    assert z[inside].abs().max() <= spline.bound and (z - x)[inside].abs().max() > 0.01 * spline.bound
    ends = torch.tensor([-spline.bound, spline.bound], dtype=torch.float64) * (1 - 1e-9)
    close, slope = at(spline, ends, raw)
    torch.testing.assert_close(close, ends, rtol=0, atol=1e-5)
    torch.testing.assert_close(slope, torch.zeros(2).double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("spline", SPLINES, ids=lambda s: f"{s.bins} bins")
def test_its_slope_is_that_of_autograd(spline: Spline) -> None:
    raw, x = wild(spline), line(spline, 997).requires_grad_()
    z, log_slope = at(spline, x, raw)
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(slope.log(), log_slope, rtol=0, atol=1e-9)


def test_gradients_of_parameters_are_those_of_differences() -> None:
    spline = Spline(4, 3.0)
    raw = wild(spline).expand(-1, 1, 40).clone().requires_grad_()
    x = torch.linspace(-3.7, 3.7, 40, dtype=torch.float64)[None].requires_grad_()
    assert torch.autograd.gradcheck(spline, (x, raw))


@pytest.mark.parametrize("spline", SPLINES, ids=lambda s: f"{s.bins} bins")
@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=str)
def test_it_is_undone(spline: Spline, dtype: torch.dtype, largest: float) -> None:
    raw, x = wild(spline, scale=1.0).to(dtype), line(spline).to(dtype)
    error = back(spline, at(spline, x, raw)[0], raw) - x
    assert error.abs().max() < largest * spline.bound


def test_zero_parameters_are_the_identity() -> None:
    spline = Spline(8, 3.0)
    z, log_slope = at(spline, line(spline), 0 * wild(spline))
    torch.testing.assert_close(z, line(spline), rtol=0, atol=1e-12)
    assert log_slope.abs().max() < 1e-12


def test_unnormalised_widths_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    spline = Spline(8, 3.0)
    ends = torch.tensor([-3.0, 3.0], dtype=torch.float64) * (1 - 1e-9)
    assert (at(spline, ends, wild(spline))[0] - ends).abs().max() < 1e-5
    monkeypatch.setattr(Tensor, "softmax", lambda logits, axis: logits.sigmoid())
    assert (at(spline, ends, wild(spline))[0] - ends).abs().max() > 0.1


def awake(
    features: int, condition: Label | None = None, autoregressive: bool = False, spread: float = 0.3
) -> SplineFlow:
    """A model that is not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SplineFlow(
            Vectors(features), condition, layers=3, hidden=16, bins=5, bound=4.0, autoregressive=autoregressive
        )
    with torch.no_grad():
        for number, p in enumerate(model.parameters()):
            p.add_(spread * noise.normal(tuple(p.shape), noise.stream("shake", number)))
    return model


def rows(count: int, features: int, key: int | str = "rows") -> Tensor:
    return noise.normal((count, features), noise.stream(key))


@pytest.mark.parametrize("autoregressive", [False, True])
@pytest.mark.parametrize("features", [2, 3, 8])
def test_log_det_is_that_of_the_jacobian(features: int, autoregressive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = awake(features, LABELS, autoregressive).double()
    x, label = rows(1, features, 1).double(), model.read_condition(torch.tensor([2]))

    def gap() -> float:
        jacobian = torch.autograd.functional.jacobian(lambda v: model.flow(v, label)[0], x)[0, :, 0]
        return float(model.flow(x, label)[1][0].detach() - torch.linalg.slogdet(jacobian).logabsdet)

    assert abs(gap()) < 1e-7
    forward = Spline.__call__

    def wrong_sign(self: Spline, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        z, log_slope = forward(self, x, raw)
        return z, -log_slope

    monkeypatch.setattr(Spline, "__call__", wrong_sign)
    assert abs(gap()) > 0.1


@pytest.mark.parametrize("autoregressive", [False, True])
@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=str)
def test_rows_come_back_from_the_middle_and_from_the_tails(
    autoregressive: bool, dtype: torch.dtype, largest: float
) -> None:
    model = awake(7, LABELS, autoregressive, spread=0.05).to(dtype)
    x, label = 3 * rows(60, 7).to(dtype), torch.arange(60) % 3
    assert (x.abs() > 4).any()
    z = model.encode(x, condition=label)
    assert (z - x).abs().max() > 0.1
    assert (model.decode(z, condition=label) - x).abs().max() < largest


@pytest.mark.parametrize("autoregressive", [False, True])
def test_density_integrates_to_one_in_the_units_of_the_data(autoregressive: bool) -> None:
    model = awake(2, autoregressive=autoregressive, spread=0.1)
    model.initialise(Table(100 + 30 * rows(1000, 2) * torch.tensor([1.0, 0.1])))
    axis = (torch.arange(450) + 0.5) / 450 * 12 - 6  # beyond ± 4 it is the normal distribution itself
    unit = model.flow.standardise.std
    places = torch.cartesian_prod(axis, axis) * unit + model.flow.standardise.mean
    with torch.no_grad():
        total = model.log_prob(places).double().exp().sum() * (12 / 450) ** 2 * unit.prod()
    assert model.likelihood is Likelihood.EXACT
    assert abs(total - 1) < 0.01


@pytest.mark.parametrize("autoregressive", [False, True])
def test_far_tails_are_those_of_the_normal_law(autoregressive: bool) -> None:
    model = awake(2, autoregressive=autoregressive)
    x = torch.tensor([[9.0, -7.0], [-1e3, 30.0]])
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(model.log_prob(x).detach(), expected)


def test_training_finds_two_blobs_where_a_gaussian_cannot() -> None:
    x = 0.2 * rows(2000, 2) + torch.where(torch.arange(2000) % 2 == 0, 1.0, -1.0)[:, None] * torch.tensor([10.0, 1.0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SplineFlow(Vectors(2), layers=4, hidden=16)
    model.initialise(Table(x))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(400):  # after 150 some processors are not there yet
        batch = Batch(x[noise.integers(2000, (128,), noise.stream(step))])
        optimizer.zero_grad()
        model.losses(batch)["loss"].mean().backward()
        optimizer.step()
    after = model.losses(Batch(x))["loss"].mean().item()
    entropy = 0.6931 + 2.8379 + 2 * torch.tensor(0.2).log().item()
    gaussian = 2.8379 + 0.5 * torch.cov(x.T).logdet().item()
    assert gaussian > entropy + 1.5
    assert entropy - 0.05 < after < entropy + 0.6


def test_bad_settings_are_named() -> None:
    for settings, says in (
        ({"layers": 1}, "layers"),
        ({"bins": 1}, "bins"),
        ({"bins": 600}, "bins"),
        ({"bound": 0.0}, "bound"),
        ({"hidden": 0}, "hidden"),
        ({"blocks": 0, "autoregressive": True}, "blocks"),
    ):
        with pytest.raises(ValueError, match=says):
            SplineFlow(Vectors(3), **settings)
    with pytest.raises(ValueError, match="needs two"):
        SplineFlow(Vectors(1))
    assert SplineFlow(Vectors(2), layers=1, autoregressive=True).num_parameters
