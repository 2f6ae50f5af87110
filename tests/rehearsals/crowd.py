"""Where several people will walk, given where they walked, after Social GAN.

A datum is a scene: the people in it, padded to the largest scene, with a mask as a part of it; the condition is the
past of all. People see each other by pooling within a row of the batch, so a slice of a batch is always right. The best
of several futures counts (the variety loss), a number for each scene.

Promises: samples given the past.
"""

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, IsConditional, Losses, Player, Split, batches
from genus.kinds import Domain, Grid, Parts, Vectors
from genus.prob import noise
from genus.recipe import Recipe


def layers(inside: int, hidden: int, outside: int) -> nn.Module:
    """Two of them."""
    return nn.Sequential(nn.Linear(inside, hidden), nn.SiLU(), nn.Linear(hidden, outside))


class Crowd(GenerativeModel, IsConditional):
    """A generator that draws a future of all people at once, and a discriminator of scenes.

    Args:
        hidden: Units of every layer.
        noise_features: Entries of a person's noise.
        variety: Futures of which the best counts.
    """

    paper = (
        "Gupta, Johnson, Fei-Fei, Savarese, Alahi (2018). Social GAN: Socially Acceptable Trajectories with Generative "
        "Adversarial Networks. https://arxiv.org/abs/1803.10892"
    )
    domains = (Parts,)
    conditions = (Parts,)
    needs_condition = True
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(learning_rate=3e-3, batch_size=16, steps=500),
        "paper": Recipe(learning_rate=1e-3, batch_size=64),
    }
    domain: Parts
    condition: Parts
    step: Tensor

    def __init__(
        self,
        domain: Parts,
        condition: Parts | None = None,
        *,
        hidden: int = 16,
        noise_features: int = 4,
        variety: int = 4,
    ):
        super().__init__(domain, condition)
        self.noise_features, self.variety = noise_features, variety
        self.people, (self.future, self.past) = people(domain), (steps(domain), steps(self.condition))
        self.read = layers(2 * (self.past - 1), hidden, hidden)
        self.meet = layers(2 + hidden, hidden, hidden)
        self.walk = layers(2 * hidden + noise_features, hidden, 2 * self.future)
        self.judge = layers(2 * (self.past + self.future - 1), hidden, hidden)
        self.verdict = nn.Linear(hidden, 1)
        self.register_buffer("step", torch.ones(()))

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        return super().refuses(domain) or refused(domain, "future")

    @classmethod
    def refuses_condition(cls, domain: Domain, condition: Domain | None) -> str | None:
        return super().refuses_condition(domain, condition) or (condition and refused(condition, "past")) or None

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, hidden=8)  # type: ignore[arg-type]

    def initialise(self, split: Split) -> None:
        """The unit of length: a usual step."""
        batch = next(batches(split, 1000))
        assert batch.condition is not None
        walked = self.parts(self.condition, batch.condition)[1].diff(dim=2)
        self.step.copy_(walked.square().sum(-1).mean().sqrt().clamp(min=1e-6))

    def parts(self, domain: Parts, x: Tensor) -> tuple[Tensor, Tensor]:
        """Who is there ``(B, people)``, and the positions ``(B, people, times, 2)``."""
        present, track = domain.split(x).values()
        return present.flatten(1).bool(), track.view(len(x), self.people, -1, 2)

    def drawn(self, condition: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        """``count`` futures of each scene, ``(B, count, people, future, 2)``."""
        present, past = self.parts(self.condition, condition)
        last = past[:, :, -1]
        h = self.read(past.diff(dim=2).flatten(2) / self.step)
        between = (last.unsqueeze(1) - last.unsqueeze(2)) / self.step  # (B, who, whom, 2)
        met = self.meet(torch.cat([between, h.unsqueeze(1).expand(-1, self.people, -1, -1)], -1))
        met = met.masked_fill(~present[:, None, :, None], -1e4).amax(2)
        z = noise.normal((len(condition), count, self.people, self.noise_features), generator, self.device)
        both = torch.cat([h, met], -1).unsqueeze(1).expand(-1, count, -1, -1)
        moves = self.walk(torch.cat([both, z], -1)).unflatten(-1, (self.future, 2))
        return (last[:, None, :, None] + self.step * moves.cumsum(3)) * present[:, None, :, None, None]

    def judged(self, condition: Tensor, future: Tensor) -> Tensor:
        """Logits ``(B,)`` of a future ``(B, people, future, 2)`` being real: of the most suspicious of those there."""
        present, past = self.parts(self.condition, condition)
        moves = torch.cat([past, future], 2).diff(dim=2).flatten(2) / self.step
        return self.verdict(self.judge(moves).masked_fill(~present.unsqueeze(-1), -1e4).amax(1)).squeeze(-1)

    def generator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        assert batch.condition is not None
        futures, (present, future) = (
            self.drawn(batch.condition, self.variety, generator),
            self.parts(self.domain, batch.x),
        )
        missed = ((futures - future.unsqueeze(1)) / self.step).square().sum((3, 4)) * present.unsqueeze(1)
        variety = (missed.sum(2) / present.sum(1, keepdim=True).clamp(min=1)).amin(1)
        fooled = F.softplus(-self.judged(batch.condition, futures[:, 0]))
        return {"loss": variety + fooled, "variety": variety, "adversarial": fooled}

    def discriminator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        assert batch.condition is not None
        with torch.no_grad():
            fake = self.drawn(batch.condition, 1, generator)[:, 0]
        real = self.parts(self.domain, batch.x)[1]
        return {
            "loss": F.softplus(-self.judged(batch.condition, real)) + F.softplus(self.judged(batch.condition, fake))
        }

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        one, two = (losses(batch, generator)["loss"] for losses in (self.generator_losses, self.discriminator_losses))
        return {"loss": one + two, "generator": one, "discriminator": two}

    def players(self) -> list[Player]:
        ours, theirs = (self.read, self.meet, self.walk), (self.judge, self.verdict)
        generator, discriminator = (tuple(p for part in parts for p in part.parameters()) for parts in (ours, theirs))
        return [
            Player("discriminator", discriminator, self.discriminator_losses),
            Player("generator", generator, self.generator_losses),
        ]

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """The variety loss: how near the best of some futures comes."""
        return self.generator_losses(batch, generator)["variety"]

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        assert condition is not None
        future = self.drawn(condition, 1, generator)[:, 0]
        present = self.condition.split(condition)["present"]
        return self.domain.join({"present": present, "future": future})


def people(scene: Domain) -> int:
    """How many have a place in a scene."""
    assert isinstance(scene, Parts)
    return scene.parts[0][1].num_dims


def steps(scene: Domain) -> int:
    """Positions of each of them."""
    assert isinstance(scene, Parts)
    return scene.parts[1][1].num_dims // (2 * people(scene))


def refused(scene: Domain, track: str) -> str | None:
    """Why something is no scene, or None."""
    match scene:
        case Parts(parts=(("present", Grid(levels=2)), (name, Vectors()))) if name == track and steps(scene):
            return None
    return f"expected the parts present (binary) and {track} (numbers); got {scene}."
