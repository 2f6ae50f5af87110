"""Histogram: every entry on its own. The floor that every other model must stand above.

p(x) = prod_i p(x_i), and each p(x_i) is a smoothed count of levels; Shannon's zeroth
approximation of a source. On two levels it is the independent Bernoulli model (binarized
MNIST: 205.8 nats), on 256 levels the grey-value histogram (MNIST: 1.689 bits/dim per pixel,
1.967 with one histogram for all pixels). It has D (levels - 1) free parameters.

Promises: exact log p(x), a fit in one pass, conditional on a label, and exact completion:
entries are independent, so what is kept says nothing about the rest.
"""

from typing import Any, Self

import torch
from torch import Tensor

from genus.contract import IsEditable
from genus.kinds import Discrete, Domain
from genus.models.autoregressive._counts import ChainTable, classes_of


class Histogram(ChainTable, IsEditable):
    """Independent entries, each with the smoothed frequencies of its levels.

    Args:
        shared: one histogram for all entries, rather than one for each position.
        smoothing: pseudo-counts added to every level; by default 1 where the histogram is
            shared or has two levels, 0.05 otherwise.
    """

    paper = "Shannon (1948). A Mathematical Theory of Communication. https://doi.org/10.1002/j.1538-7305.1948.tb01338.x"
    smaller = "share one histogram among the positions (shared=True) or use fewer levels"

    def __init__(
        self, domain: Discrete, condition: Domain | None = None, *, shared: bool = False, smoothing: float | None = None
    ):
        default = 1.0 if shared or domain.levels == 2 else 0.05
        super().__init__(domain, condition, default if smoothing is None else smoothing)
        positions, size = 1 if shared else domain.num_dims, domain.num_dims
        self.allocate(positions, domain.levels, self.free_parameters(domain, condition, shared=shared))
        self.lay_out(torch.zeros(size, 0, dtype=torch.int64), torch.arange(size) % positions)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition)  # type: ignore[arg-type]  # __init__ refuses other domains

    @classmethod
    def free_parameters(
        cls, domain: Discrete, condition: Domain | None = None, *, shared: bool = False, **others: Any
    ) -> int:
        return classes_of(condition) * (1 if shared else domain.num_dims) * (domain.levels - 1)

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.where(keep, x, self.sample(len(x), condition=condition, generator=generator))
