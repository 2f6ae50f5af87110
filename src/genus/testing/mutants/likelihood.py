"""Numbers that are not the likelihood that they claim to be."""
# ruff: noqa: D102  a mutant's own docstring says what it breaks

import math

import torch
from torch import Tensor

from genus.kinds import Grid, Vectors
from genus.prob import discretized_logistic, noise
from genus.testing import checks
from genus.testing.mutants._mutant import mutant
from genus.testing.mutants._toys import Affine, Bins, Chain, Switch


class LeakyMask(Chain):
    """An entry reads itself: the mask's diagonal is open."""

    def mask(self) -> Tensor:
        return torch.ones_like(self.weight[:, 0]).tril(0).unsqueeze(1)


class Unnormalised(Chain):
    """Logits taken for log-probabilities."""

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        nats = self.logits(x, condition)
        return nats.gather(-1, x.flatten(1).long().unsqueeze(-1)).sum((1, 2))


class SamplesAnotherDistribution(Chain):
    """Samples at half the temperature; log_prob does not know."""

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        start = self.start.data
        self.start.data = 2 * start
        drawn = super()._edit(x, keep, condition, generator)
        self.start.data = start
        return drawn


class ReadsTheBatch(Chain):
    """Normalises over the batch when it scores."""

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().logits(x, condition) * (1 + 0.1 * x.float().mean())


class ReadsTheOrder(Chain):
    """Scores an item by its place in the batch."""

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        place = torch.arange(len(x)).view(-1, 1, 1) / len(x)
        return super().logits(x, condition) * (1 + 0.1 * place)


class ScoresByChance(Chain):
    """Calls a number exact that moves with the generator."""

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        return super()._log_prob(x, condition, num_samples, generator) - 0.01 * noise.uniform((len(x),), generator)


class WrongLogDetSign(Affine):
    """Adds the log-determinant of the other direction."""

    def log_det(self) -> Tensor:
        return -super().log_det()


class ForgetsTheDataScale(Affine):
    """Standardises the data and leaves that out of the log-determinant."""

    def log_det(self) -> Tensor:
        return -self.log_scale.sum()


class SingleOnly(Affine):
    """Works in half precision inside, so float64 changes the number."""

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        z = super()._encode(x, condition)
        return z.to(torch.float16).to(z.dtype) if z.dtype == torch.float64 else z


class BoundAboveTruth(Switch):
    """Takes the best coin instead of the mean of both."""

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        return self.log_weights(x, 16, noise.stream("best")).amax(0)


class LooserWithMore(Switch):
    """Averages logarithms, and subtracts log K once more."""

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        nats = super()._log_prob(x, condition, num_samples, generator)
        return nats - math.log(num_samples)


class ClosedEndBins(Bins):
    """The first and the last bin end half a step outside: what lies beyond is lost."""

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        half, u = 1 / (self.domain.levels - 1), discretized_logistic.to_unit(x, self.domain.levels, self.mean.dtype)
        edge = [torch.sigmoid((u + side - self.mean) * torch.exp(-self.log_scale)) for side in (half, -half)]
        return (edge[0] - edge[1]).clamp(min=1e-12).log().flatten(1).sum(1)


MUTANTS = (
    mutant(LeakyMask, Chain, checks.check_total_mass),
    mutant(Unnormalised, Chain, checks.check_total_mass),
    mutant(ClosedEndBins, Bins, checks.check_total_mass, Grid(1, (1, 2), 5)),
    mutant(BoundAboveTruth, Switch, checks.check_total_mass),
    mutant(BoundAboveTruth, Switch, checks.check_samples_follow_log_prob),
    mutant(LooserWithMore, Switch, checks.check_more_samples_are_tighter),
    mutant(SamplesAnotherDistribution, Chain, checks.check_samples_follow_log_prob),
    mutant(WrongLogDetSign, Affine, checks.check_total_density, Vectors(2)),
    mutant(ForgetsTheDataScale, Affine, checks.check_total_density, Vectors(2)),
    mutant(WrongLogDetSign, Affine, checks.check_samples_follow_density, Vectors(2)),
    mutant(WrongLogDetSign, Affine, checks.check_change_of_variables, Vectors(2)),
    mutant(SingleOnly, Affine, checks.check_float64, Vectors(2)),
    mutant(ScoresByChance, Chain, checks.check_log_prob),
    mutant(ReadsTheBatch, Chain, checks.check_items_are_independent),
    mutant(ReadsTheOrder, Chain, checks.check_items_are_independent),
)
