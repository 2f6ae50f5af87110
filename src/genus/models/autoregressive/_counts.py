"""What the histogram and the Markov chain share: rows of counts, smoothed into probabilities.

Every entry x_i belongs to one row of a table, found from its class label, its position and
the entry before it; the row holds how often each level came there in the training data, and

    p(x_i = v) = (counts[row, v] + s) / (sum of the row + s * levels)

with pseudo-counts s ("add-s smoothing"), so that what was never seen is not impossible. A
table that was never fitted is uniform: exactly log2(levels) bits an entry.
"""

from abc import abstractmethod

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
from genus.domain import Discrete, Domain, Grid, Label, Tokens, Waveform
from genus.prob import noise
from genus.recipe import Recipe

LARGEST = 200_000_000  # counts of a table: 1.6 GB


class CountTable(GenerativeModel, HasLogProb, HasConditionals, IsConditional, FitsInClosedForm):
    """A model that is one table of counts; a subclass says in which row an entry is looked up.

    Entries are read in order (pictures in raster order: channel, row, column), each the next one's "previous", also
    across the ends of rows and channels. The first entry's previous value reads as 0.

    rows: rows of the table per class label. smoothing: pseudo-counts s >= 0 per level.
    """

    domains = (Grid, Tokens, Waveform)
    recipes = {"quick": Recipe(), "paper": Recipe()}  # noqa: RUF012  one pass over the data: nothing to choose
    domain: Discrete
    counts: Tensor

    def __init__(self, domain: Discrete, condition: Domain | None, rows: int, smoothing: float):
        super().__init__(domain, condition)
        if condition is not None and not isinstance(condition, Label):
            raise ValueError(f"{name_of(self)} can be conditioned on a label only; got {condition}.")
        if not 0 <= smoothing < float("inf"):
            raise ValueError(f"smoothing: expected pseudo-counts of 0 or more; got {smoothing}.")
        self.smoothing = smoothing
        rows *= condition.count if condition is not None else 1
        if rows * domain.levels > LARGEST:
            size = f"{rows:,} x {domain.levels} = {rows * domain.levels:,} counts"
            raise ValueError(
                f"{name_of(self)} would need a table of {size} for {domain}, over {LARGEST:,}; share one table "
                "among the positions (shared=True) or use fewer levels."
            )
        self.register_buffer("counts", torch.zeros(rows, domain.levels, dtype=torch.int64))

    @abstractmethod
    def row(self, label: Tensor, position: Tensor, previous: Tensor) -> Tensor:
        """The row of the table for entries with this label, position and previous value (they broadcast)."""

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    @property
    def num_parameters(self) -> int:
        """Free parameters: every row is a distribution, so it has one less than levels."""
        return len(self.counts) * (self.domain.levels - 1)

    def labels(self, condition: Tensor | None, count: int) -> Tensor:
        """Class labels ``(B,)``; zeros where the model has no condition."""
        check_condition(self, condition, count)
        if condition is None:
            return torch.zeros(count, dtype=torch.int64, device=self.counts.device)
        return condition.to(self.counts.device, torch.int64)

    def rows_of(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The row that each entry of ``x`` is looked up in, ``(B, D)``."""
        previous = F.pad(x.flatten(1).long()[:, :-1], (1, 0))
        return self.row(
            self.labels(condition, len(x)).unsqueeze(1), torch.arange(self.domain.num_dims, device=x.device), previous
        )

    def check_keep(self, x: Tensor, keep: Tensor) -> None:
        """Raise a ValueError unless ``x`` is data and ``keep`` a boolean tensor of its shape."""
        self.domain.check(x)
        if keep.dtype != torch.bool or keep.shape != x.shape:
            raise ValueError(
                f"keep: expected booleans of the shape of x, {tuple(x.shape)}; got {keep.dtype}, {tuple(keep.shape)}."
            )

    def probabilities(self, rows: Tensor) -> Tensor:
        """The distributions of rows of the table, float64: ``(*rows.shape, levels)``."""
        weights = self.counts[rows].double() + self.smoothing
        total = weights.sum(-1, keepdim=True)
        return torch.where(total > 0, weights / total, 1 / self.domain.levels)  # never seen, no smoothing: uniform

    def fit(self, split: Split) -> None:
        self.counts.zero_()
        for batch in batches(split, 1000):
            x = batch.x.to(self.counts.device)
            cells = self.rows_of(x, batch.condition) * self.domain.levels + x.flatten(1)
            self.counts.view(-1).index_add_(0, cells.flatten(), torch.ones_like(cells).flatten())

    def log_prob(
        self,
        x: Tensor,
        *,
        condition: Tensor | None = None,
        num_samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        self.domain.check(x)
        rows = self.rows_of(x, condition)
        weight = self.counts[rows, x.flatten(1).long()].double() + self.smoothing
        total = (self.counts.sum(-1).double() + self.smoothing * self.domain.levels)[rows]
        return torch.where(total > 0, weight / total, 1 / self.domain.levels).log().sum(-1)

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        labels = self.labels(condition, count)
        previous = torch.zeros_like(labels)
        for place in range(self.domain.num_dims):
            row = self.row(labels, torch.tensor(place, device=labels.device), previous)
            previous = yield place, self.probabilities(row).log()

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x, condition=batch.condition)}

    def sample(
        self, count: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.walk(self.labels(condition, count), generator)

    def walk(self, labels: Tensor, generator: torch.Generator | None, messages: Tensor | None = None) -> Tensor:
        """Draw entry after entry, each from its row; ``messages`` (D, B, levels) multiply the rows."""
        entries = [torch.zeros_like(labels)]
        for position in range(self.domain.num_dims):
            p = self.probabilities(self.row(labels, torch.tensor(position, device=labels.device), entries[-1]))
            entries.append(noise.categorical((p if messages is None else p * messages[position]).log(), generator))
        return torch.stack(entries[1:], 1).to(self.domain.dtype).view(len(labels), *self.domain.shape)
