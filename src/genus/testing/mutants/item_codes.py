"""Auto-decoders that take held-out data for training items, or infer codes together."""
# ruff: noqa: D102  a mutant's own docstring says what it breaks

import torch
from torch import Tensor

from genus.contract import Batch, Losses
from genus.kinds import Vectors
from genus.testing import checks
from genus.testing.mutants._mutant import mutant
from genus.testing.mutants._toys import Placed


class TakesThemForItems(Placed):
    """Where there are no numbers of items, counts from zero."""

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        index = torch.arange(len(batch.x)) if batch.index is None else batch.index
        return super().losses(batch._replace(index=index), generator)


class JudgesByTheTable(Placed):
    """Ranks checkpoints by the codes of training items."""

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return self.losses(batch._replace(index=torch.arange(len(batch.x))), generator)["loss"]


class InfersTogether(Placed):
    """The code of a datum is drawn to that of its batch."""

    def infer(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        codes = super().infer(batch, generator)
        return 0.5 * (codes + codes.mean(0))


class InfersNothing(Placed):
    """Gives every datum the code that descent starts from."""

    def infer(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return torch.zeros_like(super().infer(batch, generator))


MUTANTS = (
    mutant(TakesThemForItems, Placed, checks.check_item_codes, Vectors(2)),
    mutant(JudgesByTheTable, Placed, checks.check_item_codes, Vectors(2)),
    mutant(InfersTogether, Placed, checks.check_inference, Vectors(2)),
    mutant(InfersNothing, Placed, checks.check_inference, Vectors(2)),
)
