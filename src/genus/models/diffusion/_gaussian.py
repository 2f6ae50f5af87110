"""Gaussian diffusion in discrete time: a noise process, what follows from it, and samplers.

Data are destroyed in T small steps, and a network learns to undo one step at a time:

    q(x_t | x_{t-1}) = N( sqrt(1 - beta_t) x_{t-1}, beta_t )           the process, fixed
    q(x_t | x_0)     = N( sqrt(alpha_bar_t) x_0, 1 - alpha_bar_t )     all steps at once
    p(x_{t-1} | x_t) = N( mean of q(x_{t-1} | x_t, x_0 = denoised), sigma_t^2 )

Three pieces, each blind to how the others are made:

    process    `GaussianProcess`: alpha_bar and the closed forms that it gives
    denoiser   a function (x_t, step) -> estimate of x_0; `predicting_eps` makes one of a network
    sampler    `ancestral`, `ddim`: functions (process, denoiser, x_T) -> x_0

Nothing here knows the shape of a datum: pictures, rows and clouds are all ``(B, ...)``.
Steps count from 0 (data) to T (noise), so alpha_bar[0] = 1; networks see the time
t = step / T in [0, 1]. Equation numbers are those of Ho et al. (2020), "Denoising Diffusion
Probabilistic Models", https://arxiv.org/abs/2006.11239.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from genus.prob import noise

Network = Callable[[Tensor, Tensor], Tensor]
"""``(x_t, t)`` with t ``(B,)`` in [0, 1] -> the noise eps that is in x_t."""

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""``(x_t, step)`` with step ``(B,)`` in 1 .. T -> an estimate of x_0."""

Variance = Literal["beta", "posterior"]
"""sigma_t^2 of the reverse steps: beta_t (right for data N(0, 1)) or that of q(x_{t-1} | x_t, x_0)
(right for one single datum). They bound the best choice from above and below (section 3.2)."""


# --- noise process ----------------------------------------------------------------------


