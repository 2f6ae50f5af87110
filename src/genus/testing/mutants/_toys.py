"""Healthy toys, which pass every check: an autoregressive model, a flow, a latent switch, discretized bins, counts."""

import math
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import (
    Batch,
    FitsInClosedForm,
    GenerativeModel,
    HasConditionals,
    HasItemCodes,
    HasLatents,
    HasLogProb,
    HasPosterior,
    IsConditional,
    IsEditable,
    Likelihood,
    Losses,
    Split,
    Walk,
    batches,
    check_condition,
)
from genus.kinds import Domain, Grid, Label, Points, Tokens, Vectors, Waveform
from genus.nn.per_item import PerItem, descend
from genus.prob import discretized_logistic, gaussian, noise
from genus.prob.posterior import DiagonalNormal
from genus.recipe import Recipe

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


class FadesIn(Chain):
    """A part of it comes in during training; how far it is in lives in a buffer, which checkpoints carry."""

    stage: Tensor

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.late = nn.Parameter(torch.zeros(domain.num_dims, domain.levels))
        self.register_buffer("stage", torch.ones(()))

    def progress(self, fraction: float) -> None:
        """In from the middle on."""
        self.stage.fill_(float(fraction >= 0.5))

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """With the late part."""
        return super().logits(x, condition) + self.stage * self.late

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        """With the late part."""
        walk = super().chain_rule(count, condition=condition)
        place, logits = next(walk)
        for _ in range(self.domain.num_dims - 1):
            place, logits = walk.send((yield place, logits + self.stage * self.late[place]))
        yield place, logits + self.stage * self.late[place]

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """The loss of what it will be at the end."""
        before = self.stage.clone()
        self.stage.fill_(1.0)
        loss = self.losses(batch, generator)["loss"]
        self.stage.copy_(before)
        return loss


class Guided(Toy, HasLogProb, IsConditional):
    """Independent entries whose logits are linear in the numbers of a condition, of whatever kind; nothing without."""

    domains = (Grid,)
    conditions = (Label, Vectors, Tokens, Waveform, Grid, Points)
    needs_condition = True
    domain: Grid
    condition: Domain

    def __init__(self, domain: Grid, condition: Domain | None = None):
        super().__init__(domain, condition)
        self.start = nn.Parameter(torch.zeros(domain.num_dims, domain.levels))
        self.gain = nn.Parameter(torch.zeros(domain.num_dims, domain.levels, self.condition.num_dims))

    @property
    def likelihood(self) -> Likelihood:
        """Exact."""
        return Likelihood.EXACT

    def numbers(self, condition: Tensor) -> Tensor:
        """``(B, numbers)``, of size one or so."""
        flat = condition.reshape(len(condition), -1).to(self.gain.dtype)
        return flat / 10 if self.condition.levels is None else flat / self.condition.levels

    def logits(self, condition: Tensor) -> Tensor:
        """Unnormalised log-probabilities: ``(B, D, levels)``."""
        return self.start + torch.einsum("bj,ilj->bil", self.numbers(condition), self.gain)

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """The sum over entries."""
        assert condition is not None  # it is needed
        nats = self.logits(condition).log_softmax(-1)
        return nats.gather(-1, x.flatten(1).long().unsqueeze(-1)).sum((1, 2))

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Every entry on its own."""
        assert condition is not None
        x = noise.categorical(self.logits(condition), generator)
        return x.view(count, *self.domain.shape).to(self.domain.dtype)


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


class Placed(Toy, HasItemCodes):
    """An auto-decoder: data are linear in a code of two numbers, one code a training item."""

    domains = (Vectors,)
    weight_of_codes = 0.1
    scale: Tensor

    def __init__(self, domain: Vectors, condition: Label | None = None):
        super().__init__(domain, condition)
        self.codes = PerItem(2, std=0.1)
        self.decoder = nn.Linear(2, domain.features)
        self.register_buffer("mean", torch.zeros(domain.features))
        self.register_buffer("scale", torch.ones(domain.features))

    def initialise(self, split: Split) -> None:
        """The units of the data."""
        x = next(batches(split, 1000)).x
        self.mean.copy_(x.mean(0))
        self.scale.copy_(x.std(0))

    def losses_given(self, batch: Batch, codes: Tensor, generator: torch.Generator | None = None) -> Losses:
        """Squared error and size of the codes."""
        error = (self.decoder(codes) - (batch.x - self.mean) / self.scale).square().sum(1)
        return {"loss": error + self.weight_of_codes * codes.square().sum(1)}

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Of training items."""
        return self.losses_given(batch, self.codes(batch.index), generator)

    def infer(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """By descent from zero."""
        start = self.mean.new_zeros(len(batch.x), 2)
        return descend(lambda codes: self.losses_given(batch, codes)["loss"], start, steps=30, rate=0.1)

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Codes as wide as those of the training items."""
        std, mean = torch.std_mean(self.codes.rows, 0)
        codes = mean + std * noise.normal((count, 2), generator, self.device)
        return self.mean + self.scale * self.decoder(codes)
