"""Broken promises to training."""
# ruff: noqa: D102  a mutant's own docstring says what it breaks

import torch
from torch import nn

from genus.contract import Batch, Losses, Split, Symptom
from genus.kinds import Grid, Label
from genus.testing import checks
from genus.testing.mutants._mutant import mutant
from genus.testing.mutants._toys import Chain, Counted, FadesIn, Switch


class SummedLoss(Chain):
    """One number for the whole batch."""

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": super().losses(batch, generator)["loss"].sum()}


class DrawsForThePart(Switch):
    """Its loss averages over three coins whose first axis is not the batch: a slice of a batch draws others."""

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x, condition=batch.condition, num_samples=3, generator=generator)}


class DeadParameter(Chain):
    """A layer that nothing reads."""

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.forgotten = nn.Linear(2, 2)


class ClimbsTheLoss(Chain):
    """Minimises the likelihood."""

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        nats = self.log_prob(batch.x, condition=batch.condition)
        return {"loss": nats - 2 * nats.detach()}  # the right value with the wrong gradient


class RanksByAWarmUp(Chain):
    """A loss whose weight rises during training also ranks the checkpoints."""

    stage = 1.0

    def progress(self, fraction: float) -> None:
        self.stage = fraction

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": self.stage * super().losses(batch, generator)["loss"]}


class CuresByNoSetting(Chain):
    """Advises what cannot be set."""

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        return [Symptom("hiccups", "It hiccups.", "Try --a-glass-of-water.")]


class LearnsWhileLookedAt(Chain):
    """Looking for symptoms moves a weight."""

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        self.weight.data += 1e-3
        return []


class LooksByChance(Chain):
    """Finds now this, now that."""

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        chance = float(torch.rand(()))  # genus: allow-global-noise
        return [Symptom("a number", f"It is {chance:.4f}.", "Try a lower --learning-rate.")]


class FitsNothing(Counted):
    """Counts the zeros as ones."""

    def fit(self, split: Split) -> None:
        super().fit(split)
        self.frequency.copy_(1 - self.frequency)


class FitsAgainAndAgain(Counted):
    """Adds to what an earlier fit left."""

    def fit(self, split: Split) -> None:
        before = self.frequency.clone()
        super().fit(split)
        self.frequency.copy_((self.frequency + before) / 2)


class NormalisesTheBatch(Chain):
    """Batch norm in its loss, and not a word on it."""

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.norm = nn.BatchNorm1d(domain.num_dims)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": super().losses(batch, generator)["loss"] + self.norm(batch.x.flatten(1).float()).sum(1)}


class WarnsInVain(Chain):
    """Says that its losses read the batch; they do not."""

    reads_batch = True


class SleepsThrough(FadesIn):
    """The part that should come in never does."""

    def progress(self, fraction: float) -> None:
        self.stage.fill_(0.0)


class DividesByTheRest(Chain):
    """Weighs a term by the time that is left; at the end there is none."""

    left = 1.0

    def progress(self, fraction: float) -> None:
        self.left = 1 - fraction

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        loss = super().losses(batch, generator)["loss"]
        return {"loss": loss + 0.1 * loss / self.left if self.left else loss / self.left}


MUTANTS = (
    mutant(NormalisesTheBatch, Chain, checks.check_parts),
    mutant(WarnsInVain, Chain, checks.check_parts),
    mutant(SleepsThrough, FadesIn, checks.check_gradients),
    mutant(DividesByTheRest, Chain, checks.check_gradients),
    mutant(DrawsForThePart, Switch, checks.check_parts),
    mutant(DeadParameter, Chain, checks.check_gradients),
    mutant(ClimbsTheLoss, Chain, checks.check_learning),
    mutant(RanksByAWarmUp, Chain, checks.check_criterion),
    mutant(CuresByNoSetting, Chain, checks.check_symptoms),
    mutant(LearnsWhileLookedAt, Chain, checks.check_symptoms),
    mutant(LooksByChance, Chain, checks.check_symptoms),
    mutant(SummedLoss, Chain, checks.check_losses),
    mutant(FitsNothing, Counted, checks.check_fit),
    mutant(FitsAgainAndAgain, Counted, checks.check_fit),
)
