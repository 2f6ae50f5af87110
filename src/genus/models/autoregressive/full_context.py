"""Full context: the chain rule with nothing left out, a table for each entry given *all* entries before it.

p(x) = prod_i p(x_i | x_1 ... x_{i-1}), and entry i has a distribution for each of the K^{i-1}
beginnings. That is sum_i (K - 1) K^{i-1} = K^n - 1 free parameters, those of the joint table to the
last one: the chain rule alone saves nothing, only leaving out context (`markov`, `markov_mesh`) or
computing it by a network (`nade`, `pixelcnn`) does. Without smoothing it *is* the joint table;
with it, a beginning that was never seen falls back on the pseudo-counts, a uniform guess.

Promises: exact log p(x), a fit in one pass, conditional on a label.
"""

from typing import Any, Self

import torch

from genus.kinds import Discrete, Domain
from genus.models.autoregressive._counts import ChainTable, classes_of, refuse_states


class FullContext(ChainTable):
    """The chain rule by tables.

    Args:
        smoothing: pseudo-counts added to every level of every entry; by default 0.5 for two
            levels, 0.05 otherwise.
    """

    paper = "Shannon (1948). A Mathematical Theory of Communication. https://doi.org/10.1002/j.1538-7305.1948.tb01338.x"
    smaller = "use fewer entries or levels, or leave out context, as markov and markov_mesh do"

    def __init__(self, domain: Discrete, condition: Domain | None = None, *, smoothing: float | None = None):
        default = 0.5 if domain.levels == 2 else 0.05
        super().__init__(domain, condition, default if smoothing is None else smoothing)
        size, levels = domain.num_dims, domain.levels
        first = (levels ** torch.arange(size + 1) - 1) // (levels - 1)  # 0, 1, 1 + K, 1 + K + K^2 ...
        self.allocate(int(first[-1]), levels, self.free_parameters(domain, condition))
        parents = torch.arange(size).unsqueeze(1) - torch.arange(size - 1, 0, -1)
        self.lay_out(torch.where(parents < 0, size, parents), first[:-1])

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        return super().refuses(domain) or refuse_states(cls, domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition)  # type: ignore[arg-type]  # __init__ refuses other domains

    @classmethod
    def free_parameters(cls, domain: Discrete, condition: Domain | None = None, **others: Any) -> int:
        return classes_of(condition) * (domain.levels**domain.num_dims - 1)
