"""Every metric beside a form written out from its definition, and beside wrong forms that must differ."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.optimize import linprog
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import mannwhitneyu
from torch import Tensor

from genus.data.source import TensorSplit
from genus.evaluate import fidelity
from genus.evaluate.fidelity import compare, density_coverage, frechet, kernel_distance, precision_recall
from genus.evaluate.memorisation import copying, data_copying
from genus.evaluate.shapes import emd, emd_matrix, jsd, set_metrics
from genus.geometry.clouds import chamfer, chamfer_matrix
from genus.kinds import Vectors
from genus.prob import noise

N, F = 61, 4
REAL = np.random.default_rng(0).normal(size=(N, F)) @ np.random.default_rng(1).normal(size=(F, F))
FAKE = np.random.default_rng(2).normal(size=(N, F)) @ np.random.default_rng(1).normal(size=(F, F)) * 1.2 + 0.8
S = noise.normal((7, 12, 3), noise.stream("S")).double() * 0.3
R = noise.normal((7, 12, 3), noise.stream("R")).double() * 0.25 + 0.05


def agree(ours: Sequence[float], reference: Sequence[float], rel: float = 1e-6) -> bool:
    return len(ours) == len(reference) and list(ours) == pytest.approx(list(reference), rel=rel)


def by_root(real: np.ndarray, fake: np.ndarray, ddof: int = 1, mean: bool = True) -> float:
    s, t = np.cov(real, rowvar=False, ddof=ddof), np.cov(fake, rowvar=False, ddof=ddof)
    shift = ((real.mean(0) - fake.mean(0)) ** 2).sum()
    return float(shift * mean + np.trace(s + t - 2 * sqrtm(s @ t).real))


def by_eigenvalues(real: np.ndarray, fake: np.ndarray) -> float:
    """The trace of a root is the sum of the roots of the eigenvalues."""
    s, t = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    shift = ((real.mean(0) - fake.mean(0)) ** 2).sum()
    return float(shift + np.trace(s + t) - 2 * np.sqrt(np.linalg.eigvals(s @ t).astype(complex)).real.sum())


def test_frechet() -> None:
    ours = frechet(REAL, FAKE)
    assert agree([ours, ours], [by_root(REAL, FAKE), by_eigenvalues(REAL, FAKE)])
    few = np.random.default_rng(4).normal(size=(2, 20, 40))  # more features than items: a singular covariance
    assert agree([frechet(*few)], [by_eigenvalues(*few)])
    for wrong in (by_root(REAL, FAKE, ddof=0), by_root(REAL, FAKE, mean=False), math.sqrt(by_root(REAL, FAKE))):
        assert not agree([ours], [wrong])


def mmd2(real: np.ndarray, fake: np.ndarray, degree: int = 3, biased: bool = False) -> float:
    """Term by term, the pairs of an item with itself left out."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** degree

    n = len(real)
    pairs = [(i, j) for i in range(n) for j in range(n) if biased or i != j]
    inside = sum(k(x[i], x[j]) for x in (real, fake) for i, j in pairs) / len(pairs)
    return inside - 2 * sum(k(x, y) for x in real for y in fake) / n**2


def test_kernel_distance(monkeypatch) -> None:
    ours, expected = kernel_distance(REAL, FAKE)[0], mmd2(REAL, FAKE)
    assert agree([ours], [expected])
    assert not agree([ours], [mmd2(REAL, FAKE, biased=True)])
    assert not agree([ours], [mmd2(REAL, FAKE, degree=2)])
    sums = fidelity._kernel_sums
    monkeypatch.setattr(fidelity, "_kernel_sums", lambda x, y, same: sums(x, y, False))  # an item with itself
    assert not agree([kernel_distance(REAL, FAKE)[0]], [expected])


