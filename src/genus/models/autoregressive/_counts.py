"""What the counting models share: a table of counts, smoothed into probabilities.

A datum is looked up in cells of the table; a row of the table is a distribution, and its cells
hold how often each outcome came in the training data:

    p(outcome | row) = (counts[row, outcome] + s) / (sum of the row + s * outcomes)

with pseudo-counts s ("add-s smoothing"), so that what was never seen is not impossible. A table
that was never fitted is uniform: exactly log2(levels) bits an entry.

`CountTable` is any such model. `ChainTable` is the chain rule with a row for each entry, found from
its class label, its position and the values of some entries before it: its parents.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.contract import (
    Batch,
    FitsInClosedForm,
    GenerativeModel,
    HasConditionals,
    HasLogProb,
    IsConditional,
    Likelihood,
    Losses,
    Split,
    Walk,
    batches,
    check_condition,
    name_of,
)
from genus.kinds import Discrete, Domain, Grid, Label, Tokens, Waveform
from genus.prob import chain
from genus.recipe import Recipe

LARGEST = 200_000_000  # counts of a table: 1.6 GB
MOST_STATES = 2**25  # of a datum whose every state has a cell; a pixel of three bytes has 2**24


class CountTable(GenerativeModel, HasLogProb, HasConditionals, IsConditional, FitsInClosedForm):
    """A model that is one table of counts; a subclass says in which cells a datum is counted.

    smoothing: pseudo-counts s >= 0 per outcome.
    """

    domains: ClassVar[tuple[type[Domain], ...]] = (Grid, Tokens, Waveform)
    recipes = {"quick": Recipe(), "paper": Recipe()}  # noqa: RUF012  one pass over the data: nothing to choose
    smaller: ClassVar[str]
    """What to do where the table would be too large, as a clause."""
    domain: Discrete
    counts: Tensor

    def __init__(self, domain: Discrete, condition: Domain | None, smoothing: float):
        super().__init__(domain, condition)
        if not 0 <= smoothing < float("inf"):
            raise ValueError(f"smoothing: expected pseudo-counts of 0 or more; got {smoothing}.")
        self.smoothing = smoothing
        self.classes = classes_of(condition)

    @classmethod
    @abstractmethod
    def free_parameters(cls, domain: Discrete, condition: Domain | None = None, **settings: Any) -> int:
        """How many free numbers the model would have with these settings of its constructor, before it is
        built: each distribution that data can reach has one less than outcomes."""

    def allocate(self, rows: int, outcomes: int, free: int) -> None:
        """Make the table: ``rows`` for each class. Raises a ValueError with the number of free parameters
        where it cannot fit."""
        counts = self.classes * rows * outcomes
        if counts > LARGEST:
            raise ValueError(
                f"{name_of(self)} would have {readable(free)} free parameters for {self.domain}, in a table of "
                f"{readable(counts)} counts, over {LARGEST:,}; {self.smaller}."
            )
        self.free = free
        self.register_buffer("counts", torch.zeros(self.classes * rows, outcomes, dtype=torch.int64))

    @abstractmethod
    def cells(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows and columns of the cells whose probabilities multiply to p(x), each ``(B, n)``."""

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    @property
    def num_parameters(self) -> int:
        """Free parameters, as `free_parameters` tells."""
        return self.free

    def labels(self, condition: Tensor | None, count: int) -> Tensor:
        """Class labels ``(B,)``; zeros where the model has no condition."""
        check_condition(self, condition, count)
        if condition is None:
            return torch.zeros(count, dtype=torch.int64, device=self.counts.device)
        return condition.to(self.counts.device, torch.int64)

    def probabilities(self, rows: Tensor) -> Tensor:
        """The distributions of rows of the table, float64: ``(*rows.shape, outcomes)``."""
        return normalised(self.counts[rows].double() + self.smoothing)

    def fit(self, split: Split) -> None:
        self.counts.zero_()
        for batch in batches(split, 1000):
            rows, columns = self.cells(batch.x.to(self.counts.device), batch.condition)
            cells = (rows * self.counts.shape[1] + columns).flatten()
            self.counts.view(-1).index_add_(0, cells, torch.ones_like(cells))

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        rows, columns = self.cells(x, condition)
        outcomes = self.counts.shape[1]
        weight = self.counts[rows, columns].double() + self.smoothing
        total = (self.counts.sum(-1).double() + self.smoothing * outcomes)[rows]
        return torch.where(total > 0, weight / total, 1 / outcomes).log().sum(-1)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x, condition=batch.condition)}

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        entries = torch.zeros(count, self.domain.num_dims, dtype=self.domain.dtype, device=self.counts.device)
        return chain.fill(self.chain_rule(count, condition=condition), entries, generator).view(-1, *self.domain.shape)


