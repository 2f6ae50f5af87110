"""Real data against other real data score what theory says, and what does not come from them does not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.data import DataOptions, open_source
from genus.data.source import Source
from genus.evaluate.features import features_of
from genus.evaluate.fidelity import compare, density_coverage, frechet, kernel_distance, perfect_coverage
from genus.evaluate.memorisation import CLEAR, COPIES, CopyTest, verdict
from genus.evaluate.score import Row
from genus.evaluate.shapes import _set_metrics, _symmetric, emd_matrix, perfect_1nna
from genus.geometry.clouds import chamfer_matrix
from genus.prob import noise


def items(source: Source, count: int) -> tuple[Tensor, Tensor]:
    """Of the training and of the test split."""
    return tuple(split.batch(torch.arange(count)).x for split in (source.train, source.test))  # type: ignore[return-value]


def z(value: float, drawn: list[float]) -> float:
    """How far a value lies from those of random splits of the same items."""
    return (value - np.mean(drawn)) / np.std(drawn, ddof=1)


def permuted(a: np.ndarray, b: np.ndarray, times: int) -> list[dict[str, float]]:
    """The numbers of random splits of both sets together: what two sets of one distribution score."""
    both, rng = np.concatenate([a, b]), np.random.default_rng(0)
    orders = [rng.permutation(len(both)) for _ in range(times)]
    return [values(both[order[: len(a)]], both[order[len(a) :]]) for order in orders]


def values(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    density, coverage = density_coverage(a, b)
    return {"frechet": frechet(a, b), "kernel": kernel_distance(a, b)[0], "density": density, "coverage": coverage}


@pytest.mark.parametrize("times", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_digits_against_digits(times: int) -> None:
    source = open_source("digits")
    features = features_of(source)
    train, test = (features.extract(x) for x in items(source, 300))
    drawn = permuted(train, test, times)
    for name, value in values(train, test).items():
        assert abs(z(value, [d[name] for d in drawn])) < 4, name
    # over random splits, unbiased numbers have exactly known means
    for name, expected in {"kernel": 0.0, "density": 1.0, "coverage": perfect_coverage(300)}.items():
        found = [d[name] for d in drawn]
        assert abs(np.mean(found) - expected) < 4 * np.std(found, ddof=1) / np.sqrt(times), name
    uniform = features.extract(noise.integers(17, (300, 1, 8, 8), noise.stream("u")).to(torch.uint8))
    for name, value in values(uniform, test).items():
        assert abs(z(value, [d[name] for d in drawn])) > 10, name


def test_the_row_of_training_items_is_within_its_errors() -> None:
    source = open_source("digits")
    features = features_of(source)
    found = compare(*(features.extract(x) for x in items(source, 400)))
    for name, expected in {"kernel distance": 0.0, "density": 1.0, "coverage": perfect_coverage(400)}.items():
        assert abs(found[name].value - expected) < 4 * (found[name].stderr or 0), name
    assert found["precision"].value > 0.8 and found["recall"].value > 0.8


def cloud_numbers(distances: Tensor, order: Tensor) -> dict[str, float]:
    """MMD, COV and 1-NNA when the first half of the order is called generated."""
    a, b = order.chunk(2)
    return _set_metrics(*(distances[i][:, j] for i, j in ((a, a), (a, b), (b, b))))


@pytest.mark.parametrize("distance", [chamfer_matrix, emd_matrix])
def test_furniture_against_furniture(distance) -> None:
    source = open_source("furniture", DataOptions(limit=80))
    train, test = items(source, 40)
    both = torch.cat([train, test])[:, :32]
    distances = _symmetric(both, distance)
    drawn = [cloud_numbers(distances, noise.permutation(80, noise.stream("split", n))) for n in range(200)]
    for name, value in cloud_numbers(distances, torch.arange(80)).items():
        assert abs(z(value, [d[name] for d in drawn])) < 4, name
    found = [d["1-NNA"] for d in drawn]
    assert abs(np.mean(found) - perfect_1nna(40)) < 4 * np.std(found, ddof=1) / np.sqrt(200)
    moved = _symmetric(torch.cat([both[:40] + 0.2, both[40:]]), distance)
    assert z(cloud_numbers(moved, torch.arange(80))["1-NNA"], found) > 4


@pytest.mark.parametrize(("name", "count", "limit"), [("digits", 300, None), ("furniture", 40, 160)])
def test_a_planted_copy_is_flagged_and_real_test_data_are_not(name: str, count: int, limit: int | None) -> None:
    source = open_source(name, DataOptions(limit=limit) if limit else DataOptions())
    unseen = source.validation.batch(torch.arange(min(count, len(source.validation)))).x
    train, test = items(source, min(count, len(source.test)))
    judge = CopyTest(unseen, source.train, source.domain)
    cut = round(0.9 * len(test))
    planted = torch.cat([train[:cut], test[cut:]])
    said = [verdict(Row("x", "real", tuple(judge(judge.search(x))))) for x in (planted, test)]
    assert said == [COPIES, CLEAR]


def test_perfect_values_are_those_of_many_draws() -> None:
    rng = np.random.default_rng(1)
    found = np.array([density_coverage(rng.normal(size=(40, 2)), rng.normal(size=(40, 2))) for _ in range(300)])
    error = found.std(0, ddof=1) / np.sqrt(300)
    assert (abs(found.mean(0) - [1, perfect_coverage(40)]) < 4 * error).all()
    assert abs(found[:, 1].mean() - perfect_coverage(40, 4)) > 10 * error[1]  # k off by one
