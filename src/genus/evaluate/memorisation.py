"""Are samples copies of training data? Nearest training neighbours, as a picture and as numbers.

No number detects all memorisation, so look at the neighbours. `CopyTest` gives four:

nearest-train ratio   median distance of samples to train / that of unseen real items
copied share          samples at most a third as far from their nearest training item as from the next
authenticity          samples farther from their nearest training item than that is from its own
C_T                   rank test of those distances against unseen items', cell by cell

The first, third and fourth also fall for samples that are merely blurred (a blur lies near
many training items, a copy near one), so the verdict "copies" rests on the second, held
against the same share of unseen items. Beside the model's numbers stand those of training
items, of planted copies and of validation items, which show that the test works on this data.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor

from genus.contract import Split
from genus.evaluate._items import DataSource, choose, gather
from genus.evaluate.score import Row, Score
from genus.evaluate.uncertainty import LEAST, METHOD, halves, spread
from genus.kinds import Domain, Metric

MOST_CELLS, PER_CELL = 20, 50  # of C_T: so many unseen items a cell on average, and no more cells than that
TAU = 20  # samples that a cell must hold to count in C_T
FAR = 3.0  # standard errors that make a finding

COPIES = "copies training items"
CLOSE = "nearer to training items than unseen data are (blurred, or slightly changed copies): look at the neighbours"
CLEAR = "no more copies than among unseen data"


@dataclass(frozen=True)
class Neighbours:
    """The nearest training items of some queries ``(B, *shape)``, nearest first.

    index: ``(B, k)`` item numbers in the training split. distance: ``(B, k)``, in the unit
    that ``measure`` names. items: ``(B, k, *shape)``, the neighbours themselves.
    """

    queries: Tensor
    index: Tensor
    distance: Tensor
    items: Tensor
    measure: str


def nearest(
    samples: Tensor, train: Split, domain: Domain, *, k: int = 4, seed: int = 0, limit: int | None = None
) -> Neighbours:
    """The ``k`` nearest training items of each sample: by the `Domain.metric`.

    limit: search among so many training items chosen by the seed, instead of all.
    """
    domain.check(samples, "samples")
    if not len(train):
        raise ValueError("the training split has no items to be near to.")
    samples = samples.cpu()
    metric = _metric(train, domain, seed)
    ready = metric.prepare(samples)
    best, found = torch.zeros(len(samples), 0), torch.zeros(len(samples), 0, dtype=torch.int64)
    items = samples.new_zeros(len(samples), 0, *domain.shape)
    for part in choose(len(train), limit, seed).split(2048):
        x = gather(train, part, seed).x
        distance = torch.cat([best, metric.between(ready, metric.prepare(x))], 1)
        candidates = torch.cat([found, part.expand(len(samples), -1)], 1)
        best, order = distance.topk(min(k, distance.shape[1]), largest=False)
        found = candidates.gather(1, order)
        items = _take(items, x, order)
    return Neighbours(samples, found, _exact(metric, ready, items, best), items, metric.name)


def _take(kept: Tensor, new: Tensor, order: Tensor) -> Tensor:
    """For each row of ``order`` (B, k): the row's kept items (B, j, ...) where it points below j,
    else the new ones (P, ...)."""
    before = kept.shape[1]
    fresh = new[(order - before).clamp_min(0)]
    if not before:
        return fresh
    rows = torch.arange(len(order))[:, None]
    is_kept = (order < before).reshape(*order.shape, *[1] * (kept.ndim - 2))
    return torch.where(is_kept, kept[rows, order.clamp_max(before - 1)], fresh)


def _metric(train: Split, domain: Domain, seed: int) -> Metric:
    """How near items of a domain are, at the scale of a training split."""
    return domain.metric(lambda: gather(train, choose(len(train), 10_000, seed), seed).x, seed)


def _exact(metric: Metric, queries: Tensor, items: Tensor, fast: Tensor) -> Tensor:
    """Each query to its own items, free of the cancellation that the matrix product brings: a copy is at distance 0."""
    if not len(queries):
        return fast
    ready = metric.prepare(items.flatten(0, 1)).unflatten(0, items.shape[:2])
    return torch.stack([metric.exact(queries, ready[:, j]) for j in range(items.shape[1])], 1)


def neighbours(
    samples: Tensor, source: DataSource, *, count: int = 6, k: int = 4, seed: int = 0
) -> dict[str, Neighbours]:
    """What a report shows: the nearest training items of ``count`` samples, of as many held-out
    items and of planted copies (training items, which must find themselves)."""
    queries = {"Samples": samples[:count]}
    for name, split in (("Held-out items", source.test), ("Planted copies", source.train)):
        queries[name] = gather(split, choose(len(split), count, seed), seed).x
    return {name: nearest(x, source.train, source.domain, k=k, seed=seed) for name, x in queries.items()}


def plant(copies: Neighbours, others: Neighbours, share: float = 0.9) -> Neighbours:
    """``share`` of the queries from ``copies``, the rest from ``others``: a control that must be noticed."""
    count = min(len(copies.index), len(others.index))
    cut = round(share * count)

    def both(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a[:cut], b[cut:count]])

    return Neighbours(
        both(copies.queries, others.queries),
        both(copies.index, others.index),
        both(copies.distance, others.distance),
        both(copies.items, others.items),
        copies.measure,
    )


class CopyTest:
    """Whether samples are copies of training items, judged beside ``unseen`` real items (never
    used in training). Samples and unseen items may differ in number: all but C_T compare
    shares and medians, which do not depend on it; C_T grows with it, and its protocol says it.

    Raises a ValueError for fewer than two training items and for NaN or infinity.
    """

    def __init__(self, unseen: Tensor, train: Split, domain: Domain, *, seed: int = 0):
        if len(train) < 2:
            raise ValueError(f"a test for copies needs at least two training items; got {len(train)}.")
        self.train, self.domain, self.seed = train, domain, seed
        self.metric = _metric(train, domain, seed)
        self.own = torch.full((len(train),), torch.nan)  # distance of a training item to the nearest other
        count = min(max(len(unseen) // PER_CELL, 1), MOST_CELLS, len(train))
        self.centres = self.metric.prepare(gather(train, choose(len(train), count, seed), seed).x)
        self.unseen = self.search(unseen)
        self.unseen_cells = self._cells(self.unseen)
        self.unseen_copied = float(self._copied(self.unseen).mean())

    def search(self, x: Tensor) -> Neighbours:
        """The two nearest training items of each datum."""
        return nearest(x, self.train, self.domain, k=2, seed=self.seed)

    def __call__(self, found: Neighbours) -> list[Score]:
        """The four numbers of samples whose neighbours are ``found`` (`search`); C_T only where some
        cell holds `TAU` samples."""
        to_train, unseen = (x.distance[:, 0].double().numpy() for x in (found, self.unseen))
        about = {
            "samples": len(to_train),
            "unseen items": len(unseen),
            "training items": len(self.train),
            "distance": found.measure,
            "seed": self.seed,
        }
        copied = self._copied(found)
        authentic = to_train > self._own_distance(found.index[:, 0])
        ratio = Score("nearest-train ratio", *_ratio(to_train, unseen, self.seed), protocol={**about, "error": METHOD})
        own = Score("authenticity", *_share(authentic), protocol={**about, "error": "binomial"})
        rank = data_copying(to_train, self._cells(found), unseen, self.unseen_cells)
        told = {**about, "error": "binomial", "unseen": self.unseen_copied, "verdict": self._verdict(copied, rank)}
        share = Score("copied share", *_share(copied), protocol=told)
        if rank is None:
            return [ratio, share, own]
        cells = {"cells": len(self.centres), "least samples in a cell": TAU, "error": "of samples like unseen data"}
        return [ratio, share, own, Score("C_T", *rank, protocol={**about, **cells})]

    def _verdict(self, copied: np.ndarray, rank: tuple[float, float] | None) -> str:
        """The excess of copies over that among unseen items, in standard errors of two proportions."""
        sizes = len(copied), len(self.unseen.index)
        both = np.average([copied.mean(), self.unseen_copied], weights=sizes)
        error = math.sqrt(both * (1 - both) * (1 / sizes[0] + 1 / sizes[1]))
        if copied.mean() - self.unseen_copied > FAR * error:
            return COPIES
        return CLOSE if rank is not None and rank[0] < -FAR * rank[1] else CLEAR

    def _copied(self, found: Neighbours) -> np.ndarray:
        """Yoon et al. 2023 (https://openreview.net/forum?id=shciCbSk9h): a copy has one training item
        much nearer than all others."""
        return (found.distance[:, 0] <= (1 / 3) ** self.metric.power * found.distance[:, 1]).double().numpy()

    def _own_distance(self, index: Tensor) -> np.ndarray:
        """Of each training item to the nearest other one; looked up once an item."""
        missing = index.unique()
        missing = missing[self.own[missing].isnan()]
        if len(missing):
            found = self.search(gather(self.train, missing, self.seed).x)
            itself = found.index[:, 0] == missing
            self.own[missing] = torch.where(itself, found.distance[:, 1], found.distance[:, 0])
        return self.own[index].double().numpy()

    def _cells(self, found: Neighbours) -> np.ndarray:
        """The cell of each query: which of the centres, training items drawn by lot, is nearest."""
        return self.metric.between(self.metric.prepare(found.queries), self.centres).argmin(1).numpy()


def copying(samples: Tensor, unseen: Tensor, train: Split, domain: Domain, *, seed: int = 0) -> list[Score]:
    """`CopyTest` for one set of samples."""
    test = CopyTest(unseen, train, domain, seed=seed)
    return test(test.search(samples))


def verdict(row: Row) -> str | None:
    """`COPIES`, `CLOSE` or `CLEAR`: what the numbers of a row say; None for a row without them."""
    return next((score.protocol["verdict"] for score in row.scores if "verdict" in score.protocol), None)


def data_copying(
    samples: Float[np.ndarray, " M"],
    sample_cells: Int[np.ndarray, " M"],
    unseen: Float[np.ndarray, " N"],
    unseen_cells: Int[np.ndarray, " N"],
    *,
    tau: int = TAU,
) -> tuple[float, float] | None:
    """C_T of Meehan et al. 2020 (https://arxiv.org/abs/2004.05675, section 3) and its standard error
    for samples as new as the unseen items.

    samples, unseen: distances to the nearest training item. The Mann-Whitney z-score of samples
    against unseen items in each cell with at least ``tau`` samples, averaged with the unseen
    items' shares of those cells as weights: well below 0 where samples are nearer to the
    training data. Scores of cells are independent with variance 1, hence the error. None
    where no cell that holds unseen items has enough samples.
    """
    scores, weights = [], []
    for cell in np.unique(unseen_cells):
        ours, theirs = samples[sample_cells == cell], unseen[unseen_cells == cell]
        if len(ours) >= tau:
            scores.append(rank_score(ours, theirs))
            weights.append(len(theirs))
    if not scores:
        return None
    shares = np.array(weights) / sum(weights)
    return float(shares @ scores), float(np.sqrt((shares**2).sum()))


def rank_score(a: Float[np.ndarray, " M"], b: Float[np.ndarray, " N"]) -> float:
    """Mann-Whitney's z: (U - mean) / standard deviation, U the number of pairs with a > b, halves for
    ties, whose correction of the variance is made; 0 where all values are equal."""
    m, n = len(a), len(b)
    both = np.concatenate([a, b])
    u = rankdata(both)[:m].sum() - m * (m + 1) / 2
    ties = np.unique(both, return_counts=True)[1].astype(float)
    variance = m * n / 12 * (m + n + 1 - (ties**3 - ties).sum() / ((m + n) * (m + n - 1)))
    return float((u - m * n / 2) / math.sqrt(variance)) if variance > 0 else 0.0


def _share(hits: np.ndarray) -> tuple[float, float]:
    share = float(np.mean(hits))
    return share, math.sqrt(share * (1 - share) / len(hits))


def _ratio(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float, float | None]:
    """Median of ``a`` over median of ``b``; NaN where the latter is 0."""
    if not np.median(b) > 0:
        return math.nan, None
    if min(len(a), len(b)) < LEAST:
        return float(np.median(a) / np.median(b)), None
    parts = [[np.median(x[half]) for half in halves(len(x), seed, name)] for x, name in ((a, "samples"), (b, "unseen"))]
    first, second = (float(spread(part, len(x))) for part, x in zip(parts, (a, b), strict=True))
    value = float(np.median(a) / np.median(b))
    return value, math.hypot(first, value * second) / float(np.median(b))
