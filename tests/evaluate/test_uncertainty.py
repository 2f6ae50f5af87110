"""Standard errors beside the scatter over many draws of a known distribution."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from genus.evaluate.fidelity import compare
from genus.evaluate.memorisation import _ratio
from genus.evaluate.shapes import jsd, set_metrics
from genus.evaluate.uncertainty import halves, spread

Draw = Callable[[np.random.Generator], dict[str, tuple[float, float]]]


def gaussians(rng: np.random.Generator, count: int = 120, size: int = 3) -> dict[str, tuple[float, float]]:
    """All feature metrics of N(0, 1) against N(0.4, 0.8²)."""
    found = compare(rng.normal(size=(count, size)), 0.4 + 0.8 * rng.normal(size=(count, size)))
    return {name: (part.value, part.stderr or math.nan) for name, part in found.items()}


def clouds(rng: np.random.Generator, count: int = 40) -> dict[str, tuple[float, float]]:
    """All metrics of sets of balls of two distributions of size; the JSD in one frame for all draws."""
    sets = [
        torch.tensor(rng.normal(size=(count, 12, 3)) * 0.2 * rng.uniform(low, 1, size=(count, 1, 1)))
        for low in (0.4, 0.6)
    ]
    return {
        score.name: (score.value, score.stderr or math.nan)
        for score in [*set_metrics(*sets), jsd(*sets, compat="luo2021")]
    }


def medians(rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    value, error = _ratio(rng.gamma(3, size=200), rng.gamma(4, size=150), 0)
    return {"ratio": (value, error or math.nan)}


def check(draw: Draw, times: int, low: float, high: float, cover: float) -> None:
    """The mean error is between ``low`` and ``high`` times the true scatter, and the mean lies within two
    errors in a share ``cover`` of all draws."""
    rng = np.random.default_rng(0)
    results = [draw(rng) for _ in range(times)]
    for name in results[0]:
        values, errors = np.array([result[name] for result in results]).T
        assert low < np.sqrt((errors**2).mean()) / values.std() < high, name
        assert (abs(values - values.mean()) < 2.09 * errors).mean() >= cover, name  # t of 19 halves


@pytest.mark.parametrize("draw", [gaussians, medians], ids=lambda draw: draw.__name__)
def test_errors_are_the_scatter_of_fresh_draws(draw: Draw) -> None:
    check(draw, 60, 0.75, 1.9, 0.85)


def test_errors_of_sets_of_clouds_are_the_scatter_of_fresh_draws() -> None:
    check(lambda rng: clouds(rng, 24), 25, 0.6, 2.2, 0.8)


@pytest.mark.slow
@pytest.mark.parametrize("draw", [gaussians, clouds, medians], ids=lambda draw: draw.__name__)
def test_errors_are_the_scatter_of_many_fresh_draws(draw: Draw) -> None:
    check(draw, 400, 0.9, 1.65, 0.9)


def test_too_small_an_error_is_noticed() -> None:
    with pytest.raises(AssertionError, match="Fréchet"):
        check(lambda rng: {name: (v, e / 2) for name, (v, e) in gaussians(rng).items()}, 60, 0.75, 1.9, 0.85)


@pytest.mark.parametrize("times", [30, pytest.param(400, marks=pytest.mark.slow)])
def test_intervals_hold_the_true_frechet_distance(times: int) -> None:
    """N(0, I) against N(m, 0.8² I) in two dimensions: |m|² + 2 (1 - 0.8)². With 600 items the bias is small."""
    rng, truth, inside = np.random.default_rng(1), 0.5**2 + 2 * 0.2**2, 0
    for _ in range(times):
        shift = np.array([0.5, 0.0])
        part = compare(rng.normal(size=(600, 2)), shift + 0.8 * rng.normal(size=(600, 2)))["Fréchet distance"]
        inside += abs(part.value - truth) < 2.09 * (part.stderr or 0)
    assert 0.95 - 4 * math.sqrt(0.95 * 0.05 / times) < inside / times


def test_halves_give_the_error_of_a_mean() -> None:
    x = np.random.default_rng(2).normal(size=400)
    errors = [spread([x[half].mean() for half in halves(400, seed)], 400) for seed in range(100)]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(x.std() / 20, rel=0.06)
    odd = [spread([x[:21][half].mean() for half in halves(21, seed)], 21) for seed in range(200)]
    assert np.sqrt(np.mean(np.square(odd))) == pytest.approx(x[:21].std(ddof=1) / math.sqrt(21), rel=0.08)
    half = next(iter(halves(21, 0)))
    assert len(half) == 10 and len(set(half)) == 10 and (np.diff(half) > 0).all()


def test_a_bootstrap_would_shift_what_rests_on_neighbours() -> None:
    """Why halves: doubled items have neighbours at distance 0, and coverage falls far outside its error."""
    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    found = compare(real, fake)["coverage"]
    drawn = [compare(real[i], fake[i])["coverage"].value for i in rng.integers(200, size=(10, 200))]
    assert np.mean(drawn) < found.value - 4 * (found.stderr or 0)


def test_few_items_have_no_error() -> None:
    rng = np.random.default_rng(4)
    few = compare(*rng.normal(size=(2, 19, 2)))
    assert all(few[name].stderr is None for name in few if name != "kernel distance")
    assert all(part.stderr is not None for part in compare(*rng.normal(size=(2, 20, 2))).values())