def linear_betas(steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """beta_1 .. beta_T on a line (section 4)."""
    return torch.linspace(first, last, steps, dtype=torch.float64).clamp(max=0.999)


def cosine_betas(steps: int, offset: float = 0.008) -> Tensor:
    """The betas for which alpha_bar falls like a squared cosine (Nichol & Dhariwal 2021,
    equation 17, https://arxiv.org/abs/2102.09672)."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha_bar = torch.cos((t + offset) / (1 + offset) * torch.pi / 2).square()
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


class GaussianProcess(nn.Module):
    """q: how data become noise, in closed form.

    betas: ``(T,)`` variances of the single steps, each in (0, 1). All methods take steps as
    integers ``(B,)`` and broadcast over the entries of x.
    """

    alpha_bar: Tensor

    def __init__(self, betas: Tensor):
        super().__init__()
        if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError(f"expected at least two betas in (0, 1), shape (T,); got {betas}.")
        kept = torch.cumprod(1 - betas.double(), 0)
        self.register_buffer("alpha_bar", torch.cat([kept.new_ones(1), kept]))  # (T + 1,), float64

    @property
    def steps(self) -> int:
        """T, the number of steps from data to noise."""
        return len(self.alpha_bar) - 1

    def alpha_bar_at(self, step: Tensor, like: Tensor) -> Tensor:
        """alpha_bar of each datum in float64, shaped to broadcast with ``like``."""
        return self.alpha_bar[step].view(-1, *[1] * (like.ndim - 1))

    def diffuse(self, x_0: Tensor, step: Tensor, eps: Tensor) -> Tensor:
        """A draw of q(x_t | x_0) made of standard normal ``eps`` (equation 4)."""
        kept = self.alpha_bar_at(step, x_0)
        return kept.sqrt().to(x_0) * x_0 + (1 - kept).sqrt().to(x_0) * eps

    def x_0_of(self, x_t: Tensor, eps: Tensor, step: Tensor) -> Tensor:
        """The datum that becomes x_t with the noise eps."""
        kept = self.alpha_bar_at(step, x_t)
        return (1 / kept).sqrt().to(x_t) * x_t - (1 / kept - 1).sqrt().to(x_t) * eps

    def eps_of(self, x_t: Tensor, x_0: Tensor, step: Tensor) -> Tensor:
        """The noise that turns x_0 into x_t."""
        kept = self.alpha_bar_at(step, x_t)
        return (1 / (1 - kept)).sqrt().to(x_t) * x_t - (kept / (1 - kept)).sqrt().to(x_t) * x_0

    def posterior(self, x_t: Tensor, x_0: Tensor, step: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(x_previous | x_t, x_0) for previous < step (equations 6, 7).

        The variance broadcasts with x_t.
        """
        kept, kept_before = self.alpha_bar_at(step, x_t), self.alpha_bar_at(previous, x_t)
        alpha = kept / kept_before  # of the step, or of all the steps in between together
        from_x_0 = kept_before.sqrt() * (1 - alpha) / (1 - kept)
        from_x_t = alpha.sqrt() * (1 - kept_before) / (1 - kept)
        mean = from_x_0.to(x_t) * x_0 + from_x_t.to(x_t) * x_t
        return mean, ((1 - alpha) * (1 - kept_before) / (1 - kept)).to(x_t)

    def reverse_variance(self, x_t: Tensor, step: Tensor, previous: Tensor, kind: Variance) -> Tensor:
        """sigma_t^2 of p(x_previous | x_t). The posterior's is zero for the last step, which
        ends in data; there that of the step before stands in, as in the authors' code."""
        if kind == "beta":
            return (1 - self.alpha_bar_at(step, x_t) / self.alpha_bar_at(previous, x_t)).to(x_t)
        return self.posterior(x_t, x_t, step.clamp(min=2), previous.clamp(min=1))[1]

    def time(self, step: Tensor) -> Tensor:
        """t in [0, 1], what networks see."""
        return step / self.steps


# --- denoiser and loss --------------------------------------------------------------------


def predicting_eps(process: GaussianProcess, network: Network, clip: bool = False) -> Denoiser:
    """The denoiser of a network that predicts eps; ``clip`` keeps the estimate in [-1, 1]."""

    def denoise(x_t: Tensor, step: Tensor) -> Tensor:
        x_0 = process.x_0_of(x_t, network(x_t, process.time(step)).to(x_t), step)
        return x_0.clamp(-1, 1) if clip else x_0

    return denoise


def simple_loss(
    process: GaussianProcess, network: Network, x_0: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """L_simple: the squared error of the predicted noise at a random step, ``(B,)`` (equation 14).

    A mean over the entries of a datum, so that the learning rate does not depend on their number.
    """
    step = 1 + noise.integers(process.steps, (len(x_0),), generator, x_0.device)
    eps = noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype)
    predicted = network(process.diffuse(x_0, step, eps), process.time(step))
    return (eps - predicted.to(eps)).square().flatten(1).mean(1)


# --- variational bound ----------------------------------------------------------------------


def normal_kl(mean_q: Tensor, var_q: Tensor, mean_p: Tensor, var_p: Tensor) -> Tensor:
    """KL( N(mean_q, var_q) || N(mean_p, var_p) ) of each entry, in nats."""
    return 0.5 * (var_p.log() - var_q.log() + (var_q + (mean_q - mean_p).square()) / var_p - 1)


@torch.no_grad()
def bound_terms(
    process: GaussianProcess,
    denoise: Denoiser,
    x_0: Tensor,
    log_decoder: Callable[[Tensor, Tensor], Tensor],
    *,
    variance: Variance = "beta",
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """The terms of -log p(x_0) <= L_0 + sum_t L_{t-1} + L_T (equation 5), one noise draw each.

    log_decoder: ``(mean, scale)`` of p(x_0 | x_1) -> log-probability of each entry of the
    datum. Returns float64 nats: "L_0" ``(B,)``, "L_t" ``(B, T-1)`` whose column t-2 is
    L_{t-1}, and "L_T" ``(B,)``. Calls the denoiser T times; keeps no gradients.
    """

    def reverse(k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        step, previous = x_0.new_full((len(x_0),), k, dtype=torch.long), x_0.new_full((len(x_0),), k - 1).long()
        x_t = process.diffuse(x_0, step, noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype))
        mean_q, var_q = process.posterior(x_t, x_0, step, previous)
        mean_p, _ = process.posterior(x_t, denoise(x_t, step), step, previous)
        return mean_q, var_q, mean_p, process.reverse_variance(x_t, step, previous, variance)

    def total(each: Tensor) -> Tensor:
        return each.double().flatten(1).sum(1)

    _, _, mean, var = reverse(1)
    last = x_0.new_full((len(x_0),), process.steps, dtype=torch.long)
    kept = process.alpha_bar_at(last, x_0)
    return {
        "L_0": -total(log_decoder(mean, var.sqrt())),
        "L_t": torch.stack([total(normal_kl(*reverse(k))) for k in range(2, process.steps + 1)], dim=1),
        "L_T": total(normal_kl(kept.sqrt() * x_0, 1 - kept, torch.zeros_like(kept), torch.ones_like(kept))),
    }


# --- samplers -------------------------------------------------------------------------------


def spacing(total: int, steps: int | None = None) -> list[tuple[int, int]]:
    """``steps`` pairs (step, previous) from ``total`` down to 0, evenly spaced and rounded.

    Both ends belong to it: the first pair starts at T, where x is pure noise, and the last
    one ends at 0, where alpha_bar is 1. None takes every step.
    """
    steps = total if steps is None else steps
    if not 1 <= steps <= total:
        raise ValueError(f"expected 1..{total} sampling steps, as the process has {total}; got {steps}.")
    points = [round(total * (1 - i / steps)) for i in range(steps + 1)]
    return list(pairwise(points))


def _pairs(process: GaussianProcess, x: Tensor, steps: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    for pair in spacing(process.steps, steps):
        yield tuple(torch.full((len(x),), k, device=x.device) for k in pair)  # type: ignore[misc]


@torch.no_grad()
def ancestral(
    process: GaussianProcess,
    denoise: Denoiser,
    x: Tensor,
    *,
    steps: int | None = None,
    variance: Variance = "beta",
    generator: torch.Generator | None = None,
) -> Tensor:
    """x_0 from x_T = ``x`` by draws of p(x_{t-1} | x_t); the last step takes the mean (algorithm 2)."""
    for step, previous in _pairs(process, x, steps):
        mean, _ = process.posterior(x, denoise(x, step), step, previous)
        if previous[:1].any():
            scale = process.reverse_variance(x, step, previous, variance).sqrt()
            mean = mean + scale * noise.normal(tuple(x.shape), generator, x.device, x.dtype)
        x = mean
    return x


@torch.no_grad()
def ddim(
    process: GaussianProcess,
    denoise: Denoiser,
    x: Tensor,
    *,
    steps: int | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """x_0 from x_T = ``x`` by the non-Markovian steps of Song et al. (2021), equation 12,
    https://arxiv.org/abs/2010.02502.

    eta: share of fresh noise; 0 is a deterministic map of ``x``, 1 has the law of `ancestral`
    with the posterior's variance.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"expected eta in [0, 1]; got {eta}.")
    for step, previous in _pairs(process, x, steps):
        x_0 = denoise(x, step)
        eps = process.eps_of(x, x_0, step)  # of the estimate after any clipping
        kept = process.alpha_bar_at(previous, x)
        fresh = eta**2 * process.posterior(x, x_0, step, previous)[1].double()  # sigma^2, equation 16
        x = kept.sqrt().to(x) * x_0 + (1 - kept - fresh).clamp(min=0).sqrt().to(x) * eps
        if eta and previous[:1].any():
            x = x + fresh.sqrt().to(x) * noise.normal(tuple(x.shape), generator, x.device, x.dtype)
    return x
