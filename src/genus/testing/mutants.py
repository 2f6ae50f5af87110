"""Broken models, each with the check that must catch it: the checks, checked.

Healthy toys (an autoregressive model, a flow, a latent switch, discretized bins, counts) pass every
check; each mutant is one of them with one promise broken, the way it is broken in practice.
A new check comes with a mutant here.
"""
# ruff: noqa: D102  a mutant's own docstring says what it breaks

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import (
    Batch,
    FitsInClosedForm,
    GenerativeModel,
    HasConditionals,
    HasLatents,
    HasLogProb,
    HasPosterior,
    IsConditional,
    IsEditable,
    Likelihood,
    Losses,
    Split,
    Symptom,
    Walk,
    batches,
    check_condition,
)
from genus.kinds import Domain, Grid, Label, Vectors
from genus.prob import discretized_logistic, gaussian, noise
from genus.prob.posterior import DiagonalNormal
from genus.recipe import Recipe
from genus.testing import checks
from genus.testing.subjects import LABELS, Subject

PAPER = "A toy of the checks (2026). Not a paper. https://example.org"
BINARY = Grid(1, (2, 2), 2)


class Toy(GenerativeModel):
    """What the healthy toys share."""

    paper = PAPER
    recipes: ClassVar[dict[str, Recipe]] = {"quick": Recipe(), "paper": Recipe()}

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        """The toys have one size."""
        return cls(domain, condition)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """The negative log-likelihood."""
        return {"loss": -self.log_prob(batch.x, condition=batch.condition, generator=generator)}


# -- healthy twins --------------------------------------------------------------------------


class Chain(Toy, HasLogProb, HasConditionals, IsConditional, IsEditable):
    """A fully visible belief network: entry i is a logistic regression on the entries before it."""

    domains = (Grid,)
    domain: Grid

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.weight = nn.Parameter(torch.zeros(domain.num_dims, domain.levels, domain.num_dims))
        classes = condition.count if condition is not None else 1
        self.start = nn.Parameter(torch.zeros(classes, domain.num_dims, domain.levels))

    @property
    def likelihood(self) -> Likelihood:
        """Exact, by the chain rule."""
        return Likelihood.EXACT

    def mask(self) -> Tensor:
        """Which entry may read which: the strict lower triangle."""
        return torch.ones_like(self.weight[:, 0]).tril(-1).unsqueeze(1)

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Unnormalised log-probabilities of every entry given those before it: ``(B, D, levels)``."""
        start = self.start[condition] if condition is not None else self.start
        flat = x.flatten(1).to(self.weight.dtype)
        return start + torch.einsum("bj,ilj->bil", flat, self.weight * self.mask())

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """The sum of the entries' log-probabilities."""
        nats = self.logits(x, condition).log_softmax(-1)
        return nats.gather(-1, x.flatten(1).long().unsqueeze(-1)).sum((1, 2))

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        """In raster order."""
        check_condition(self, condition, count)
        start = self.start[condition] if condition is not None else self.start
        x = torch.zeros(count, self.domain.num_dims, dtype=self.weight.dtype)
        for place in range(self.domain.num_dims):
            x[:, place] = yield place, start[:, place] + x @ self.weight[place].T  # later entries are 0 yet

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Entry by entry."""
        x = torch.zeros(count, *self.domain.shape, dtype=self.domain.dtype)
        return self.edit(x, torch.zeros_like(x, dtype=torch.bool), condition=condition, generator=generator)

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Entry by entry, except where one is kept."""
        flat, kept = x.flatten(1).clone(), keep.flatten(1)
        for i in range(self.domain.num_dims):
            drawn = noise.categorical(self.logits(flat, condition)[:, i], generator)
            flat[:, i] = torch.where(kept[:, i], flat[:, i], drawn.to(flat.dtype))
        return flat.view(x.shape)


