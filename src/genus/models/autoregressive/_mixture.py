"""A mixture over orderings: p(x) = 1/K sum_k p_k(x), each p_k the chain rule in an ordering of its own.

It is a distribution because each part is; an average of the parts' logits would be none, as together the
orderings see every entry. For K = 1 the mixture *is* a chain rule, so it can be walked entry by entry
(what compression needs). For K > 1 it cannot: the orderings agree on no first entry, and what p(x)
says of an entry in any one order would be a sum over all values of the entries that come later in it
and earlier in another.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from genus.contract import (
    GenerativeModel,
    HasConditionals,
    HasLogProb,
    IsConditional,
    Likelihood,
    Walk,
    check_condition,
    name_of,
)
from genus.errors import CapabilityError
from genus.kinds import Domain, Grid
from genus.models.autoregressive._entries import width_of
from genus.prob import chain, noise


class OrderingMixture(GenerativeModel, HasLogProb, HasConditionals, IsConditional):
    """A model of grids in ``orderings`` orderings; subclasses give the chain rule in each (`walk_in`)."""

    domains = (Grid,)
    domain: Grid

    def __init__(self, domain: Grid, condition: Domain | None, orderings: int):
        super().__init__(domain, condition)
        if orderings < 1:
            raise ValueError(f"orderings: expected at least 1; got {orderings}.")
        self.orderings, self.width = orderings, width_of(domain)

    @abstractmethod
    def walk_in(self, number: int, count: int, condition: Tensor | None) -> Walk:
        """Through all entries in an ordering."""

    def log_prob_in(self, number: int, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p_k(x) of one ordering, ``(B,)``."""
        return chain.score(self.walk_in(number, len(x), condition), x.flatten(1))

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """Of the mixture of all orderings."""
        nats = torch.stack([self.log_prob_in(number, x, condition) for number in range(self.orderings)])
        return nats.logsumexp(0) - math.log(self.orderings)

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        """Of the one ordering; a mixture of several has none, and is refused."""
        if self.orderings > 1:
            raise CapabilityError(
                f"{name_of(self)} with orderings={self.orderings} has no chain rule entry by entry, so it cannot "
                "compress: each ordering of the mixture reads in an order of its own. Train it with --orderings 1."
            )
        check_condition(self, condition, count)
        return self.walk_in(0, count, condition)

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Each datum in an ordering of its own; those of one ordering are drawn together."""
        numbers = noise.integers(self.orderings, (count,), generator, self.device)
        x = torch.zeros(count, self.domain.num_dims, dtype=self.domain.dtype, device=self.device)
        for number in numbers.unique().tolist():
            rows = numbers == number
            given = None if condition is None else condition[rows]
            x[rows] = chain.fill(self.walk_in(number, int(rows.sum()), given), x[rows], generator)
        return x.view(count, *self.domain.shape)
