"""From noise to data with a denoiser: samplers of any Gaussian process, along any times.

    ancestral   draws each x_s from p(x_s | x_t), the step that the model was trained to take
    ddim        x_s = alpha_s x_0 + sqrt(sigma_s^2 - fresh) eps + fresh noise; order 1 without it
    heun        a step there and a correction back, two calls a step; order 2
    dpm_solver  DPM-Solver++(2M): the estimate before helps; one call a step; order 2
    runge_kutta the classical method in the angle of the process, four calls a step; order 4

Without fresh noise all but `ancestral` solve one ordinary differential equation, the probability flow
(Song et al. 2021, https://arxiv.org/abs/2011.13456, equation 13), whose solution has the distribution of x_t at
every time. It goes both ways: noise to data is sampling, data to noise is encoding.

Times are lists that fall from 1 to 0 (or part of the way); `even` makes them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from genus.models.diffusion._denoiser import Denoiser
from genus.models.diffusion._process import GaussianProcess
from genus.prob import noise

Reverse = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(x_t, t, s)`` -> mean and variance of p(x_s | x_t)."""

State = tuple[Tensor, ...]
"""What an equation moves; its slopes depend on the first part."""

Sampler = Literal["ancestral", "ddim", "heun", "dpm_solver", "runge_kutta"]


def even(steps: int) -> list[float]:
    """steps + 1 evenly spaced times from 1 down to 0."""
    if steps < 1:
        raise ValueError(f"expected 1 or more sampling steps; got {steps}.")
    return [1 - k / steps for k in range(steps)] + [0.0]


def of_steps(total: int, steps: int | None = None) -> list[float]:
    """Times that a process of ``total`` steps knows, ``steps`` of them from 1 down to 0, evenly spaced and rounded.

    Both ends belong to it: the first is the last step of the process, where x is pure noise, and the last is 0,
    where there is none. None takes every step.
    """
    steps = total if steps is None else steps
    if not 1 <= steps <= total:
        raise ValueError(f"expected 1..{total} sampling steps, as the process has {total}; got {steps}.")
    return [round(total * t) / total for t in even(steps)]


def all_at(time: float, x: Tensor) -> Tensor:
    """One time for all data, ``(B,)`` float64."""
    return torch.full((len(x),), time, dtype=torch.float64, device=x.device)


def start(process: GaussianProcess, eps: Tensor) -> Tensor:
    """x at time 1, made of standard normal noise."""
    return scale(process, all_at(1.0, eps), eps) * eps