class ChainTable(CountTable):
    """p(x) as the product of the entries given their parents, in raster order (channel, row, column).

    parents: ``(D, k)``, the places of the entries that each entry is looked up by; D stands for
    none, which reads as 0. first: ``(D,)``, the first row of each position; the parents' values,
    read as a number in base ``levels``, count on from there.
    """

    parents: Tensor
    first: Tensor
    powers: Tensor

    def lay_out(self, parents: Tensor, first: Tensor) -> None:
        """Fix which entries look at which; nothing of it is learned, so no checkpoint carries it."""
        powers = self.domain.levels ** torch.arange(parents.shape[1] - 1, -1, -1)
        for name, value in (("parents", parents), ("first", first), ("powers", powers)):
            self.register_buffer(name, value, persistent=False)

    def row(self, label: Tensor, known: Tensor, place: int | slice) -> Tensor:
        """The rows for a place ``(B,)`` or several ``(B, P)``; ``known`` are the entries ``(B, D + 1)``, the
        last one 0."""
        contexts = (known[:, self.parents[place]] * self.powers).sum(-1)
        start = label * (len(self.counts) // self.classes)
        return contexts + self.first[place] + (start if isinstance(place, int) else start.unsqueeze(1))

    def cells(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        entries = x.flatten(1).long()
        return self.row(self.labels(condition, len(x)), F.pad(entries, (0, 1)), slice(None)), entries

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        label = self.labels(condition, count)
        known = torch.zeros(count, self.domain.num_dims + 1, dtype=torch.int64, device=label.device)
        for place in range(self.domain.num_dims):
            known[:, place] = yield place, self.probabilities(self.row(label, known, place)).log()


def normalised(weights: Tensor) -> Tensor:
    """Rows of weights as distributions; a row of zeros (never seen, no smoothing) is uniform."""
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / total, 1 / weights.shape[-1])


def classes_of(condition: Domain | None) -> int:
    """How many distributions a conditional model holds."""
    return condition.count if isinstance(condition, Label) else 1


def refuse_states(cls: type[CountTable], domain: Domain) -> str | None:
    """Why a model with a cell for every state of a datum cannot model ``domain``; None if it can."""
    if domain.levels is None or domain.num_dims * math.log2(domain.levels) <= math.log2(MOST_STATES):
        return None
    states = f"{domain.levels}^{domain.num_dims} - 1"
    size = scientific(domain.num_dims * math.log10(domain.levels))
    return (
        f"{name_of(cls)} would have {states}, about {size}, free parameters for {domain}; it can count up to "
        f"{MOST_STATES:,} states: {cls.smaller}."
    )


def readable(number: int) -> str:
    """A whole number for reading: ``200,704``, or ``about 1.0e236``."""
    return f"{number:,}" if number < 10**15 else f"about {scientific(math.log10(number))}"


def scientific(log10: float) -> str:
    """10 to the power of ``log10``, which may be beyond any float: ``1.0e236``."""
    exponent = math.floor(log10)
    mantissa = round(10 ** (log10 - exponent), 1)
    return f"{mantissa:.1f}e{exponent}" if mantissa < 10 else f"1.0e{exponent + 1}"
