"""A picture given a picture, after pix2pix: the drawn one from its outline.

Noise enters as dropout, in samples as in training; it goes through the generator, so samples are a function of it.

Promises: samples given a picture.
"""

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, IsConditional, Losses, Player
from genus.kinds import Domain, Grid
from genus.prob import noise
from genus.prob.discretized_logistic import to_level, to_unit
from genus.recipe import Recipe


class SketchToPicture(GenerativeModel, IsConditional):
    """A translator with a skip connection and a discriminator of pairs.

    Args:
        width: Channels of both networks.
        dropout: Part of the channels that are left out.
        nearness: Weight of the absolute difference from the true picture.
    """

    paper = (
        "Isola, Zhu, Zhou, Efros (2017). Image-to-Image Translation with Conditional Adversarial Networks. "
        "https://arxiv.org/abs/1611.07004"
    )
    domains = (Grid,)
    conditions = (Grid,)
    needs_condition = True
    needs_ordered_levels = True
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(learning_rate=1e-3, batch_size=16, steps=500, betas=(0.5, 0.999)),
        "paper": Recipe(learning_rate=2e-4, batch_size=1, betas=(0.5, 0.999), schedule="hold_linear"),
    }
    domain: Grid
    condition: Grid

    def __init__(
        self,
        domain: Grid,
        condition: Grid | None = None,
        *,
        width: int = 16,
        dropout: float = 0.5,
        nearness: float = 100.0,
    ):
        super().__init__(domain, condition)
        self.dropout, self.nearness = dropout, nearness
        self.down = nn.Conv2d(self.condition.channels, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.Conv2d(2 * width, domain.channels, 3, padding=1)
        pair = domain.channels + self.condition.channels
        self.critic = nn.Sequential(
            nn.Conv2d(pair, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 3, padding=1), nn.Flatten()
        )

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        fits = isinstance(domain, Grid) and domain.is_picture
        return super().refuses(domain) or (None if fits else f"expected pictures; got {domain}.")

    @classmethod
    def refuses_condition(cls, domain: Domain, condition: Domain | None) -> str | None:
        refused = super().refuses_condition(domain, condition)
        if refused is None and condition is not None and condition.shape[1:] != domain.shape[1:]:
            return f"expected pictures of the size of {domain} as a condition; got {condition}."
        return refused

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, width=4)  # type: ignore[arg-type]

    def picture(self, sketch: Tensor, generator: torch.Generator | None) -> Tensor:
        """Sketches in [-1, 1] -> pictures in [-1, 1]."""
        h = F.leaky_relu(self.down(sketch), 0.2)
        kept = noise.uniform((len(h), h.shape[1], 1, 1), generator, h.device) >= self.dropout
        inner = F.leaky_relu(self.middle(h), 0.2) * kept / (1 - self.dropout)
        return torch.tanh(self.up(torch.cat([h, inner], 1)))

    def units(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Picture and sketch in [-1, 1]."""
        assert batch.condition is not None
        return to_unit(batch.x, self.domain.levels), to_unit(batch.condition, self.condition.levels)

    def judged(self, sketch: Tensor, picture: Tensor) -> Tensor:
        """Logits of each patch, ``(B, patches)``."""
        return self.critic(torch.cat([sketch, picture], 1))

    def generator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x, sketch = self.units(batch)
        fake = self.picture(sketch, generator)
        adversarial = F.softplus(-self.judged(sketch, fake)).mean(1)
        near = (fake - x).abs().flatten(1).mean(1)
        return {"loss": adversarial + self.nearness * near, "adversarial": adversarial, "difference": near}

    def discriminator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x, sketch = self.units(batch)
        with torch.no_grad():
            fake = self.picture(sketch, generator)
        real, false = self.judged(sketch, x), self.judged(sketch, fake)
        return {"loss": 0.5 * (F.softplus(-real) + F.softplus(false)).mean(1)}

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        one, two = (losses(batch, generator)["loss"] for losses in (self.generator_losses, self.discriminator_losses))
        return {"loss": one + two, "generator": one, "discriminator": two}

    def players(self) -> list[Player]:
        generator = tuple(p for part in (self.down, self.middle, self.up) for p in part.parameters())
        return [
            Player("discriminator", tuple(self.critic.parameters()), self.discriminator_losses),
            Player("generator", generator, self.generator_losses),
        ]

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> None:
        return None

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        assert condition is not None
        picture = self.picture(to_unit(condition, self.condition.levels), generator)
        return to_level(picture, self.domain.levels).to(self.domain.dtype)
