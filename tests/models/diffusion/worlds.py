"""Distributions whose perfect denoiser is known, and processes to drown them in."""

import torch
from torch import Tensor

from genus.models.diffusion import _process
from genus.models.diffusion._denoiser import Denoiser
from genus.testing.oracles import GaussianMixture


def steps(count: int = 20, schedule: str = "linear") -> _process.Steps:
    stretch = 1000 / count
    betas = {
        "linear": lambda: _process.linear_betas(count, 1e-4 * stretch, 0.02 * stretch),
        "cosine": lambda: _process.cosine_betas(count),
        "sigmoid": lambda: _process.sigmoid_betas(count),
    }[schedule]()
    return _process.Steps(betas)


PROCESSES: dict[str, _process.GaussianProcess] = {
    "linear": steps(1000),
    "cosine": steps(1000, "cosine"),
    "straight": _process.RectifiedFlow(),
    "exploding": _process.VarianceExploding(),
    "log-linear": _process.LogLinear(-10.0, 7.0),
}


def mixture() -> GaussianMixture:
    return GaussianMixture(
        torch.tensor([0.3, 0.7]).double(),
        torch.tensor([[-1.0, 0.5], [0.8, -0.3]]).double(),
        torch.tensor([0.4, 0.3]).double(),
    )


def perfect(process: _process.GaussianProcess, distribution: GaussianMixture) -> Denoiser:
    """E[x_0 | x_t]."""

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return distribution.denoised(x_t, *(float(v) for v in process.alpha_sigma(t[:1])))

    return denoise


def shrinking(process: _process.GaussianProcess) -> Denoiser:
    """E[x_0 | x_t] for data N(0, 1) in a process with alpha^2 + sigma^2 = 1."""
    return lambda x_t, t: process.at(t, x_t)[0].to(x_t) * x_t
