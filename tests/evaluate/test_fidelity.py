import numpy as np
import pytest
from scipy.linalg import sqrtm

from genus.evaluate.fidelity import density_coverage, frechet, kernel_distance, precision_recall


def features(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * scale + shift


def test_frechet_equals_the_form_with_a_matrix_root() -> None:
    a, b = features(200, 6, 1), features(200, 6, 2, 0.5)
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)
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


def test_kernel_distance_equals_the_double_sum() -> None:
    a, b = features(23, 5, 6), features(23, 5, 7, 0.3)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (x @ y / 5 + 1) ** 3

    n = len(a)
    inside = sum(k(x[i], x[j]) for x in (a, b) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(k(x, y) for x in a for y in b) / n**2
    value, error = kernel_distance(a, b)
    assert value == pytest.approx(inside - 2 * across, rel=1e-9)
    assert error is not None and error > 0
    assert kernel_distance(a, b, seed=1)[0] == pytest.approx(value)  # blocks change the error alone


def test_kernel_distance_is_unbiased_and_its_error_is_right() -> None:
    """Two hundred pairs of different laws: the spread of the values is what the errors say."""
    rng = np.random.default_rng(8)
    results = [kernel_distance(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) + 0.5) for _ in range(200)]
    values, errors = np.array(results).T
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.3)
    null = [kernel_distance(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)))[0] for _ in range(200)]
    assert abs(np.mean(null)) < 4 * np.std(null) / np.sqrt(200)


def brute_radius(x: np.ndarray, k: int) -> list[float]:
    return [sorted(np.linalg.norm(x - p, axis=1))[k] for p in x]


def test_manifold_metrics_equal_their_definitions() -> None:
    real, fake = features(40, 3, 9), features(40, 3, 10, 0.4)
    reach, fake_reach, wide = brute_radius(real, 3), brute_radius(fake, 3), brute_radius(real, 5)

    def d(i: int, j: int) -> float:
        return float(np.linalg.norm(real[i] - fake[j]))

    n = range(40)
    precision = np.mean([any(d(i, j) < reach[i] for i in n) for j in n])
    recall = np.mean([any(d(i, j) < fake_reach[j] for j in n) for i in n])
    density = np.mean([sum(d(i, j) < wide[i] for i in n) / 5 for j in n])
    coverage = np.mean([any(d(i, j) < wide[i] for j in n) for i in n])
    assert precision_recall(real, fake) == pytest.approx((precision, recall))
    assert density_coverage(real, fake) == pytest.approx((density, coverage))
    assert 0 < precision < 1 and 0 < recall < 1  # the case is not trivial


def test_a_dropped_mode_lowers_recall_and_coverage_but_not_precision() -> None:
    rng = np.random.default_rng(11)
    real = np.concatenate([rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) + 50])
    fake = rng.normal(size=(200, 2))
    precision, recall = precision_recall(real, fake)
    _, coverage = density_coverage(real, fake)
    assert precision > 0.9 and recall < 0.6 and coverage < 0.55


@pytest.mark.parametrize("metric", [frechet, kernel_distance, precision_recall, density_coverage])
def test_unequal_sizes_and_bad_values_are_refused(metric) -> None:
    a = features(20, 3, 12)
    with pytest.raises(ValueError, match="one shape"):
        metric(a, a[:19])
    with pytest.raises(ValueError, match="finite"):
        metric(a, np.where(a > 1, np.nan, a))
    with pytest.raises(ValueError, match="at least"):
        metric(a[:1], a[:1])
