"""What a network predicts, and the denoiser that it makes: an estimate of x_0 from x_t.

Whatever the network is asked for, its output F is one linear function of x_0 and x_t away from the datum:

    D(x_t, t) = c_skip x_t + c_out F(c_in x_t, t)

    predicts   c_skip                 c_out
    eps        1 / alpha              -sigma / alpha           Ho et al. (2020), equation 11
    x_0        0                      1
    v          alpha                  -sigma                   Salimans & Ho (2022), appendix D, alpha^2 + sigma^2 = 1
    score      1 / alpha              sigma^2 / alpha          Song et al. (2021): the gradient of log q(x_t)
    velocity   1 / (alpha + sigma)    -sigma / (alpha + sigma) Lipman et al. (2023): eps - x_0
    edm        spread^2 / total^2     sigma spread / total     Karras et al. (2022), table 1, of x_t / alpha;
                                                               total^2 = (sigma / alpha)^2 + spread^2

So one line gives the target of training for each of them, F* = (x_0 - c_skip x_t) / c_out, and the
predictions differ in nothing but which errors they weigh, and how large the numbers are.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from genus.models.diffusion._process import GaussianProcess

Network = Callable[[Tensor, Tensor], Tensor]
"""``(c_in x_t, t)`` with t ``(B,)`` in [0, 1] -> F."""

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""``(x_t, t)`` with t ``(B,)`` float64 in (0, 1] -> an estimate of x_0."""

Prediction = Literal["eps", "x_0", "v", "score", "velocity", "edm"]


def coefficients(
    prediction: Prediction, alpha: Tensor, sigma: Tensor, spread: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out and c_in for alpha and sigma of any shape, in float64. spread: of the data, for ``edm``."""
    one = torch.ones_like(sigma)
    if prediction == "eps":
        return 1 / alpha, -sigma / alpha, one
    if prediction == "x_0":
        return 0 * one, one, one
    if prediction == "v":
        return alpha, -sigma, one
    if prediction == "score":
        return 1 / alpha, sigma.square() / alpha, one
    if prediction == "velocity":
        return 1 / (alpha + sigma), -sigma / (alpha + sigma), one
    noise = sigma / alpha
    total = torch.sqrt(noise.square() + spread**2)
    return spread**2 / total.square() / alpha, noise * spread / total, 1 / (alpha * total)


def denoiser(
    process: GaussianProcess,
    network: Network,
    prediction: Prediction = "eps",
    *,
    spread: float = 0.5,
    clip: bool = False,
) -> Denoiser:
    """The denoiser that a network makes; ``clip`` keeps the estimate in [-1, 1]."""

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        c_skip, c_out, c_in = coefficients(prediction, *process.at(t, x_t), spread)
        x_0 = c_skip.to(x_t) * x_t + c_out.to(x_t) * network(c_in.to(x_t) * x_t, t).to(x_t)
        return x_0.clamp(-1, 1) if clip else x_0

    return denoise


def error(
    process: GaussianProcess,
    network: Network,
    prediction: Prediction,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    spread: float = 0.5,
) -> Tensor:
    """The squared error of F at x_t, a mean over the entries of a datum: ``(B,)``.

    For ``eps`` it is L_simple (Ho et al. 2020, equation 14) but for the mean, which keeps the learning rate
    from depending on the number of entries.
    """
    x_t = process.diffuse(x_0, t, eps)
    c_skip, c_out, c_in = coefficients(prediction, *process.at(t, x_0), spread)
    target = (x_0 - c_skip.to(x_0) * x_t) * (1 / c_out).to(x_0)
    if prediction == "eps":
        target = eps  # the same, without the division
    return (target - network(c_in.to(x_0) * x_t, t).to(x_0)).square().flatten(1).mean(1)
