"""How generated and real items compare in a feature space: pure functions of float64 arrays.

All take ``real`` and ``fake`` of one shape ``(N, features)``: these numbers depend on N, so
unequal sizes are refused. `compare` gives all of them with their standard errors.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from genus.evaluate.uncertainty import LEAST, METHOD, halves, spread
from genus.prob import noise

Features = Float[np.ndarray, "N F"]
Kept = Bool[np.ndarray, " N"]
NEIGHBOURS = 3  # of precision and recall, as in their paper
REACH = 5  # of density and coverage, as in theirs


class Estimate(NamedTuple):
    """A number, its standard error and how that was found (None where there are too few items to tell)."""

    value: float
    stderr: float | None = None
    method: str | None = None


def compare(real: Features, fake: Features, *, seed: int = 0) -> dict[str, Estimate]:
    """All numbers of this module, by the names of `genus.evaluate.meaning`. Errors are the spread over
    halves of the pairs (real, fake) (`genus.evaluate.uncertainty`), the jackknife for the kernel distance.

    Raises a ValueError for unequal sizes, NaN, infinity, and fewer than 6 items.
    """
    real, fake = _check(real, fake, REACH + 1)
    count = len(real)
    within = _Balls(cdist(real, real), across := cdist(real, fake), REACH)
    around = _Balls(cdist(fake, fake), across.T, NEIGHBOURS)

    def values(kept: Kept) -> tuple[float, ...]:
        precision, recall = within.held(kept, NEIGHBOURS), around.held(kept, NEIGHBOURS)
        wide = within.held(kept, REACH)
        distance = _frechet(real[kept], fake[kept])
        return distance, precision.share_of_items, recall.share_of_items, wide.depth, wide.share_of_balls

    names = ("Fréchet distance", "precision", "recall", "density", "coverage")
    found = [Estimate(value) for value in values(np.ones(count, bool))]
    if count >= LEAST:
        errors = spread([values(np.isin(np.arange(count), half)) for half in halves(count, seed)], count)
        found = [Estimate(part.value, float(error), METHOD) for part, error in zip(found, errors, strict=True)]
    value, error = kernel_distance(real, fake, seed=seed)
    kernel = Estimate(value, error, None if error is None else "jackknife over blocks")
    return {**dict(zip(names, found, strict=True)), "kernel distance": kernel}


def _check(real: Features, fake: Features, least: int) -> tuple[Features, Features]:
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    if real.ndim != 2 or real.shape != fake.shape:
        raise ValueError(
            f"expected two feature arrays of one shape (N, F), as the number depends on N; "
            f"got {real.shape} and {fake.shape}. Draw as many samples as there are real items."
        )
    if len(real) < least:
        raise ValueError(f"expected at least {least} items on each side; got {len(real)}.")
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise ValueError("expected finite features; got NaN or infinity.")
    return real, fake


def frechet(real: Features, fake: Features) -> float:
    """Squared Fréchet distance of the two Gaussians fitted to the features
    (Heusel et al. 2017, https://arxiv.org/abs/1706.08500, eq. 6).

    tr (S1 S2)^½ is the sum of the roots of the eigenvalues of the symmetric S1^½ S2 S1^½,
    which needs no matrix root of an unsymmetric matrix. With no more items than features it is
    the sum of the singular values of the centred items' inner products, a smaller matrix.
    """
    return _frechet(*_check(real, fake, 2))


def _frechet(real: Features, fake: Features) -> float:
    shift = real.mean(0) - fake.mean(0)
    real, fake = real - real.mean(0), fake - fake.mean(0)
    freedom = len(real) - 1
    if len(real) <= real.shape[1]:
        cross = np.linalg.svd(real @ fake.T, compute_uv=False).sum() / freedom
    else:
        values, vectors = np.linalg.eigh(real.T @ real / freedom)
        root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        cross = np.sqrt(np.linalg.eigvalsh(root @ (fake.T @ fake / freedom) @ root).clip(0)).sum()
    return float(shift @ shift + ((real**2).sum() + (fake**2).sum()) / freedom - 2 * cross)


def kernel_distance(real: Features, fake: Features, *, blocks: int = 10, seed: int = 0) -> tuple[float, float | None]:
    """Unbiased MMD² under the kernel (x·y/F + 1)³ (Bińkowski et al. 2018,
    https://arxiv.org/abs/1801.01401, section 4), and its standard error.

    The error is the jackknife's over ``blocks`` random blocks, each left out once; None where
    there are fewer than two items a block.
    """
    real, fake = _check(real, fake, 2)
    blocks = min(blocks, len(real) // 2)
    parts = [
        np.array_split(noise.permutation(len(real), noise.stream(seed, "blocks", n)).numpy(), max(blocks, 1))
        for n in (0, 1)
    ]
    x, y = ([features[part] for part in side] for features, side in zip((real, fake), parts, strict=True))
    inside_x, inside_y, across = _kernel_sums(x, x, True), _kernel_sums(y, y, True), _kernel_sums(x, y, False)
    sizes = np.array([len(part) for part in x])

    def estimate(kept: list[int]) -> float:
        n = sizes[kept].sum()
        within = (inside_x[np.ix_(kept, kept)].sum() + inside_y[np.ix_(kept, kept)].sum()) / (n * (n - 1))
        return float(within - 2 * across[np.ix_(kept, kept)].sum() / n**2)

    every = list(range(len(sizes)))
    if blocks < 2:
        return estimate(every), None
    left_out = [estimate([b for b in every if b != out]) for out in every]
    return estimate(every), float(np.sqrt((blocks - 1) * np.var(left_out)))


def _kernel_sums(x: list[Features], y: list[Features], same: bool) -> Float[np.ndarray, "blocks blocks"]:
    """The kernel summed over each pair of blocks, without an item's kernel with itself."""
    sums = np.array([[((a @ b.T / a.shape[1] + 1) ** 3).sum() for b in y] for a in x])
    return sums - np.diag([(((a * a).mean(1) + 1) ** 3).sum() for a in x]) if same else sums


def precision_recall(real: Features, fake: Features, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Share of fake items inside some real item's ball, and of real items inside some fake
    item's ball; a ball reaches to the k-th neighbour of its own kind (Kynkäänniemi et al.
    2019, https://arxiv.org/abs/1904.06991, eq. 1 and 2; an item on the rim is outside, as in
    the code of Naeem et al.)."""
    real, fake = _check(real, fake, k + 1)
    every, across = np.ones(len(real), bool), cdist(real, fake)
    within, around = _Balls(cdist(real, real), across, k), _Balls(cdist(fake, fake), across.T, k)
    return within.held(every, k).share_of_items, around.held(every, k).share_of_items


def density_coverage(real: Features, fake: Features, k: int = REACH) -> tuple[float, float]:
    """In how many of k real balls a fake item lies on average, and the share of real balls
    that hold a fake item (Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq. 4 and 5)."""
    real, fake = _check(real, fake, k + 1)
    held = _Balls(cdist(real, real), cdist(real, fake), k).held(np.ones(len(real), bool), k)
    return held.depth, held.share_of_balls


def perfect_coverage(count: int, k: int = REACH) -> float:
    """The coverage to expect where both sets hold ``count`` items of one distribution: the k nearest of the
    other 2N - 1 items are all real with probability Π (N-1-j) / (2N-1-j), j < k
    (Naeem et al. 2020, eq. 8)."""
    j = np.arange(k)
    return float(1 - np.prod((count - 1 - j) / (2 * count - 1 - j)))


class _Balls:
    """Balls around the items of one set, and the items of the other that may lie in them.

    Only neighbours near enough to set a radius are kept, also when half of the items are left
    out: the 8 k + 16 nearest, of which fewer than k are in a random half once in 10^9 times (the
    radius is then the farthest of them). That makes each half cheap.
    """

    def __init__(self, inside: Float[np.ndarray, "N N"], across: Float[np.ndarray, "N N"], k: int):
        np.fill_diagonal(inside, np.inf)  # an item is not its own neighbour
        near = min(len(inside) - 1, 8 * k + 16)
        index = np.argpartition(inside, near - 1, axis=1)[:, :near]
        order = np.argsort(np.take_along_axis(inside, index, 1), axis=1)
        self.neighbour: Int[np.ndarray, "N near"] = np.take_along_axis(index, order, 1)
        self.distance = np.take_along_axis(inside, self.neighbour, 1)
        self.ball, self.item = np.nonzero(across < self.distance[:, -1:])
        self.gap = across[self.ball, self.item]

    def held(self, kept: Kept, k: int) -> "_Held":
        """What lies in the balls that reach to the k-th neighbour, among the items kept on both sides."""
        place = np.cumsum(kept[self.neighbour], axis=1, dtype=np.int16) >= k
        last = np.where(place[:, -1], place.argmax(1), place.shape[1] - 1)
        radius = np.where(kept, self.distance[np.arange(len(last)), last], 0)  # a ball left out holds nothing
        held = (self.gap < radius[self.ball]) & kept[self.item]
        return _Held(self.ball[held], self.item[held], int(kept.sum()), k)


@dataclass(frozen=True)
class _Held:
    """Pairs (ball, item): the item lies in the ball; of ``count`` items on each side."""

    ball: Int[np.ndarray, " pairs"]
    item: Int[np.ndarray, " pairs"]
    count: int
    k: int

    @property
    def share_of_items(self) -> float:
        """Items that lie in some ball."""
        return float((np.bincount(self.item) > 0).sum() / self.count)

    @property
    def share_of_balls(self) -> float:
        """Balls that hold some item."""
        return float((np.bincount(self.ball) > 0).sum() / self.count)

    @property
    def depth(self) -> float:
        """In how many of k balls an item lies on average."""
        return len(self.item) / (self.k * self.count)
