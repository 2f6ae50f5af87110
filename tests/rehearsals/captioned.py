"""Pictures given a text, or anything else that can be read: a mixture whose weights and parts the words choose.

p(x|text) = sum over k of w_k(text) prod over entries of p_k(entry|text). How a condition of whatever kind becomes
numbers is `genus.nn.condition`'s business.

Promises: an exact likelihood, with or without a condition.
"""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, HasLogProb, IsConditional, Likelihood, Losses, Split, batches
from genus.kinds import Domain, Grid
from genus.nn.condition import CONDITIONS, ConditionEncoder
from genus.prob import noise
from genus.recipe import Recipe


class Captioned(GenerativeModel, HasLogProb, IsConditional):
    """A mixture of products of categorical distributions.

    Args:
        components: Parts of the mixture.
        features: Width of what is read of a condition.
        dropped: Part of the data that are told nothing in training, so that the model knows both.
    """

    paper = "McLachlan, Peel (2000). Finite Mixture Models, with a network in front. https://doi.org/10.1002/0471721182"
    domains = (Grid,)
    conditions = CONDITIONS
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(learning_rate=3e-3, batch_size=32, steps=500),
        "paper": Recipe(learning_rate=1e-3, steps=5000),
    }
    domain: Grid

    def __init__(
        self,
        domain: Grid,
        condition: Domain | None = None,
        *,
        components: int = 4,
        features: int = 32,
        dropped: float = 0.1,
    ):
        super().__init__(domain, condition)
        self.dropped = dropped
        self.weights = nn.Parameter(torch.zeros(components))
        self.entries = nn.Parameter(0.1 * torch.empty(components, domain.num_dims, domain.levels).normal_())
        if condition is not None:
            self.reader = ConditionEncoder(condition, features)
            self.shift = nn.Linear(features, self.weights.numel() + self.entries.numel())

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, components=2, features=8)  # type: ignore[arg-type]

    def initialise(self, split: Split) -> None:
        """The units of numbers and coordinates in the condition."""
        given = next(batches(split, 1000)).condition
        if given is not None:
            self.reader.fit(given)

    def logits(self, condition: Tensor | None, count: int, dropped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Of the parts ``(count, K)``, and of their entries ``(count, K, D, levels)``."""
        weights, entries = (p.expand(count, *p.shape) for p in (self.weights, self.entries))
        if condition is None:
            return weights, entries
        shifts = self.shift(self.reader(condition, dropped).vector).split(
            [self.weights.numel(), self.entries.numel()], 1
        )
        return weights + shifts[0], entries + shifts[1].view_as(entries)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        dropped = noise.uniform((len(batch.x),), generator, self.device) < self.dropped
        return {"loss": -self.of(batch.x, *self.logits(batch.condition, len(batch.x), dropped))}

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return -self.of(batch.x, *self.logits(batch.condition, len(batch.x)))

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        return self.of(x, *self.logits(condition, len(x)))

    def of(self, x: Tensor, weights: Tensor, entries: Tensor) -> Tensor:
        """log p(x), ``(B,)``, of these logits."""
        chosen = x.flatten(1).long()[:, None, :, None].expand(-1, entries.shape[1], -1, -1)
        nats = entries.log_softmax(-1).gather(-1, chosen).sum((2, 3))
        return (weights.log_softmax(-1) + nats).logsumexp(1)

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        weights, entries = self.logits(condition, count)
        part = noise.categorical(weights, generator)
        x = noise.categorical(entries[torch.arange(count), part], generator)
        return x.view(count, *self.domain.shape).to(self.domain.dtype)
