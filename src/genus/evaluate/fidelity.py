"""How generated and real items compare in a feature space: pure functions of float64 arrays.

All take ``real`` and ``fake`` of one shape ``(N, features)``: these numbers depend on N, so
unequal sizes are refused.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from genus.prob import noise

Features = Float[np.ndarray, "N F"]


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
    which needs no matrix root of an unsymmetric matrix.
    """
    real, fake = _check(real, fake, 2)
    covariance_real = np.atleast_2d(np.cov(real, rowvar=False))
    covariance_fake = np.atleast_2d(np.cov(fake, rowvar=False))
    values, vectors = np.linalg.eigh(covariance_real)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance_fake @ root).clip(0)).sum()
    shift = real.mean(0) - fake.mean(0)
    return float(shift @ shift + np.trace(covariance_real) + np.trace(covariance_fake) - 2 * cross)


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


def precision_recall(real: Features, fake: Features, k: int = 3) -> tuple[float, float]:
    """Share of fake items inside some real item's ball, and of real items inside some fake
    item's ball; a ball reaches to the k-th neighbour of its own kind (Kynkäänniemi et al.
    2019, https://arxiv.org/abs/1904.06991, eq. 1 and 2)."""
    real, fake = _check(real, fake, k + 1)
    across = cdist(real, fake)
    precision = (across < _radius(real, k)[:, None]).any(0).mean()
    recall = (across < _radius(fake, k)[None, :]).any(1).mean()
    return float(precision), float(recall)


def density_coverage(real: Features, fake: Features, k: int = 5) -> tuple[float, float]:
    """In how many of k real balls a fake item lies on average, and the share of real balls
    that hold a fake item (Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq. 4 and 5)."""
    real, fake = _check(real, fake, k + 1)
    inside = cdist(real, fake) < _radius(real, k)[:, None]
    return float(inside.sum() / (k * len(fake))), float(inside.any(1).mean())


def _radius(x: Features, k: int) -> Float[np.ndarray, " N"]:
    """Distance from each item to its k-th nearest other item."""
    return np.partition(cdist(x, x), k, axis=1)[:, k]  # place 0 is the item itself
