"""Editors that touch what they should keep."""

import torch
from torch import Tensor

from genus.testing import checks
from genus.testing.mutants._mutant import mutant
from genus.testing.mutants._toys import Chain


class RedrawsKeptPart(Chain):
    """Keeps nothing."""

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return super()._edit(x, torch.zeros_like(keep), condition, generator)


class EditsInPlace(Chain):
    """Writes into the caller's data."""

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return x.copy_(super()._edit(x, keep, condition, generator))


MUTANTS = (
    mutant(RedrawsKeptPart, Chain, checks.check_edit),
    mutant(EditsInPlace, Chain, checks.check_edit),
)