class Affine(Toy, HasLogProb, HasLatents):
    """The smallest flow: x = shift + exp(log_scale) z with z ~ N(0, 1)."""

    domains = (Vectors,)
    data_scale: Tensor

    def __init__(self, domain: Vectors, condition: Label | None = None):
        super().__init__(domain, condition)
        self.shift = nn.Parameter(torch.zeros(domain.features))
        self.log_scale = nn.Parameter(torch.zeros(domain.features))
        self.register_buffer("data_scale", torch.ones(domain.features))

    @property
    def likelihood(self) -> Likelihood:
        """Exact, by the change of variables."""
        return Likelihood.EXACT

    def initialise(self, split: Split) -> None:
        """Start at the data's mean and spread."""
        x = next(batches(split, 1000)).x
        self.shift.data.copy_(x.mean(0))
        self.data_scale.copy_(x.std(0))

    def log_det(self) -> Tensor:
        """log |dz / dx|."""
        return -(self.log_scale + self.data_scale.log()).sum()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """One a feature."""
        return self.domain.shape

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """z of x."""
        return (x - self.shift) / (self.data_scale * self.log_scale.exp())

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """x of z."""
        return self.shift + self.data_scale * self.log_scale.exp() * z

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """log N(z) + log |dz / dx|."""
        z = self.encode(x)
        return gaussian.log_prob(z, torch.zeros_like(z), torch.zeros_like(z)).sum(1) + self.log_det()

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Decoded noise."""
        return self.decode(noise.normal((count, *self.domain.shape), generator))


class Switch(Toy, HasLogProb):
    """A hidden fair coin chooses one of two tables of probabilities; log_prob samples the coin.

    The importance-weighted bound with the prior as proposal: the mean of log (1/K) sum_k p(x|z_k)
    is below log p(x) and rises with K.
    """

    domains = (Grid,)

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.logits = nn.Parameter(torch.tensor([-1.0, 1.0]).view(2, 1).repeat(1, domain.num_dims))

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        """Two levels only."""
        return super().refuses(domain) or (None if domain.levels == 2 else "the switch is for two levels.")

    @property
    def likelihood(self) -> Likelihood:
        """A bound, in the mean."""
        return Likelihood.BOUND

    def log_weights(self, x: Tensor, num_samples: int, generator: torch.Generator | None) -> Tensor:
        """log p(x|z_k): ``(K, B)``."""
        z = noise.uniform((num_samples, len(x)), generator) < 0.5
        logits, flat = self.logits[z.long()], x.flatten(1).to(self.logits.dtype)
        return -F.binary_cross_entropy_with_logits(logits, flat.expand(num_samples, -1, -1), reduction="none").sum(-1)

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """log (1/K) sum_k p(x|z_k)."""
        return self.log_weights(x, num_samples, generator).logsumexp(0) - math.log(num_samples)

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """The coin, then the entries."""
        z = noise.uniform((count,), generator) < 0.5
        x = noise.bernoulli(self.logits[z.long()].sigmoid(), generator)
        return x.view(count, *self.domain.shape).to(self.domain.dtype)


class Bins(Toy, HasLogProb):
    """Independent entries, each a discretized logistic."""

    domains = (Grid,)
    domain: Grid

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.mean = nn.Parameter(torch.zeros(domain.shape))
        self.log_scale = nn.Parameter(torch.full(domain.shape, -1.0))

    @property
    def likelihood(self) -> Likelihood:
        """Exact: the bins sum to one."""
        return Likelihood.EXACT

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """The sum over entries."""
        return discretized_logistic.log_prob(x, self.mean, self.log_scale, self.domain.levels).flatten(1).sum(1)

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Every entry on its own."""
        mean, log_scale = (p.expand(count, *self.domain.shape) for p in (self.mean, self.log_scale))
        return discretized_logistic.sample(mean, log_scale, self.domain.levels, generator).to(self.domain.dtype)