def by_counting(real: np.ndarray, fake: np.ndarray, k: int, wide: int) -> list[float]:
    """Precision, recall, density, coverage: every ball and every item looked at in turn."""

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))

    def radius(x: np.ndarray, i: int, k: int) -> float:
        return sorted(distance(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1]

    n = len(real)
    reals, fakes = [radius(real, i, k) for i in range(n)], [radius(fake, j, k) for j in range(n)]
    wides = [radius(real, i, wide) for i in range(n)]
    d = [[distance(x, y) for y in fake] for x in real]
    return [
        sum(any(d[i][j] < reals[i] for i in range(n)) for j in range(n)) / n,
        sum(any(d[i][j] < fakes[j] for j in range(n)) for i in range(n)) / n,
        sum(d[i][j] < wides[i] for i in range(n) for j in range(n)) / (wide * n),
        sum(any(d[i][j] < wides[i] for j in range(n)) for i in range(n)) / n,
    ]


def test_precision_recall_density_coverage() -> None:
    expected = by_counting(REAL, FAKE, 3, 5)
    ours = [*precision_recall(REAL, FAKE), *density_coverage(REAL, FAKE)]
    assert agree(ours, expected)
    assert len(set(expected)) == 4 and all(0 < value < 1.5 for value in expected)  # the case is not trivial
    for k, wide in ((2, 4), (4, 6)):  # k off by one
        wrong = [*precision_recall(REAL, FAKE, k), *density_coverage(REAL, FAKE, wide)]
        assert agree(wrong, by_counting(REAL, FAKE, k, wide))
        assert not any(agree([a], [b]) for a, b in zip(wrong, expected, strict=True))
    swapped = [*precision_recall(FAKE, REAL), *density_coverage(FAKE, REAL)]
    assert not any(agree([a], [b]) for a, b in zip(swapped, expected, strict=True))


def test_all_at_once_equals_each_alone() -> None:
    found = compare(REAL, FAKE)
    ours = [found[name].value for name in ("precision", "recall", "density", "coverage")]
    assert agree(ours, by_counting(REAL, FAKE, 3, 5))
    assert agree([found["Fréchet distance"].value], [by_root(REAL, FAKE)])
    assert agree([found["kernel distance"].value], [mmd2(REAL, FAKE)])


def chamfer_by_hand(x: Tensor, y: Tensor, squared: bool = True, ways: int = 2) -> float:
    def one_way(a: list, b: list) -> float:
        nearest = [min(sum((s - t) ** 2 for s, t in zip(p, q, strict=True)) for q in b) for p in a]
        return sum(nearest if squared else map(math.sqrt, nearest)) / len(a)

    both = (x.tolist(), y.tolist()), (y.tolist(), x.tolist())
    return sum(one_way(a, b) for a, b in both[:ways])


@pytest.mark.parametrize("squared", [True, False])
def test_chamfer(squared: bool) -> None:
    expected = [[chamfer_by_hand(x, y, squared) for y in R] for x in S]
    flat = list(itertools.chain(*expected))
    assert agree(chamfer_matrix(S, R, squared=squared).flatten().tolist(), flat)
    assert agree(chamfer_matrix(S.float(), R.float(), squared=squared).flatten().tolist(), flat, 1e-3)
    assert agree(chamfer(S, R, squared=squared).tolist(), [expected[n][n] for n in range(len(S))])
    assert not agree(chamfer(S, R, squared=not squared).tolist(), [expected[n][n] for n in range(len(S))])
    assert not agree([chamfer_by_hand(S[0], R[0], squared, ways=1)], expected[0][:1])


def transport(x: Tensor, y: Tensor) -> float:
    """The assignment as a linear program over doubly stochastic matrices."""
    n = len(x)
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    rows, columns = np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))
    return linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.ones(2 * n), method="highs").fun / n


def greedy(x: Tensor, y: Tensor) -> float:
    """Not the best assignment: each point in turn takes the nearest that is left."""
    left, total = list(range(len(y))), 0.0
    for point in x:
        best = min(left, key=lambda j: float((point - y[j]).norm()))
        left.remove(best)
        total += float((point - y[best]).norm())
    return total / len(x)


def test_emd() -> None:
    x, y = S[:, :5], R[:, :5]
    best = [
        min(float((a - b[list(order)]).norm(dim=1).mean()) for order in itertools.permutations(range(5)))
        for a, b in zip(x, y, strict=True)
    ]
    assert agree(emd(x, y).tolist(), best)
    assert agree(emd_matrix(x, y).diagonal().tolist(), best)
    assert agree(emd(S, R).tolist(), [transport(a, b) for a, b in zip(S, R, strict=True)])
    assert not agree([greedy(a, b) for a, b in zip(x, y, strict=True)], best)
    assert not agree(emd(x, y).square().tolist(), best)


def sets_by_hand(d: list[list[float]], itself: bool = False) -> list[float]:
    """MMD, COV and 1-NNA from all distances, generated clouds first; ``itself`` is the mistake of
    not leaving a cloud out of its own neighbours."""
    count = len(d) // 2
    ours, theirs = range(count), range(count, 2 * count)
    mmd = sum(min(d[x][y] for x in ours) for y in theirs) / count
    covered = {min(theirs, key=lambda y: d[x][y]) for x in ours}
    right = 0
    for i in range(2 * count):
        others = [j for j in range(2 * count) if itself or j != i]
        right += (min(others, key=lambda j: d[i][j]) < count) == (i < count)
    return [mmd, len(covered) / count, right / (2 * count)]


