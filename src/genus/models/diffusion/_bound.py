"""The variational bound of a process of steps, and the reverse steps that it scores.

    -log p(x_0) <= L_0 + sum_t L_{t-1} + L_T        Ho et al. (2020), equation 5
    p(x_s | x_t) = N( mean of q(x_s | x_t, x_0 = denoised), variance )

The variance is fixed between two extremes (section 3.2), or learned between them (Nichol & Dhariwal 2021,
equation 15, https://arxiv.org/abs/2102.09672).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from genus.models.diffusion._denoiser import Denoiser
from genus.models.diffusion._process import GaussianProcess, Steps
from genus.models.diffusion._samplers import Reverse
from genus.models.diffusion._scaling import Scaling
from genus.prob import discretized_gaussian, noise
from genus.prob import gaussian as normal

Variance = Literal["beta", "posterior"]
"""Of the reverse steps: beta_t (right for data N(0, 1)) or that of q(x_{t-1} | x_t, x_0) (right for one single
datum). They bound the best choice from above and below."""


def step_variance(process: Steps, like: Tensor, t: Tensor, s: Tensor, kind: Variance) -> Tensor:
    """Of p(x_s | x_t), in float64. The posterior's is zero for the last step, which ends in data; there that of
    the step before stands in, as in the authors' code."""
    if kind == "beta":
        return process.transition(t, s, like)[1]
    one = 1 / process.steps
    t, s = t.clamp(min=2 * one), s.clamp(min=one)
    (_, sigma_t), (_, sigma_s) = process.at(t, like), process.at(s, like)
    return process.transition(t, s, like)[1] * (sigma_s / sigma_t).square()


def fixed(process: Steps, denoise: Denoiser, variance: Variance) -> Reverse:
    """The reverse steps of a denoiser with a fixed variance."""

    def reverse(x_t: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        mean, _ = process.posterior(x_t, denoise(x_t, t), t, s)
        return mean, step_variance(process, x_t, t, s, variance).to(x_t)

    return reverse


def between(process: Steps, like: Tensor, t: Tensor, s: Tensor, share: Tensor) -> Tensor:
    """The variance that lies ``share`` of the way from the posterior's (0) to beta (1), on a line in logarithms."""
    low, high = (step_variance(process, like, t, s, kind).log() for kind in ("posterior", "beta"))
    return torch.exp(low.to(like) + share * (high - low).to(like))


def normal_kl(mean_q: Tensor, var_q: Tensor, mean_p: Tensor, var_p: Tensor) -> Tensor:
    """KL( N(mean_q, var_q) || N(mean_p, var_p) ) of each entry, in nats."""
    return 0.5 * (var_p.log() - var_q.log() + (var_q + (mean_q - mean_p).square()) / var_p - 1)


LogDecoder = Callable[[Tensor, Tensor], Tensor]
"""``(mean, scale)`` of p(x_0 | x_1) -> log-probability of each entry of the datum."""


def log_decoder(scaling: Scaling, x: Tensor) -> LogDecoder:
    """That of raw data ``x``: a normal distribution, cut into bins where there are levels (equation 13), in raw
    units."""
    if scaling.domain.levels is not None:
        levels = scaling.domain.levels
        return lambda mean, scale: discretized_gaussian.log_prob(x, mean, scale, levels)
    x_0, volume = scaling.encode(x), scaling.log_det(x) / x[0].numel()
    return lambda mean, scale: normal.log_prob(x_0, mean, scale.log()) + volume


def step_term(
    process: Steps, reverse: Reverse, x_0: Tensor, step: Tensor, eps: Tensor, log_decoder: LogDecoder
) -> Tensor:
    """L_{t-1} at x_t = alpha x_0 + sigma eps, and L_0 where ``step`` is 1: ``(B,)`` nats.

    step: ``(B,)`` integers 1 .. T. Differentiable in what ``reverse`` computes.
    """
    t, s = process.time(step), process.time(step - 1)
    x_t = process.diffuse(x_0, t, eps)
    mean_p, var_p = reverse(x_t, t, s)
    later = step.clamp(min=2)  # the last step has no posterior: a point
    mean_q, var_q = process.posterior(x_t, x_0, process.time(later), process.time(later - 1))
    kl = normal_kl(mean_q, var_q, mean_p, var_p)
    first = (step == 1).view(-1, *[1] * (x_0.ndim - 1))
    each = torch.where(first, -log_decoder(mean_p, var_p.sqrt()), kl) if bool(first.any()) else kl
    return each.double().flatten(1).sum(1)


def last_term(process: GaussianProcess, x_0: Tensor) -> Tensor:
    """L_T = KL( q(x_T | x_0) || N(0, 1) ): what is left of x_0 at the end of the process, ``(B,)`` float64 nats."""
    alpha, sigma = process.at(x_0.new_ones(len(x_0), dtype=torch.float64), x_0)
    one = torch.ones_like(alpha)
    return normal_kl(alpha * x_0, sigma.square(), 0 * one, one).double().flatten(1).sum(1)


@torch.no_grad()
def bound_terms(
    process: Steps, reverse: Reverse, x_0: Tensor, log_decoder: LogDecoder, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Every term of the bound, one noise draw each, in float64 nats.

    "L_0" ``(B,)``, "L_t" ``(B, T-1)`` whose column t-2 is L_{t-1}, and "L_T" ``(B,)``. Calls the network T times;
    keeps no gradients.
    """

    def term(k: int) -> Tensor:
        eps = noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype)
        return step_term(process, reverse, x_0, torch.full((len(x_0),), k, device=x_0.device), eps, log_decoder)

    return {
        "L_0": term(1),
        "L_t": torch.stack([term(k) for k in range(2, process.steps + 1)], dim=1),
        "L_T": last_term(process, x_0),
    }


def total(terms: dict[str, Tensor]) -> Tensor:
    """The bound that the terms add up to, ``(B,)``."""
    return terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"]
