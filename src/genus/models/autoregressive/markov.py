r"""Markov: every entry given the k before it. What a table of neighbours already knows.

p(x) = prod_i p(x_i | x_{i-k} ... x_{i-1}) in raster order (channel, row, column). The chain runs
on across the ends of rows and channels, and before the first entry stand zeros. By default all
positions share one table of transitions (a homogeneous chain; at order 1 MNIST 1.418 bits/dim,
binarized 180.4 nats); with one table per position binarized MNIST comes to 145.4 nats.

Free parameters on n binary entries at order 1: 2n - 1 with a table per position (the first entry
has no predecessor), 2 with a shared one; `Markov.free_parameters` tells them for any settings.

A chain can be conditioned exactly on *any* of its entries, so completion needs no retries. With
c for the last k entries, backward filtering collects what the kept entries say about those before,

    beta_D(c) = 1,    beta_{i-1}(c) = sum_v p(x_i = v | c) e_i(v) beta_i(c followed by v),

where e_i(v) is 1 if entry i may be v (any v if it is unknown, only its value if it is kept), and
"followed by" drops the oldest entry; then forward sampling draws x_i from
p(x_i | c) e_i(x_i) beta_i(c followed by x_i), renormalised (Rabiner 1989, section III, for a chain
that is observed in places; order k is order 1 on the words of k entries).

Promises: exact log p(x), a fit in one pass, conditional on a label, exact completion.
"""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.contract import IsEditable
from genus.kinds import Discrete, Domain
from genus.models.autoregressive._counts import ChainTable, classes_of
from genus.prob import noise

HIGHEST = 64  # even with two levels, a table of this order fits nowhere
MOST_NUMBERS = 2**25  # float64 numbers of backward filtering held at a time


class Markov(ChainTable, IsEditable):
    """A Markov chain in raster order.

    Args:
        order: how many entries before it an entry is given.
        shared: one table of transitions for all entries, rather than one for each position.
        smoothing: pseudo-counts added to every transition; by default 0.5 for two levels,
            0.05 otherwise.
    """

    paper = (
        "Markov (1913). An Example of Statistical Investigation of the Text Eugene Onegin Concerning the "
        "Connection of Samples in Chains. https://doi.org/10.1017/S0269889706001074"
    )
    smaller = "share one table among the positions (shared=True), choose a smaller order or use fewer levels"

    def __init__(
        self,
        domain: Discrete,
        condition: Domain | None = None,
        *,
        order: int = 1,
        shared: bool = True,
        smoothing: float | None = None,
    ):
        default = 0.5 if domain.levels == 2 else 0.05
        super().__init__(domain, condition, default if smoothing is None else smoothing)
        free = self.free_parameters(domain, condition, order=order, shared=shared)
        size = domain.num_dims
        self.order = max(1, min(order, size - 1))  # beyond the first entry there are only zeros
        self.contexts = domain.levels**self.order
        positions = 1 if shared else size
        self.allocate(positions * self.contexts, domain.levels, free)
        parents = torch.arange(size).unsqueeze(1) - torch.arange(self.order, 0, -1)
        self.lay_out(torch.where(parents < 0, size, parents), self.contexts * (torch.arange(size) % positions))

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition)  # type: ignore[arg-type]  # __init__ refuses other domains

    @classmethod
    def free_parameters(
        cls, domain: Discrete, condition: Domain | None = None, *, order: int = 1, shared: bool = True, **others: Any
    ) -> int:
        if not 1 <= order <= HIGHEST:
            raise ValueError(f"order: expected 1 to {HIGHEST}; got {order}.")
        levels, size = domain.levels, domain.num_dims
        order = min(order, size - 1)
        starting = sum(levels**known for known in range(order))  # contexts of the entries that know fewer than k
        contexts = levels**order if shared else starting + (size - order) * levels**order
        return classes_of(condition) * contexts * (levels - 1)

    def transitions(self, place: int) -> Tensor:
        """p(x_place = v | the entries before) of every class: ``(classes, contexts, levels)``."""
        device = self.counts.device
        starts = torch.arange(self.classes, device=device) * (len(self.counts) // self.classes)
        rows = starts.unsqueeze(1) + self.first[place] + torch.arange(self.contexts, device=device)
        return self.probabilities(rows)

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        labels, numbers = self.labels(condition, len(x)), self.domain.num_dims * self.contexts
        if numbers > 8 * MOST_NUMBERS:
            raise ValueError(
                f"completion at order {self.order} holds {numbers:,} numbers a datum of {self.domain}, "
                f"over {8 * MOST_NUMBERS:,}; choose a smaller order."
            )
        block = max(1, MOST_NUMBERS // numbers)
        parts = zip(x.split(block), keep.split(block), labels.split(block), strict=True)
        return torch.cat([self.complete(*part, generator) for part in parts])

    def complete(self, x: Tensor, keep: Tensor, labels: Tensor, generator: torch.Generator | None) -> Tensor:
        """`edit` of a block of data with labels ``(B,)``."""
        levels, size, each = self.domain.levels, self.domain.num_dims, torch.arange(len(x), device=x.device)
        recent = self.contexts // levels  # values of a context without its oldest entry
        entries = F.one_hot(x.flatten(1).long(), levels).double()
        allowed = torch.where(keep.flatten(1).unsqueeze(-1), entries, 1.0).unsqueeze(2)  # e_i: (B, D, 1, levels)
        messages = [allowed[:, size - 1].expand(-1, recent, -1)]  # e_i beta_i, the last first: (B, recent, levels)
        for i in reversed(range(1, size)):
            table = self.transitions(i).view(self.classes, levels, recent, levels)
            beta = torch.einsum("corv,brv->cbor", table, messages[-1])[labels, each]
            beta = beta.reshape(-1, recent, levels)  # the context of entry i, read as that after entry i - 1
            messages.append(allowed[:, i - 1] * beta / beta.amax((1, 2), keepdim=True))
        possible = (self.transitions(0)[labels, 0] * messages[-1][:, 0]).sum(-1) > 0
        if not possible.all() or not all(message.isfinite().all() for message in messages):
            raise ValueError("the kept entries have probability 0 under this chain; fit it with smoothing above 0.")
        known = torch.zeros(len(x), size + 1, dtype=torch.int64, device=x.device)
        context = torch.zeros_like(labels)
        for i in range(size):
            after = messages[size - 1 - i][each, context % recent]
            p = self.probabilities(self.row(labels, known, i)) * after
            known[:, i] = noise.categorical(p.log(), generator)
            context = context % recent * levels + known[:, i]
        return torch.where(keep, x, known[:, :-1].to(x.dtype).view(x.shape))
