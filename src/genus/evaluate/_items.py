"""What evaluation needs of a data source, and how it draws items from one."""

from typing import Protocol

import torch
from torch import Tensor

from genus.contract import Batch, Split
from genus.kinds import Domain
from genus.prob import noise


class DataSource(Protocol):
    """A named set with three disjoint splits (`genus.data.Source` is one)."""

    @property
    def name(self) -> str: ...
    @property
    def domain(self) -> Domain: ...
    @property
    def condition(self) -> Domain | None: ...
    @property
    def train(self) -> Split: ...
    @property
    def validation(self) -> Split: ...
    @property
    def test(self) -> Split: ...
    @property
    def fingerprint(self) -> str: ...


def choose(available: int, count: int | None, seed: int) -> Tensor:
    """``count`` of the items ``0 .. available-1`` by lot, in order; all of them for None."""
    if count is not None and count < 1:
        raise ValueError(f"expected at least one item; got {count}.")
    if count is None or count >= available:
        return torch.arange(available)
    return noise.permutation(available, noise.stream(seed, "choose", available))[:count].sort().values


def gather(split: Split, index: Tensor, seed: int, size: int = 512) -> Batch:
    """The items of a split as one batch; what is random in them (binarization) follows the seed."""
    parts = [split.batch(part, noise.stream(seed, "items", n)) for n, part in enumerate(index.split(size))]
    conditions = [part.condition for part in parts if part.condition is not None]
    return Batch(torch.cat([part.x for part in parts]), torch.cat(conditions) if conditions else None)


class Unlabelled:
    """A split without its conditions: what a model of the data alone is fitted to."""

    def __init__(self, split: Split):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The items ``index``, data alone."""
        return self.split.batch(index, generator)._replace(condition=None)
