"""Diagonal normal densities."""

import math

import torch
from torch import Tensor


def log_prob(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log N(x; mean, exp(log_scale)^2) of each entry, in nats; the arguments broadcast."""
    return -0.5 * ((x - mean) * torch.exp(-log_scale)).square() - log_scale - 0.5 * math.log(2 * math.pi)


def kl_to_standard(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL( N(mean, exp(log_var)) || N(0, 1) ) of each entry, in nats."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
