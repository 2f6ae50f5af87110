"""A progressively growing GAN: both networks start with coarse pictures, and finer blocks fade in.

All blocks exist from the start; how far the picture has grown is a buffer that `progress` sets. What differs from the
paper: the logistic loss instead of a Wasserstein one, and no statistics of the batch.

Promises: samples.
"""

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, HasDecoder, Losses, Player
from genus.kinds import Domain, Grid
from genus.prob.discretized_logistic import to_level, to_unit
from genus.recipe import Recipe

START = 4  # pixels of the coarsest picture
GROWN = 0.8  # part of training after which the picture is whole


def doubled(x: Tensor) -> Tensor:
    """Each pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class GrowingGAN(GenerativeModel, HasDecoder):
    """A generator and a discriminator that grow together.

    Args:
        latent_features: Entries of the noise.
        width: Channels of every block.
    """

    paper = (
        "Karras, Aila, Laine, Lehtinen (2018). Progressive Growing of GANs for Improved Quality, Stability, and "
        "Variation. https://arxiv.org/abs/1710.10196"
    )
    domains = (Grid,)
    needs_ordered_levels = True
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(learning_rate=1e-3, batch_size=16, steps=500, ema_halflife=1000),
        "paper": Recipe(learning_rate=1e-3, batch_size=16, betas=(0.0, 0.99), ema=0.999),
    }
    domain: Grid
    level: Tensor

    def __init__(self, domain: Grid, condition: Domain | None = None, *, latent_features: int = 8, width: int = 8):
        super().__init__(domain, condition)
        self.latent_features, self.stages = latent_features, (domain.size[0] // START).bit_length()
        channels, later = domain.channels, range(1, self.stages)
        self.first = nn.Linear(latent_features, width * START * START)
        self.up = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in later)
        self.to_picture = nn.ModuleList(nn.Conv2d(width, channels, 1) for _ in range(self.stages))
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in later)
        self.from_picture = nn.ModuleList(nn.Conv2d(channels, width, 1) for _ in range(self.stages))
        self.verdict = nn.Linear(width * START * START, 1)
        self.register_buffer("level", torch.tensor(self.stages - 1.0))

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        fits = isinstance(domain, Grid) and domain.is_picture and domain.size in {(k, k) for k in (8, 16, 32, 64)}
        return super().refuses(domain) or (
            None if fits else f"expected pictures of 8, 16, 32 or 64 pixels; got {domain}."
        )

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition)  # type: ignore[arg-type]

    def progress(self, fraction: float) -> None:
        self.level.fill_(min(1.0, fraction / GROWN) * (self.stages - 1))

    def growth(self) -> tuple[int, float]:
        """The last block in use, and how far the next one has faded in."""
        level = float(self.level)
        return int(level), level % 1.0

    def picture(self, z: Tensor) -> Tensor:
        """Noise -> pictures in [-1, 1] of full size, as coarse as they are yet."""
        block, fade = self.growth()
        h = F.leaky_relu(self.first(F.normalize(z, dim=1) * z.shape[1] ** 0.5).view(len(z), -1, START, START), 0.2)
        for up in self.up[:block]:
            h = F.leaky_relu(up(doubled(h)), 0.2)
        x = self.to_picture[block](h)
        if fade:
            finer = self.to_picture[block + 1](F.leaky_relu(self.up[block](doubled(h)), 0.2))
            x = torch.lerp(doubled(x), finer, fade)
        return F.interpolate(torch.tanh(x), self.domain.size, mode="nearest")

    def judge(self, x: Tensor) -> Tensor:
        """Pictures of full size -> logits ``(B,)`` of being real, seen as finely as they have grown."""
        block, fade = self.growth()
        h = F.leaky_relu(self.from_picture[block](F.adaptive_avg_pool2d(x, START * 2**block)), 0.2)
        if fade:
            finer = F.adaptive_avg_pool2d(x, START * 2 ** (block + 1))
            finer = self.down[block](F.leaky_relu(self.from_picture[block + 1](finer), 0.2))
            h = torch.lerp(h, F.avg_pool2d(F.leaky_relu(finer, 0.2), 2), fade)
        for down in reversed(self.down[:block]):
            h = F.avg_pool2d(F.leaky_relu(down(h), 0.2), 2)
        return self.verdict(h.flatten(1)).squeeze(1)

    def seen(self, batch: Batch) -> Tensor:
        """Real pictures, no finer than the generator's are yet."""
        block, fade = self.growth()
        coarse, finer = (F.adaptive_avg_pool2d(to_unit(batch.x, self.domain.levels), START * 2**b)
                         for b in (block, min(block + 1, self.stages - 1)))  # fmt: skip
        if fade:
            coarse = torch.lerp(doubled(coarse), finer, fade)
        return F.interpolate(coarse, self.domain.size, mode="nearest")

    def fakes(self, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """As many pictures as there are data."""
        return self.picture(self.sample_latents(len(batch.x), generator))

    def discriminator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch, generator)
        return {"loss": F.softplus(-self.judge(self.seen(batch))) + F.softplus(self.judge(fake))}

    def generator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": F.softplus(-self.judge(self.fakes(batch, generator)))}

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        both = [losses(batch, generator)["loss"] for losses in (self.discriminator_losses, self.generator_losses)]
        return {"loss": both[0] + both[1], "discriminator": both[0], "generator": both[1]}

    def players(self) -> list[Player]:
        ours = (self.first, self.up, self.to_picture)
        theirs = (self.down, self.from_picture, self.verdict)
        generator, discriminator = (tuple(p for part in parts for p in part.parameters()) for parts in (ours, theirs))
        return [
            Player("discriminator", discriminator, self.discriminator_losses, turns=2, betas=(0.0, 0.99)),
            Player("generator", generator, self.generator_losses, betas=(0.0, 0.99)),
        ]

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> None:
        return None

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.latent_features,)

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return to_level(self.picture(z), self.domain.levels).to(self.domain.dtype)

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._decode(self.sample_latents(count, generator), None)
