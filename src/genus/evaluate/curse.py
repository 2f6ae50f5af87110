"""The curse of dimensionality, where everything is known: plain Monte Carlo against a weighted posterior.

L latents z ~ N(0, 1), each seen through noise: x = z + s eps. So log p(x) is a sum of L normal
log-densities, and the posterior is normal. Plain Monte Carlo draws z from the prior and hopes that one
falls where x allows it: the share that does shrinks as exp(-L times the nats a latent tells). Draws from
an encoder, even one whose deviations are a fifth too large, miss far less.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.evaluate.bounds import Mean, curve
from genus.prob import gaussian, noise
from genus.prob.posterior import DiagonalNormal

LATENTS = (1, 2, 4, 8, 16, 32)
SCALE = 0.25  # s: a latent tells log(1 + 1/s^2) / 2 = 1.42 nats
TOO_WIDE = 1.2  # the encoder's deviations, in those of the true posterior


@dataclass(frozen=True)
class Curse:
    """What is missing to log p(x), in nats, with K draws: ``prior`` and ``posterior`` by latents, then K."""

    latents: tuple[int, ...]
    draws: tuple[int, ...]
    prior: tuple[tuple[Mean, ...], ...]
    posterior: tuple[tuple[Mean, ...], ...]


def curse(
    latents: tuple[int, ...] = LATENTS, *, draws: int = 4096, items: int = 64, seed: int = 0, scale: float = SCALE
) -> Curse:
    """The errors of both estimates for models of so many latents, over ``items`` data each."""
    missing: list[list[tuple[Mean, ...]]] = [[], []]
    for count in latents:
        generator = noise.stream(seed, "curse", count)
        shape = (items, count)
        z, eps = (noise.normal(shape, generator, dtype=torch.float64) for _ in range(2))
        x, log_scale = z + scale * eps, torch.tensor(math.log(scale)).double()
        exact = gaussian.log_prob(x, x.new_zeros(()), x.new_tensor(0.5 * math.log(1 + scale**2))).sum(1)
        variance = scale**2 / (1 + scale**2) * TOO_WIDE**2
        distributions = (
            DiagonalNormal(torch.zeros_like(x), torch.zeros_like(x)),
            DiagonalNormal(x / (1 + scale**2), torch.full_like(x, math.log(variance))),
        )
        for distribution, found in zip(distributions, missing, strict=True):
            points = curve(_log_weights(x, distribution, log_scale, draws, generator))
            found.append(tuple(Mean.of(exact - nats) for _, nats, _ in points))
            steps = tuple(k for k, _, _ in points)
    return Curse(latents, steps, tuple(missing[0]), tuple(missing[1]))


def _log_weights(
    x: Tensor, distribution: DiagonalNormal, log_scale: Tensor, draws: int, generator: torch.Generator
) -> Tensor:
    """log p(x|z) p(z) / distribution(z), ``(draws, B)``."""
    z, zero = distribution.sample(draws, generator), x.new_zeros(())
    return (
        gaussian.log_prob(x, z, log_scale).sum(-1) + gaussian.log_prob(z, zero, zero).sum(-1) - distribution.log_prob(z)
    )
