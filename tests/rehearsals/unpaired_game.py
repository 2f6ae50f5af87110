"""A game of four networks between two unpaired sets of pictures, after CycleGAN.

One network turns a picture of the other set (the condition) into a datum, one turns it back, and each set has a
discriminator, which is shown old fakes from a pool too. The other picture of an item has nothing to do with it.

Promises: samples given a picture, one for each: the translation is deterministic.
"""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, IsConditional, Losses, Player
from genus.kinds import Domain, Grid
from genus.prob import noise
from genus.prob.discretized_logistic import to_level, to_unit
from genus.recipe import Recipe


def translator(inside: int, outside: int, width: int) -> nn.Module:
    """Pictures of one set -> pictures of the other, in [-1, 1]."""
    layers = [nn.Conv2d(inside, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Conv2d(width, outside, 3, padding=1), nn.Tanh())


def critic(channels: int, width: int) -> nn.Module:
    """Pictures -> a number for each patch, of which the mean counts."""
    layers = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 3, padding=1)]
    return nn.Sequential(*layers, nn.Flatten())


class UnpairedGame(GenerativeModel, IsConditional):
    """Two translators and two discriminators.

    Args:
        width: Channels of every network.
        pool: Old fakes of each set that its discriminator may be shown again.
        cycle: Weight of coming back to where one started.
        identity: Weight of leaving alone what is in the set already.
    """

    paper = (
        "Zhu, Park, Isola, Efros (2017). Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial "
        "Networks. https://arxiv.org/abs/1703.10593"
    )
    domains = (Grid,)
    conditions = (Grid,)
    needs_condition = True
    needs_ordered_levels = True
    deterministic = True
    reads_batch = True  # by the pool: what one datum puts there, the next may meet
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(learning_rate=1e-3, batch_size=8, steps=500),
        "paper": Recipe(learning_rate=2e-4, batch_size=1, betas=(0.5, 0.999), schedule="hold_linear"),
    }
    domain: Grid
    condition: Grid
    pool: Tensor
    other_pool: Tensor
    filled: Tensor

    def __init__(
        self,
        domain: Grid,
        condition: Grid | None = None,
        *,
        width: int = 8,
        pool: int = 50,
        cycle: float = 10.0,
        identity: float = 5.0,
    ):
        super().__init__(domain, condition)
        mine, others = domain.channels, self.condition.channels
        self.cycle, self.identity = cycle, identity if mine == others else 0.0
        self.here, self.back = translator(others, mine, width), translator(mine, others, width)
        self.critic, self.other_critic = critic(mine, width), critic(others, width)
        self.register_buffer("pool", torch.zeros(pool, *domain.shape))
        self.register_buffer("other_pool", torch.zeros(pool, *self.condition.shape))
        self.register_buffer("filled", torch.zeros(2, dtype=torch.int64))

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        fits = isinstance(domain, Grid) and domain.is_picture
        return super().refuses(domain) or (None if fits else f"expected pictures; got {domain}.")

    @classmethod
    def refuses_condition(cls, domain: Domain, condition: Domain | None) -> str | None:
        refused = super().refuses_condition(domain, condition)
        if refused is None and condition is not None and condition.shape[1:] != domain.shape[1:]:
            return f"the other pictures need the size of {domain}; got {condition}."
        return refused

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, width=4, pool=4)  # type: ignore[arg-type]

    def units(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both pictures in [-1, 1]."""
        assert batch.condition is not None
        return to_unit(batch.x, self.domain.levels), to_unit(batch.condition, self.condition.levels)

    def generator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x, other = self.units(batch)
        fake, other_fake = self.here(other), self.back(x)
        right = (self.critic(fake) - 1).square().mean(1) + (self.other_critic(other_fake) - 1).square().mean(1)
        cycle = apart(self.here(other_fake), x) + apart(self.back(fake), other)
        terms = {"loss": right + self.cycle * cycle, "adversarial": right, "cycle": cycle}
        if self.identity:
            terms["identity"] = apart(self.here(x), x) + apart(self.back(other), other)
            terms["loss"] = terms["loss"] + self.identity * terms["identity"]
        return terms

    def discriminator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x, other = self.units(batch)
        with torch.no_grad():
            fake = self.pooled(self.pool, self.filled[:1], self.here(other), generator)
            other_fake = self.pooled(self.other_pool, self.filled[1:], self.back(x), generator)
        here = (self.critic(x) - 1).square().mean(1) + self.critic(fake).square().mean(1)
        there = (self.other_critic(other) - 1).square().mean(1) + self.other_critic(other_fake).square().mean(1)
        return {"loss": here + there, "here": here, "there": there}

    def pooled(self, pool: Tensor, filled: Tensor, fakes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Half of the fakes changed for older ones, whose places they take; in training alone."""
        if not self.training:
            return fakes
        swap = noise.uniform((len(fakes),), generator) < 0.5
        places = noise.integers(len(pool), (len(fakes),), generator)
        shown = fakes.clone()
        for row, fake in enumerate(fakes):
            if int(filled) < len(pool):
                pool[int(filled)] = fake
                filled += 1
            elif swap[row]:
                shown[row] = pool[places[row]]
                pool[places[row]] = fake
        return shown

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        one, two = (losses(batch, generator)["loss"] for losses in (self.generator_losses, self.discriminator_losses))
        return {"loss": one + two, "generators": one, "discriminators": two}

    def players(self) -> list[Player]:
        generators, discriminators = (
            tuple(p for part in parts for p in part.parameters())
            for parts in ((self.here, self.back), (self.critic, self.other_critic))
        )
        return [
            Player("generators", generators, self.generator_losses, betas=(0.5, 0.999)),
            Player("discriminators", discriminators, self.discriminator_losses, betas=(0.5, 0.999)),
        ]

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> None:
        return None

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        assert condition is not None
        picture = self.here(to_unit(condition, self.condition.levels))
        return to_level(picture, self.domain.levels).to(self.domain.dtype)


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of each datum, ``(B,)``."""
    return (a - b).abs().flatten(1).mean(1)
