import numpy as np
import pytest

from genus.evaluate.fidelity import compare, density_coverage, frechet, kernel_distance, precision_recall


def features(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * scale + shift


def test_frechet_is_symmetric() -> None:
    a, b = features(200, 6, 1), features(200, 6, 2, 0.5)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-9)


def test_frechet_of_known_gaussians() -> None:
    """Whitened data with exact moments: N(0, I) against N(m, 4 I) is |m|² + D."""
    x = features(500, 4, 3)
    x = np.linalg.solve(np.linalg.cholesky(np.cov(x, rowvar=False)), (x - x.mean(0)).T).T
    assert frechet(x, 2 * x + [3, 0, 0, 0]) == pytest.approx(9 + 4, rel=1e-9)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_with_a_singular_covariance() -> None:
    """Fewer items than features: compared with the nuclear norm of the product of the centred data."""
    a, b = features(10, 30, 4), features(10, 30, 5)
    u, v = a - a.mean(0), b - b.mean(0)
    cross = np.linalg.svd(u @ v.T, compute_uv=False).sum() / 9
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + (u**2).sum() / 9 + (v**2).sum() / 9 - 2 * cross
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)


def test_blocks_change_the_error_of_the_kernel_distance_alone() -> None:
    a, b = features(23, 5, 6), features(23, 5, 7, 0.3)
    (value, error), (again, other) = kernel_distance(a, b), kernel_distance(a, b, seed=1)
    assert value == pytest.approx(again) and error != other
    assert error is not None and error > 0


def test_kernel_distance_is_unbiased_and_its_error_is_right() -> None:
    """Two hundred pairs of different distributions: the spread of the values is what the errors say."""
    rng = np.random.default_rng(8)
    results = [kernel_distance(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) + 0.5) for _ in range(200)]
    values, errors = np.array(results).T
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.3)
    null = [kernel_distance(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)))[0] for _ in range(200)]
    assert abs(np.mean(null)) < 4 * np.std(null) / np.sqrt(200)


def test_a_dropped_mode_lowers_recall_and_coverage_but_not_precision() -> None:
    rng = np.random.default_rng(11)
    real = np.concatenate([rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) + 50])
    fake = rng.normal(size=(200, 2))
    precision, recall = precision_recall(real, fake)
    _, coverage = density_coverage(real, fake)
    assert precision > 0.9 and recall < 0.6 and coverage < 0.55


@pytest.mark.parametrize("metric", [frechet, kernel_distance, precision_recall, density_coverage, compare])
def test_unequal_sizes_and_bad_values_are_refused(metric) -> None:
    a = features(20, 3, 12)
    with pytest.raises(ValueError, match="one shape"):
        metric(a, a[:19])
    with pytest.raises(ValueError, match="finite"):
        metric(a, np.where(a > 1, np.nan, a))
    with pytest.raises(ValueError, match="at least"):
        metric(a[:1], a[:1])
