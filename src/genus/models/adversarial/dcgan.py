"""DCGAN: generative adversarial networks of convolutions.

A generator turns noise into pictures; a discriminator tells them from real ones; each is
trained to beat the other. Where the discriminator is perfect, the value of the game is
-ln 4 + 2 JSD(data, generator), so the generator wins by drawing from the data's distribution.

Goodfellow et al. (2014), "Generative Adversarial Nets", https://arxiv.org/abs/1406.2661 (the
game; equation numbers are theirs). Radford, Metz, Chintala (2015), https://arxiv.org/abs/1511.06434
(the networks): strided convolutions instead of pooling, batch norm except at the
generator's output and the discriminator's input, ReLU and leaky ReLU, weights from N(0, 0.02).

What differs from the papers: any size (the generator doubles a start of 4 to 7 pixels, or less
for small pictures, and crops what is too much; the discriminator halves downwards); a
grid's levels lie evenly in [-1, 1] and samples are rounded to them. The discriminator sees
real and generated pictures in batches of their own, as batch norm would otherwise let each
leak into the other.

Promises: samples.
"""

import math
from itertools import pairwise
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from genus.contract import Batch, GenerativeModel, HasDecoder, Losses, Player, Symptom
from genus.kinds import Domain, Grid
from genus.models.adversarial import _symptoms
from genus.prob import noise
from genus.prob.discretized_logistic import to_level, to_unit
from genus.recipe import Recipe

LOOKED_AT = 128  # validation data that are looked at in search of symptoms


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) of logits (equation 1, negated): the discriminator's cross-entropy."""
    return F.softplus(-real) + F.softplus(fake)


def generator_loss(fake: Tensor, kind: Literal["non_saturating", "minimax"]) -> Tensor:
    """What the generator minimises, of the logits of its pictures.

    minimax: log(1 - D(G(z))), equation 1; its gradient vanishes where D wins.
    non_saturating: -log D(G(z)), with the same fixed point (section 3).
    """
    return F.softplus(-fake) if kind == "non_saturating" else -F.softplus(fake)


