"""What an encoder says of the latents of a batch: distributions q(z|x) to draw from and to score.

Draws come as ``(count, B, *latent shape)``; of a draw's noise the first axis is the batch, so that
several processes see slices of the same noise.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.prob import gaussian, noise


@dataclass(frozen=True)
class DiagonalNormal:
    """N(mean, exp(log_var)) of each latent by itself; both ``(B, L)``."""

    mean: Tensor
    log_var: Tensor

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, B, L)``: mean + std * eps, so gradients reach both."""
        batch, latents = self.mean.shape
        eps = noise.normal((batch, count, latents), generator, self.mean.device, self.mean.dtype).transpose(0, 1)
        return torch.addcmul(self.mean, torch.exp(0.5 * self.log_var), eps)

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x), ``(count, B)``."""
        return gaussian.log_prob(z, self.mean, 0.5 * self.log_var).sum(-1)

    def kl_to_standard(self) -> Tensor:
        """KL(q || N(0, 1)) of each latent, ``(B, L)``."""
        return gaussian.kl_to_standard(self.mean, self.log_var)

    def detach(self) -> "DiagonalNormal":
        """The same distribution, as a constant."""
        return DiagonalNormal(self.mean.detach(), self.log_var.detach())


@dataclass(frozen=True)
class Certain:
    """One value, without doubt: codes ``(B, *latent shape)`` that follow from the data."""

    mean: Tensor

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """The codes, ``count`` times."""
        return self.mean.expand(count, *self.mean.shape)

    def log_prob(self, z: Tensor) -> Tensor:
        """0 for the codes themselves, -inf for any others."""
        same = (z == self.mean).flatten(2).all(2)
        return torch.where(same, 0.0, -math.inf)