@pytest.mark.parametrize(("name", "form"), [("CD", chamfer_by_hand), ("EMD", transport)])
def test_sets_of_clouds(name: str, form: Callable[[Tensor, Tensor], float]) -> None:
    def numbers(s: Tensor, r: Tensor, **settings: bool) -> list[float]:
        found = {score.name: score.value for score in set_metrics(s, r, **settings)}
        return [found[f"{key}-{name}"] for key in ("MMD", "COV", "1-NNA")]

    every = [*S, *R]
    distances = [[form(x, y) for y in every] for x in every]
    ours, expected = numbers(S, R), sets_by_hand(distances)
    assert agree(ours, expected)
    assert 0 < ours[1] < 1 and 0 < ours[2] < 1
    assert not agree(numbers(R, S)[:1], expected[:1])  # the two sets exchanged
    assert not agree(ours[2:], sets_by_hand(distances, itself=True)[2:])
    if name == "CD":
        assert not agree(numbers(S, R, squared=False)[:1], expected[:1])


def test_jsd() -> None:
    axis = np.linspace(-0.5, 0.5, 8)
    cells = np.array([c for c in itertools.product(axis, repeat=3) if np.linalg.norm(c) <= 0.5])
    every = np.array(list(itertools.product(axis, repeat=3)))

    def divergence(cells: np.ndarray, base: float = 2) -> float:
        shares = [np.bincount(cdist(x.reshape(-1, 3), cells).argmin(1), minlength=len(cells)) for x in (S, R)]
        return float(jensenshannon(*shares, base=base) ** 2)

    ours = jsd(S, R, resolution=8, compat="luo2021").value
    assert agree([ours], [divergence(cells)])
    assert not agree([ours], [divergence(every)])  # the corners of the cube count too
    assert not agree([ours], [divergence(cells, math.e)])


def cells_and_distances() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(5)
    samples, unseen = rng.gamma(3, size=150), rng.gamma(4, size=130)
    return samples.round(1), rng.integers(9, size=150) // 2, unseen.round(1), rng.integers(7, size=130) // 2


def test_data_copying() -> None:
    samples, mine, unseen, theirs = cells_and_distances()

    def reference(tau: int, weighted: bool = True) -> tuple[float, float]:
        """Mann-Whitney's z read off its one-sided p-value."""
        from scipy.stats import norm

        total, weights = 0.0, []
        for cell in range(5):
            a, b = samples[mine == cell], unseen[theirs == cell]
            if len(a) >= tau and len(b):
                test = mannwhitneyu(a, b, alternative="less", use_continuity=False, method="asymptotic")
                weights.append(len(b) if weighted else 1)
                total += norm.ppf(test.pvalue) * weights[-1]
        return total / sum(weights), math.sqrt(sum(w * w for w in weights)) / sum(weights)

    tau = int(np.median(np.bincount(mine)))
    ours = data_copying(samples, mine, unseen, theirs, tau=tau)
    assert ours is not None and ours[0] < 0
    assert agree(ours, reference(tau))
    assert not agree(ours, reference(tau, weighted=False))
    assert not agree(ours, reference(1))
    assert not agree(ours, data_copying(unseen, theirs, samples, mine, tau=1) or ())  # the sides exchanged
    assert data_copying(samples, mine, unseen, theirs, tau=1000) is None


def test_nearness_to_training_items() -> None:
    """Ratio, copied share and authenticity of a table, standardised, item by item."""
    rng = np.random.default_rng(6)
    train, unseen = (torch.tensor(rng.normal(size=(n, 2)), dtype=torch.float32) for n in (60, 40))
    samples = torch.cat([train[:20] + 0.02 * torch.randn(20, 2, generator=noise.stream("near")), unseen[:20] + 0.3])
    ours = {score.name: score.value for score in copying(samples, unseen, TensorSplit(train), Vectors(2))}
    spread = train.double().std(0, correction=0)
    t, u, s = (x.double() / spread for x in (train, unseen, samples))

    def nearest(x: Tensor, places: int = 2, but: int = -1) -> list[tuple[float, int]]:
        return sorted((float((x - t[j]).square().mean().sqrt()), j) for j in range(60) if j != but)[:places]

    near = [nearest(x) for x in s]
    own = [nearest(t[j], 1, j)[0][0] for j in range(60)]
    ratio = np.median([d[0][0] for d in near]) / np.median([nearest(x)[0][0] for x in u])
    copied = np.mean([d[0][0] <= d[1][0] / 3 for d in near])
    authentic = np.mean([d[0][0] > own[d[0][1]] for d in near])
    assert agree([ours["nearest-train ratio"]], [ratio], 1e-3)
    assert agree([ours["copied share"], ours["authenticity"]], [copied, authentic])
    assert 0 < copied < 1 and 0 < authentic < 1
    assert not agree([authentic], [np.mean([d[0][0] > 0 for d in near])])  # an item as its own neighbour
    assert not agree([authentic], [np.mean([d[0][0] > own[n % 60] for n, d in enumerate(near)])])  # another item's
