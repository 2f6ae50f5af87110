"""Are samples copies of training data? Nearest training neighbours, as a picture and as a number.

No number detects all memorisation, so look at the neighbours. The number is
``median(distance of samples to train) / median(distance of unseen real items to train)``;
beside the model's it is given for training items themselves (planted copies: 0) and for
the validation split (unseen: about 1), which shows that it works on this data.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.contract import Split
from genus.domain import Domain, Points
from genus.evaluate._items import DataSource, choose, gather
from genus.evaluate.score import Score
from genus.evaluate.shapes import chamfer, chamfer_matrix, reduce_points
from genus.prob import noise

POINTS = 128  # of a cloud, when clouds are compared with a whole training set


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
    """The ``k`` nearest training items of each sample: by the root mean square difference of
    entries (levels scaled to 0..1; features standardised), of clouds by Chamfer.

    limit: search among so many training items chosen by the seed, instead of all.
    """
    domain.check(samples, "samples")
    if not len(train):
        raise ValueError("the training split has no items to be near to.")
    measure = _Measure(train, domain, seed)
    ready, samples = measure.prepare(samples), samples.cpu()
    best, found = torch.zeros(len(samples), 0), torch.zeros(len(samples), 0, dtype=torch.int64)
    items = samples.new_zeros(len(samples), 0, *domain.shape)
    for part in choose(len(train), limit, seed).split(2048):
        x = gather(train, part, seed).x
        distance = torch.cat([best, measure.distance(ready, measure.prepare(x))], 1)
        candidates = torch.cat([found, part.expand(len(samples), -1)], 1)
        best, order = distance.topk(min(k, distance.shape[1]), largest=False)
        found = candidates.gather(1, order)
        items = _take(items, x, order)
    return Neighbours(samples, found, measure.exact(ready, items, best), items, measure.name)


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


class _Measure:
    """How two items of a domain compare."""

    def __init__(self, train: Split, domain: Domain, seed: int):
        self.domain = domain
        self.seed = seed
        self.name = "root mean square difference, levels scaled to 0..1"
        if isinstance(domain, Points):
            self.name = f"Chamfer, squared, {min(POINTS, domain.count)} points"
        elif domain.levels is None:
            x = gather(train, choose(len(train), 10_000, seed), seed).x.flatten(1)
            self.mean, self.std = x.mean(0), x.std(0, correction=0)
            self.std[self.std == 0] = 1
            self.name = "root mean square difference of standardised features"

    def prepare(self, x: Tensor) -> Tensor:
        x = x.cpu().float()
        if isinstance(self.domain, Points):
            return reduce_points(x, POINTS, noise.stream(self.seed, "memorisation"))
        x = x.flatten(1)
        return (x - self.mean) / self.std if self.domain.levels is None else x / (self.domain.levels - 1)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Every ``a`` to every ``b``; fast."""
        if isinstance(self.domain, Points):
            return chamfer_matrix(a, b)
        return torch.cdist(a, b) / math.sqrt(a.shape[1])

    def exact(self, a: Tensor, items: Tensor, fast: Tensor) -> Tensor:
        """Each ``a`` to its own items, free of the cancellation that the matrix product brings:
        a copy is at distance 0."""
        if not len(a):
            return fast
        b = self.prepare(items.flatten(0, 1)).unflatten(0, items.shape[:2])
        if isinstance(self.domain, Points):
            return torch.stack([chamfer(a, b[:, j]) for j in range(b.shape[1])], 1)
        return (a[:, None] - b).double().square().mean(-1).sqrt().float()


def neighbours(
    samples: Tensor, source: DataSource, *, count: int = 6, k: int = 4, seed: int = 0
) -> dict[str, Neighbours]:
    """What a report shows: the nearest training items of ``count`` samples, of as many held-out
    items and of planted copies (training items, which must find themselves)."""
    queries = {"Samples": samples[:count]}
    for name, split in (("Held-out items", source.test), ("Planted copies", source.train)):
        queries[name] = gather(split, choose(len(split), count, seed), seed).x
    return {name: nearest(x, source.train, source.domain, k=k, seed=seed) for name, x in queries.items()}


def copying(samples: Tensor, unseen: Tensor, train: Split, domain: Domain, *, seed: int = 0) -> Score:
    """The nearest-train ratio of samples: near 0 for copies, about 1 for data as new as ``unseen``
    real items (never used in training)."""
    return copying_ratio(
        nearest(samples, train, domain, k=1, seed=seed), nearest(unseen, train, domain, k=1, seed=seed), len(train)
    )


def copying_ratio(samples: Neighbours, unseen: Neighbours, train: int) -> Score:
    """`copying` for neighbours that are known already; ``train`` items were searched."""
    distances = [float(found.distance[:, 0].median()) for found in (samples, unseen)]
    protocol = {
        "samples": len(samples.index),
        "unseen items": len(unseen.index),
        "training items": train,
        "distance": samples.measure,
    }
    value = distances[0] / distances[1] if distances[1] > 0 else math.nan
    return Score("nearest-train ratio", value, protocol=protocol)