def pairs(times: Sequence[float], x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each time and the next, one a datum."""
    for pair in pairwise(times):
        t, s = (all_at(time, x) for time in pair)
        yield t, s


@torch.no_grad()
def ancestral(reverse: Reverse, x: Tensor, times: Sequence[float], generator: torch.Generator | None = None) -> Tensor:
    """Draws of p(x_s | x_t), one after the other; the last takes the mean (Ho et al. 2020, algorithm 2)."""
    for t, s in pairs(times, x):
        mean, variance = reverse(x, t, s)
        x = mean
        if s[:1].any():
            x = x + variance.sqrt() * noise.normal(tuple(x.shape), generator, x.device, x.dtype)
    return x


@torch.no_grad()
def ddim(
    process: GaussianProcess,
    denoise: Denoiser,
    x: Tensor,
    times: Sequence[float],
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The non-Markovian steps of Song et al. (2021), equation 12, https://arxiv.org/abs/2010.02502.

    eta: share of fresh noise; 0 is a deterministic map of ``x``, 1 has the distribution of `ancestral`
    with the posterior's variance.
    """
    for t, s in pairs(times, x):
        x = towards(process, denoise(x, t), x, t, s, eta, generator)
    return x


def towards(
    process: GaussianProcess,
    x_0: Tensor,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    eta: float,
    generator: torch.Generator | None,
) -> Tensor:
    """From x at t to time s if ``x_0`` is the datum, with a share ``eta`` of fresh noise."""
    if not 0 <= eta <= 1:
        raise ValueError(f"expected eta in [0, 1]; got {eta}.")
    eps = process.eps_of(x, x_0, t)  # of the estimate after any clipping
    alpha, sigma = process.at(s, x)
    fresh = eta**2 * process.posterior(x, x_0, t, s)[1].double() if eta else torch.zeros_like(sigma)  # equation 16
    x = alpha.to(x) * x_0 + (sigma.square() - fresh).clamp(min=0).sqrt().to(x) * eps
    if eta and s[:1].any():
        x = x + fresh.sqrt().to(x) * noise.normal(tuple(x.shape), generator, x.device, x.dtype)
    return x


@torch.no_grad()
def heun(process: GaussianProcess, denoise: Denoiser, x: Tensor, times: Sequence[float]) -> Tensor:
    """A step along the slope at its start, then again along the mean of that and the slope at its end (Karras et al.
    2022, algorithm 1 without fresh noise, https://arxiv.org/abs/2206.00364).

    Against sigma / alpha the slope of x / alpha is eps, as in the paper; against alpha / sigma that of x / sigma is
    x_0. A step is taken against the one that is below 1, so that neither end of a process is far away. A step that
    ends in data has no end to look from.
    """
    for t, s in pairs(times, x):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = process.at(t, x), process.at(s, x)
        x_0 = denoise(x, t)
        eps = process.eps_of(x, x_0, t)
        end = alpha_s.to(x) * x_0 + sigma_s.to(x) * eps
        if s[:1].any():
            later = denoise(end, s)
            if bool((sigma_t > alpha_t).flatten()[0]):
                x_0 = 0.5 * (x_0 + later)
                end = (sigma_s / sigma_t).to(x) * x + (alpha_s - sigma_s * alpha_t / sigma_t).to(x) * x_0
            else:
                eps = 0.5 * (eps + process.eps_of(end, later, s))
                end = (alpha_s / alpha_t).to(x) * x + (sigma_s - alpha_s * sigma_t / alpha_t).to(x) * eps
        x = end
    return x


@torch.no_grad()
def dpm_solver(
    process: GaussianProcess,
    denoise: Denoiser,
    x: Tensor,
    times: Sequence[float],
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """DPM-Solver++(2M) of Lu et al. (2022), algorithm 2, https://arxiv.org/abs/2211.01095: `ddim` that looks ahead.

    With lambda = log(alpha / sigma) and h its change in a step, the estimate of x_0 is extended along lambda by half
    a step with the one before. The first step has none before, and the last, which ends in data, is infinitely long.

    eta: as in `ddim`; 1 is their SDE-DPM-Solver++(2M).
    """
    before: tuple[Tensor, Tensor] | None = None  # the last estimate and the last h
    for t, s in pairs(times, x):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = process.at(t, x), process.at(s, x)
        h = torch.log(alpha_s / sigma_s) - torch.log(alpha_t / sigma_t)
        x_0 = denoise(x, t)
        ahead = x_0
        if before is not None and h.isfinite().all() and before[1].isfinite().all():
            ahead = x_0 + (h / (2 * before[1])).to(x) * (x_0 - before[0])
        x = towards(process, ahead, x, t, s, eta, generator)
        before = x_0, h
    return x


def slope(process: GaussianProcess, denoise: Denoiser, u: Tensor, angle: float) -> Tensor:
    """du / dphi of u = x_t / sqrt(alpha^2 + sigma^2): cos(phi) eps - sin(phi) x_0 (Salimans & Ho 2022, appendix D,
    https://arxiv.org/abs/2202.00512). angle: in (0, pi / 2]."""
    t = process.time_at(all_at(angle, u))
    x_0 = denoise(u * scale(process, t, u), t)
    # eps = (u - cos x_0) / sin
    return (u * math.cos(angle) - x_0) / math.sin(angle)


def scale(process: GaussianProcess, t: Tensor, like: Tensor) -> Tensor:
    """sqrt(alpha^2 + sigma^2)."""
    alpha, sigma = process.at(t, like)
    return torch.sqrt(alpha.square() + sigma.square()).to(like)


def classical(slopes: Callable[[Tensor, float], State], state: State, start: float, end: float) -> State:
    """One step of the classical Runge-Kutta method, from a place ``start`` on the way to another, ``end``."""
    h, first = end - start, state[0]
    k1 = slopes(first, start)
    k2 = slopes(first + 0.5 * h * k1[0], start + 0.5 * h)
    k3 = slopes(first + 0.5 * h * k2[0], start + 0.5 * h)
    k4 = slopes(first + h * k3[0], end)
    return tuple(
        part + h / 6 * (s1 + 2 * s2 + 2 * s3 + s4) for part, s1, s2, s3, s4 in zip(state, k1, k2, k3, k4, strict=True)
    )


@torch.no_grad()
def runge_kutta(process: GaussianProcess, denoise: Denoiser, x: Tensor, times: Sequence[float]) -> Tensor:
    """The classical method of order 4 in the angle of the process, up or down.

    A step that ends in data jumps to the denoiser's estimate, as the slope has no value there.
    """
    for t, s in pairs(times, x):
        if not s[:1].any():
            return denoise(x, t)
        start, end = (float(process.angle(time[:1])) for time in (t, s))
        u = x / scale(process, t, x)
        (u,) = classical(lambda u, angle: (slope(process, denoise, u, angle),), (u,), start, end)
        x = u * scale(process, s, x)
    return x