class Generator(nn.Module):
    """Noise ``(B, latent_features)`` -> pictures ``(B, channels, *size)`` in [-1, 1].

    ``doublings`` transposed convolutions, each halving the channels, from ``width *
    2^(doublings-1)`` down to ``width`` before the picture.
    """

    def __init__(self, latent_features: int, channels: int, size: tuple[int, ...], width: int, doublings: int):
        super().__init__()
        self.size = size
        self.start = tuple(math.ceil(side / 2**doublings) for side in size)
        widths = [width * 2**level for level in reversed(range(doublings))]
        self.project = nn.Linear(latent_features, widths[0] * math.prod(self.start), bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """Crops the middle where the doubled size is larger than the picture."""
        x = self.layers(self.project(z).unflatten(1, (-1, *self.start)))
        top, left = ((have - want) // 2 for have, want in zip(x.shape[2:], self.size, strict=True))
        return x[:, :, top : top + self.size[0], left : left + self.size[1]]


class Discriminator(nn.Module):
    """Pictures ``(B, channels, *size)`` in [-1, 1] -> the logit of being real ``(B,)``."""

    def __init__(self, channels: int, size: tuple[int, ...], width: int, halvings: int):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level in range(1, halvings):
            before, after = width * 2 ** (level - 1), width * 2**level
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        places = math.prod(side // 2**halvings for side in size)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 2 ** (halvings - 1) * places, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits: the sigmoid of the paper is inside the losses."""
        return self.layers(x).squeeze(1)


def frozen(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` through which gradients reach x but not the module's parameters."""
    return functional_call(module, {name: p.detach() for name, p in module.named_parameters()}, (x,))


class DCGAN(GenerativeModel, HasDecoder):
    """A generator and a discriminator, trained as two players.

    Args:
        latent_features: entries of the noise, uniform in [-1, 1].
        width: channels next to the picture; each halving of the size doubles them.
        loss: of the generator: ``non_saturating`` -log D(G(z)) or ``minimax`` log(1 - D(G(z))).
    """

    paper: ClassVar[str] = (
        "Radford, Metz, Chintala (2015). Unsupervised Representation Learning with Deep Convolutional "
        "Generative Adversarial Networks. https://arxiv.org/abs/1511.06434"
    )
    domains: ClassVar[tuple[type[Domain], ...]] = (Grid,)
    needs_ordered_levels = True
    reads_batch = True  # batch norm
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(learning_rate=5e-4, betas=(0.5, 0.999), batch_size=64, steps=2000, settings={"width": 32}),
        "paper": Recipe(learning_rate=2e-4, betas=(0.5, 0.999), batch_size=128, steps=50_000),
    }

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        latent_features: int = 100,
        width: int = 128,
        loss: Literal["non_saturating", "minimax"] = "non_saturating",
    ):
        super().__init__(domain, condition)
        assert isinstance(domain, Grid)  # `refuses` saw to it
        if latent_features < 1 or width < 1:
            raise ValueError(f"expected latent_features and width >= 1; got {latent_features} and {width}.")
        self.latent_features, self.levels, self.loss = latent_features, domain.levels, loss
        halvings = min(domain.size).bit_length() - 1  # down to one pixel
        doublings = max(halvings - 2, min(halvings, 2))  # from 4..7 pixels (64: 4, 28: 7); from 2 or 3 for 8..15
        self.generator = Generator(latent_features, domain.channels, domain.size, width, doublings)
        self.discriminator = Discriminator(domain.channels, domain.size, width, doublings)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and (len(domain.size) != 2 or min(domain.size) < 2):
            return f"dcgan models pictures (grids of two axes) of 2x2 and more; got {domain}."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, latent_features=8, width=8)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.latent_features,)

    def sample_latents(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform in [-1, 1], ``(count, latent_features)``."""
        return 2 * noise.uniform((count, self.latent_features), generator, self.device) - 1

    def fakes(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` pictures in [-1, 1]."""
        return self.generator(self.sample_latents(count, generator))

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return to_level(self.generator(z), self.levels).to(self.domain.dtype)

    def discriminator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """The discriminator's turn; shows how often it is right on either side."""
        with torch.no_grad():
            pictures = self.fakes(len(batch.x), generator)
        real = self.discriminator(to_unit(batch.x, self.levels))
        fake = self.discriminator(pictures)
        return {
            "loss": discriminator_loss(real, fake),
            "real_right": (real > 0).float(),
            "fake_right": (fake < 0).float(),
        }

    def generator_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """The generator's turn; the discriminator judges and learns nothing."""
        return {"loss": generator_loss(frozen(self.discriminator, self.fakes(len(batch.x), generator)), self.loss)}

    def players(self) -> list[Player]:
        return [
            Player("discriminator", tuple(self.discriminator.parameters()), self.discriminator_losses),
            Player("generator", tuple(self.generator.parameters()), self.generator_losses),
        ]

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Both players' losses and, as "loss", their sum, in which either term moves its own
        player only: one optimizer on it plays the game with simultaneous moves. The sum says
        nothing about quality; `players` take turns, as the paper does."""
        discriminator = self.discriminator_losses(batch, generator)["loss"]
        own = self.generator_losses(batch, generator)["loss"]
        return {"loss": discriminator + own, "discriminator": discriminator, "generator": own}

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> None:
        """None: no loss of a game ranks its generators."""
        return None

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        real = to_unit(batch.x[:LOOKED_AT], self.levels)
        fake = self.fakes(len(real), generator)
        losing = "Try a lower --learning-rate, a larger --batch-size or a --width that suits more data."
        if self.loss == "minimax":
            losing = "Try --loss non_saturating, whose gradient does not vanish here; " + losing[4:]
        repeating = "Try a lower --learning-rate, a larger --batch-size or more --latent-features."
        return [
            *_symptoms.discriminator_won(self.discriminator(real), self.discriminator(fake), losing),
            *_symptoms.mode_collapse(fake, real, repeating),
        ]

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return to_level(self.fakes(count, generator), self.levels).to(self.domain.dtype)
