"""Conditions that are made up, or not read."""
# ruff: noqa: D102  a mutant's own docstring says what it breaks

import torch
from torch import Tensor

from genus.kinds import Domain, Grid, Parts, Vectors
from genus.testing import checks
from genus.testing.mutants._mutant import mutant
from genus.testing.mutants._toys import Chain, Guided
from genus.testing.subjects import LABELS


class IgnoresCondition(Chain):
    """Takes the label, and then the table of class 0."""

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().logits(x, condition if condition is None else torch.zeros_like(condition))


class NeverAsks(Chain):
    """Makes up a condition where none was given."""

    def given(self, condition: Tensor | None, count: int) -> Tensor | None:
        if self.condition is not None and condition is None:
            condition = torch.zeros(count, dtype=torch.int64)
        return super().given(condition, count)


class ReadsOnePart(Guided):
    """Of a condition of two parts, reads the first."""

    def numbers(self, condition: Tensor) -> Tensor:
        numbers = super().numbers(condition).clone()
        assert isinstance(self.condition, Parts)
        numbers[:, self.condition.parts[0][1].num_dims :] = 0
        return numbers


class MakesDoWithout(Guided):
    """Says that it needs a condition, and is built without one."""

    @classmethod
    def refuses_condition(cls, domain: Domain, condition: Domain | None) -> str | None:
        return None if condition is None else super().refuses_condition(domain, condition)

    def __init__(self, domain: Grid, condition: Domain | None = None):
        super().__init__(domain, condition or LABELS)


class ClaimsToBeCertain(Guided):
    """Says that its condition decides the datum, and draws."""

    deterministic = True


PARTS = Parts((("style", Vectors(2)), ("label", LABELS)))

MUTANTS = (
    mutant(ReadsOnePart, Guided, checks.check_every_part_of_a_condition_is_read, condition=PARTS),
    mutant(ClaimsToBeCertain, Guided, checks.check_same_generator_same_samples, condition=LABELS),
    mutant(MakesDoWithout, Guided, checks.check_condition_is_asked_for, condition=LABELS),
    mutant(IgnoresCondition, Chain, checks.check_condition_changes_the_distribution, condition=LABELS),
    mutant(NeverAsks, Chain, checks.check_condition_is_asked_for, condition=LABELS),
)
