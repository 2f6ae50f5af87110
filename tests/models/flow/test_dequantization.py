"""Variational dequantization: its determinant, its bound, and what it gains on uniform noise."""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.kinds import Grid
from genus.models.flow._dequantization import UniformDequantization, VariationalDequantization
from genus.models.flow.glow import Glow
from genus.models.flow.realnvp import RealNVP
from genus.prob import noise

SHAPES = [(1, 2, 2), (1, 2, 3), (2, 2, 2), (3, 1, 2), (2, 1, 1)]


def awake(shape: tuple[int, int, int], levels: int = 3, spread: float = 0.4) -> VariationalDequantization:
    """One with random weights, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VariationalDequantization(levels, 1e-3, shape, hidden=8).double()
    generator = noise.stream("awake")
    with torch.no_grad():
        for p in model.parameters():
            p.add_(spread * noise.normal(tuple(p.shape), generator))
    return model


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_minus_log_q_is_the_log_det_of_the_jacobian(shape: tuple[int, int, int]) -> None:
    model = awake(shape)
    x = noise.integers(3, (1, *shape), noise.stream("x"))
    w = noise.uniform((1, *shape), noise.stream("w"), dtype=torch.float64)
    u, minus_log_q = model.warp(x, w)
    assert ((u > 0) & (u < 1)).all()
    for map_, log_det in ((lambda w: model.warp(x, w)[0], minus_log_q), (lambda w: model(x, w)[0], model(x, w)[1])):
        jacobian = torch.autograd.functional.jacobian(map_, w).reshape(w.numel(), -1)
        torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-9, atol=1e-9)
    assert abs(minus_log_q) > 0.1


def test_q_fills_the_whole_cell_and_depends_on_the_picture() -> None:
    model = awake((1, 1, 2), spread=0.1)
    axis = torch.linspace(-14, 14, 101, dtype=torch.float64)  # of logit w, so that the ends are well covered
    v = torch.cartesian_prod(axis, axis)
    w = v.sigmoid().view(-1, 1, 1, 2)
    slope = (w * (1 - w)).flatten(1).log().sum(1)
    found = [model.warp(torch.full(w.shape, x), w) for x in (0, 2)]
    for _, minus_log_q in found:  # the integral of |du / dw| over w is the area that u covers
        area = float((minus_log_q + slope).detach().exp().sum()) * (28 / 100) ** 2
        assert abs(area - 1) < 1e-3
    assert not torch.allclose(found[0][0], found[1][0])


def test_it_starts_as_uniform_noise() -> None:
    shape = (1, 4, 4)
    start = VariationalDequantization(17, 1e-5, shape, hidden=8)
    x, u = noise.integers(17, (5, *shape), noise.stream(0)), noise.uniform((5, *shape), noise.stream(1))
    u[0, 0, 0, 0] = 0.0  # a draw that the logit could not take
    y, log_det = start(x, u)
    expected, expected_log_det = UniformDequantization(17, 1e-5)(x, u)
    torch.testing.assert_close(y[1:], expected[1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_det[1:], expected_log_det[1:], rtol=1e-4, atol=1e-3)
    assert torch.isfinite(y).all() and torch.isfinite(log_det).all()


def biased(count: int, generator: torch.Generator) -> Tensor:
    """Pictures of two pixels that agree with probability 0.9; three pixels in four are 0."""
    first = noise.bernoulli(torch.full((count, 1, 1, 1), 0.25), generator)
    same = noise.bernoulli(torch.full((count, 1, 1, 1), 0.9), generator)
    return torch.cat([first, torch.where(same == 1, first, 1 - first)], dim=3).to(torch.uint8)


STATES = torch.tensor(list(itertools.product((0, 1), repeat=2)), dtype=torch.uint8).view(4, 1, 1, 2)
LAW = torch.tensor([0.75 * 0.9, 0.75 * 0.1, 0.25 * 0.1, 0.25 * 0.9])
ENTROPY = float(-(LAW * LAW.log()).sum())


class Few:
    """A split that holds its data in memory."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index])


def trained(model_class: type[RealNVP] | type[Glow], kind: str, steps: int) -> RealNVP | Glow:
    x = biased(2000, noise.stream("biased"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"couplings": 2} if model_class is RealNVP else {"steps_per_level": 2, "levels": 1}
        model = model_class(Grid(1, (1, 2), 2), hidden=16, alpha=0.05, dequantization=kind, **sizes)
    model.initialise(Few(x))
    assert not any(buffer.requires_grad for buffer in model.buffers())
    copy.deepcopy(model)  # training keeps a running average
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        batch = Batch(x[noise.integers(len(x), (128,), noise.stream("batch", step))])
        optimizer.zero_grad()
        model.losses(batch, noise.stream("noise", step))["loss"].mean().backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def log_weights(model: RealNVP | Glow, draws: int = 800) -> Tensor:
    """``(draws, 4)`` independent log p(y) - log q of every state."""
    many = STATES.repeat(draws, 1, 1, 1)
    return model.log_prob(many, generator=noise.stream("draws")).double().view(draws, 4)


@pytest.mark.parametrize("model_class", [RealNVP, pytest.param(Glow, marks=pytest.mark.slow)])
def test_the_learned_noise_is_a_tighter_bound_and_no_more_than_a_bound(
    model_class: type[RealNVP] | type[Glow],
) -> None:
    bounds = {}
    for kind in ("uniform", "variational"):
        model = trained(model_class, kind, 150)
        assert model.likelihood is Likelihood.BOUND
        log_w = log_weights(model)
        inside = log_w.exp().sum(1)
        assert inside.mean() < 1 + 4 * inside.std() / math.sqrt(len(inside))  # the mass that the flow gives the cells
        assert log_w.mean(0).exp().sum() <= 1  # the mass of the bound itself
        bounds[kind] = -float((LAW * log_w.mean(0)).sum())
    assert ENTROPY < bounds["variational"] < bounds["uniform"] - 0.02, (ENTROPY, bounds)


def test_without_its_own_density_the_noise_would_claim_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = VariationalDequantization.warp

    def cheat(self: VariationalDequantization, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return honest(self, x, w)[0], w.new_zeros(len(w))

    monkeypatch.setattr(VariationalDequantization, "warp", cheat)
    assert log_weights(trained(RealNVP, "variational", 100)).mean(0).exp().sum() > 1.2


def test_more_draws_of_the_learned_noise_make_the_bound_tighter() -> None:
    model = trained(RealNVP, "variational", 50)
    x = biased(1000, noise.stream("fresh"))
    with torch.no_grad():
        bounds = [model.log_prob(x, num_samples=k, generator=noise.stream(k)).mean() for k in (1, 16)]
    assert bounds[0] + 0.01 < bounds[1] <= -ENTROPY + 0.1


def test_an_unknown_kind_of_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="dequantization"):
        RealNVP(Grid(1, (2, 2)), dequantization="gaussian")  # type: ignore[arg-type]