class Counted(Toy, HasLogProb, FitsInClosedForm):
    """Independent binary entries with smoothed frequencies."""

    domains = (Grid,)
    frequency: Tensor

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.register_buffer("frequency", torch.full(domain.shape, 0.5))

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        """Two levels only."""
        return super().refuses(domain) or (None if domain.levels == 2 else "counted is for two levels.")

    @property
    def likelihood(self) -> Likelihood:
        """Exact."""
        return Likelihood.EXACT

    def fit(self, split: Split) -> None:
        """Add-one frequencies."""
        x = next(batches(split, len(split))).x.float()
        self.frequency.copy_((x.sum(0) + 1) / (len(x) + 2))

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """The sum over entries."""
        return torch.where(x == 1, self.frequency, 1 - self.frequency).log().flatten(1).sum(1)

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Every entry on its own."""
        return noise.bernoulli(self.frequency.expand(count, *self.domain.shape), generator).to(self.domain.dtype)


class Blend(Toy, HasPosterior):
    """One normal latent moves the logits of all entries; q is linear in the entries."""

    domains = (Grid,)

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.encoder = nn.Linear(domain.num_dims, 2)
        self.decoder = nn.Linear(1, domain.num_dims)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        """Two levels only."""
        return super().refuses(domain) or (None if domain.levels == 2 else "the blend is for two levels.")

    @property
    def latent_domain(self) -> Vectors:
        """One real number."""
        return Vectors(1)

    @property
    def decoder_likelihood(self) -> Likelihood:
        """Independent entries."""
        return Likelihood.EXACT

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> DiagonalNormal:
        """Mean and log-variance."""
        return DiagonalNormal(*self.encoder(x.flatten(1).to(self.encoder.weight.dtype)).chunk(2, 1))

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Standard normal."""
        return gaussian.log_prob(z, torch.zeros_like(z), torch.zeros_like(z)).sum(1)

    def sample_prior(
        self, count: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Standard normal."""
        return noise.normal((count, 1), generator, self.device, self.encoder.weight.dtype)

    def log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The sum over entries."""
        logits = self.decoder(z)
        return -F.binary_cross_entropy_with_logits(logits, x.flatten(1).to(z.dtype), reduction="none").sum(1)

    @torch.no_grad()
    def generate(self, z: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Entry by entry."""
        x = noise.bernoulli(self.decoder(z).sigmoid(), generator)
        return x.view(len(z), *self.domain.shape).to(self.domain.dtype)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """The negative ELBO, by one draw."""
        q = self.posterior(batch.x)
        return {"loss": -self.log_weight(batch.x, q.sample(1, generator), q)[0]}

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """The latent, then the entries."""
        return self.generate(noise.normal((count, 1), generator), None, generator)

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The posterior's mean."""
        return self.posterior(x).mean

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The more likely level."""
        return (self.decoder(z) > 0).view(len(z), *self.domain.shape).to(self.domain.dtype)


# -- mutants --------------------------------------------------------------------------------


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


class GlobalNoise(Chain):
    """Draws from torch's global generator."""

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.where(keep, x, (torch.rand(x.shape) < 0.5).to(x.dtype))  # genus: allow-global-noise


class FixedSeed(Chain):
    """Always the same samples."""

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return super()._sample(count, condition, noise.stream("fixed"))


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


class RedrawsKeptPart(Chain):
    """Keeps nothing."""

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return super()._edit(x, torch.zeros_like(keep), condition, generator)


class EditsInPlace(Chain):
    """Writes into the caller's data."""

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return x.copy_(super()._edit(x, keep, condition, generator))


class FloatSamples(Chain):
    """Gives samples as floats."""

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return super()._sample(count, condition, generator).float()


class SamplesAnotherDistribution(Chain):
    """Samples at half the temperature; log_prob does not know."""

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        start = self.start.data
        self.start.data = 2 * start
        drawn = super()._edit(x, keep, condition, generator)
        self.start.data = start
        return drawn


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


class SummedLoss(Chain):
    """One number for the whole batch."""

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": super().losses(batch, generator)["loss"].sum()}


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


class ClosedMind(Chain):
    """Scores whatever it is given, wrong shapes and types too."""

    def log_prob(self, x: Tensor, **options: object) -> Tensor:
        flat = x.flatten(1).long().clamp(0, self.domain.levels - 1)
        whole = F.pad(flat, (0, self.domain.num_dims - flat.shape[1])).view(-1, *self.domain.shape)
        return super().log_prob(whole, **options)  # type: ignore[arg-type]


class Undocumented(Chain):
    """A setting without a word on it."""

    def __init__(self, domain: Grid, condition: Label | None = None, *, secret: int = 3):
        super().__init__(domain, condition)


class WrongLogDetSign(Affine):
    """Adds the log-determinant of the other direction."""

    def log_det(self) -> Tensor:
        return -super().log_det()


class ForgetsTheDataScale(Affine):
    """Standardises the data and leaves that out of the log-determinant."""

    def log_det(self) -> Tensor:
        return -self.log_scale.sum()


class ForgetsItsScale(Affine):
    """Keeps the data's scale where no checkpoint sees it."""

    def __init__(self, domain: Vectors, condition: Label | None = None):
        super().__init__(domain, condition)
        del self.data_scale
        self.data_scale = torch.ones(domain.features)


class DecodesAnotherMap(Affine):
    """The inverse is not the inverse."""

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return super()._decode(1.2 * z, condition)


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


class ClaimsWithoutSigning(Toy):
    """Offers a log_prob that no role promises."""

    domains = (Grid,)

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.bias = nn.Parameter(torch.zeros(domain.shape))

    def log_prob(self, x: Tensor, **options: object) -> Tensor:
        """Unpromised."""
        return -F.binary_cross_entropy_with_logits(self.bias.expand(x.shape), x.float(), reduction="none").sum(
            (1, 2, 3)
        )

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return noise.bernoulli(self.bias.sigmoid().expand(count, *self.domain.shape), generator).to(self.domain.dtype)


class SkipsAPlace(Chain):
    """Its walk ends before the last entry."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk = super().chain_rule(count, condition=condition)
        step = next(walk)
        for _ in range(self.domain.num_dims - 1):
            step = walk.send((yield step))


class AsksTwice(Chain):
    """Its walk comes to each place twice, the second time with an answer that it knows: the sum stays right."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk = super().chain_rule(count, condition=condition)
        step, entry = next(walk), torch.zeros(0)
        for _ in range(self.domain.num_dims):
            entry = yield step
            yield step[0], 100.0 * F.one_hot(entry, self.domain.levels).to(step[1].dtype)
            try:
                step = walk.send(entry)
            except StopIteration:
                return


class WalksALukewarmLaw(Chain):
    """Its walk's logits are those of log_prob at another temperature."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk = super().chain_rule(count, condition=condition)
        place, logits = next(walk)
        for _ in range(self.domain.num_dims - 1):
            place, logits = walk.send((yield place, 1.01 * logits))
        yield place, 1.01 * logits


class WalksInSingle(Chain):
    """Its walk computes in float32 after `double()`."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk = super().chain_rule(count, condition=condition)
        place, logits = next(walk)
        for _ in range(self.domain.num_dims - 1):
            place, logits = walk.send((yield place, logits.float()))
        yield place, logits.float()


class WalksWithoutTheLabel(Chain):
    """Scores with the label, and walks with the table of class 0."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        check_condition(self, condition, count)
        return super().chain_rule(count, condition=condition if condition is None else torch.zeros_like(condition))


class WritesOverItsLogits(Chain):
    """Its walk gives the logits of every step in the same memory."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk, memory = super().chain_rule(count, condition=condition), torch.zeros(count, self.domain.levels)
        place, logits = next(walk)
        for _ in range(self.domain.num_dims - 1):
            place, logits = walk.send((yield place, memory.copy_(logits.detach())))
        yield place, memory.copy_(logits.detach())


class WalksAsOne(Chain):
    """Keeps what was sent on itself, so that two walks side by side are one."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        check_condition(self, condition, count)
        self.sent = torch.zeros(count, *self.domain.shape, dtype=torch.int64)
        for place in range(self.domain.num_dims):
            self.sent.view(count, -1)[:, place] = yield place, self.logits(self.sent, condition)[:, place]


class DrawsForThePart(Switch):
    """Its loss averages over three coins whose first axis is not the batch: a slice of a batch draws others."""

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x, condition=batch.condition, num_samples=3, generator=generator)}


class ForgetsAnEntry(Blend):
    """Its distribution given z leaves out the last entry."""

    def log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        logits, flat = self.decoder(z)[:, :-1], x.flatten(1)[:, :-1].to(z.dtype)
        return -F.binary_cross_entropy_with_logits(logits, flat, reduction="none").sum(1)


class GeneratesAnotherLaw(Blend):
    """Draws given z at half the temperature."""

    def generate(self, z: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        x = noise.bernoulli((2 * self.decoder(z)).sigmoid(), generator)
        return x.view(len(z), *self.domain.shape).to(self.domain.dtype)


class MistakesItsWidth(Blend):
    """Draws latents with the variance for the standard deviation."""

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> DiagonalNormal:
        class Wide(DiagonalNormal):
            def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
                return DiagonalNormal(self.mean, 2 * self.log_var).sample(count, generator)

        q = super().posterior(x)
        return Wide(q.mean, q.log_var)


@dataclass(frozen=True)
class Mutant:
    """A broken subject, its healthy twin, and the check that tells them apart."""

    broken: Subject
    healthy: Subject
    check: checks.Check


def _mutant(
    broken: type[GenerativeModel],
    healthy: type[GenerativeModel],
    check: checks.Check,
    domain: Domain = BINARY,
    condition: Label | None = None,
) -> Mutant:
    return Mutant(Subject(broken, domain, condition), Subject(healthy, domain, condition), check)


HEALTHY: tuple[type[GenerativeModel], ...] = (Chain, Affine, Switch, Bins, Counted, Blend)

MUTANTS: tuple[Mutant, ...] = (
    _mutant(LeakyMask, Chain, checks.check_total_mass),
    _mutant(Unnormalised, Chain, checks.check_total_mass),
    _mutant(ClosedEndBins, Bins, checks.check_total_mass, Grid(1, (1, 2), 5)),
    _mutant(BoundAboveTruth, Switch, checks.check_total_mass),
    _mutant(BoundAboveTruth, Switch, checks.check_samples_follow_log_prob),
    _mutant(SkipsAPlace, Chain, checks.check_chain_rule),
    _mutant(AsksTwice, Chain, checks.check_chain_rule),
    _mutant(WalksALukewarmLaw, Chain, checks.check_chain_rule),
    _mutant(WalksInSingle, Chain, checks.check_chain_rule),
    _mutant(WalksWithoutTheLabel, Chain, checks.check_chain_rule, condition=LABELS),
    _mutant(WritesOverItsLogits, Chain, checks.check_walks_are_independent),
    _mutant(WalksAsOne, Chain, checks.check_walks_are_independent),
    _mutant(DrawsForThePart, Switch, checks.check_parts),
    _mutant(LooserWithMore, Switch, checks.check_more_samples_are_tighter),
    _mutant(SamplesAnotherDistribution, Chain, checks.check_samples_follow_log_prob),
    _mutant(WrongLogDetSign, Affine, checks.check_total_density, Vectors(2)),
    _mutant(ForgetsTheDataScale, Affine, checks.check_total_density, Vectors(2)),
    _mutant(WrongLogDetSign, Affine, checks.check_samples_follow_density, Vectors(2)),
    _mutant(DecodesAnotherMap, Affine, checks.check_samples_follow_density, Vectors(2)),
    _mutant(WrongLogDetSign, Affine, checks.check_change_of_variables, Vectors(2)),
    _mutant(DecodesAnotherMap, Affine, checks.check_latents, Vectors(2)),
    _mutant(SingleOnly, Affine, checks.check_float64, Vectors(2)),
    _mutant(ForgetsItsScale, Affine, checks.check_save_and_load, Vectors(2)),
    _mutant(GlobalNoise, Chain, checks.check_same_generator_same_samples),
    _mutant(FixedSeed, Chain, checks.check_same_generator_same_samples),
    _mutant(FloatSamples, Chain, checks.check_samples),
    _mutant(IgnoresCondition, Chain, checks.check_condition_changes_the_distribution, condition=LABELS),
    _mutant(NeverAsks, Chain, checks.check_condition_is_asked_for, condition=LABELS),
    _mutant(RedrawsKeptPart, Chain, checks.check_edit),
    _mutant(EditsInPlace, Chain, checks.check_edit),
    _mutant(DeadParameter, Chain, checks.check_gradients),
    _mutant(ClimbsTheLoss, Chain, checks.check_learning),
    _mutant(RanksByAWarmUp, Chain, checks.check_criterion),
    _mutant(CuresByNoSetting, Chain, checks.check_symptoms),
    _mutant(LearnsWhileLookedAt, Chain, checks.check_symptoms),
    _mutant(LooksByChance, Chain, checks.check_symptoms),
    _mutant(SummedLoss, Chain, checks.check_losses),
    _mutant(ScoresByChance, Chain, checks.check_log_prob),
    _mutant(ReadsTheBatch, Chain, checks.check_items_are_independent),
    _mutant(ReadsTheOrder, Chain, checks.check_items_are_independent),
    _mutant(ClosedMind, Chain, checks.check_wrong_data),
    _mutant(Undocumented, Chain, checks.check_card),
    _mutant(FitsNothing, Counted, checks.check_fit),
    _mutant(FitsAgainAndAgain, Counted, checks.check_fit),
    _mutant(ClaimsWithoutSigning, Chain, checks.check_refusals),
    _mutant(ForgetsAnEntry, Blend, checks.check_decoder_distribution),
    _mutant(GeneratesAnotherLaw, Blend, checks.check_decoder_distribution),
    _mutant(MistakesItsWidth, Blend, checks.check_posterior),
)
