"""A normal density cut into ``levels`` bins with open ends, so that the bins sum to one.

Level k of 0 .. levels-1 sits at 2k/(levels-1) - 1 in [-1, 1] and owns the interval of half a
step on either side; the first and the last bin reach to infinity (Ho et al. 2020, equation
13, https://arxiv.org/abs/2006.11239).
"""

import math

import torch
from torch import Tensor
from torch.special import log_ndtr

from genus.prob.discretized_logistic import to_unit


def log_prob(x: Tensor, mean: Tensor, scale: Tensor, levels: int) -> Tensor:
    """log P(x) of each entry, in nats, as float64.

    x: integers 0 .. levels-1. mean and scale: of the density, in [-1, 1] units; they
    broadcast. Exact far in the tails too: log(Phi(b) - Phi(a)) is taken from log Phi on the
    side where Phi is small, so nothing cancels.
    """
    half = 1 / (levels - 1)
    centre = to_unit(x, levels, torch.float64) - mean.double()
    a, b = (centre - half) / scale.double(), (centre + half) / scale.double()
    right = centre > 0
    a, b = torch.where(right, -b, a), torch.where(right, -a, b)  # mirrored into the left tail
    inside = log_ndtr(b) + _log1mexp(log_ndtr(a) - log_ndtr(b))
    below_b = log_ndtr(torch.where(right, -a, b))
    above_a = log_ndtr(torch.where(right, b, -a))
    return torch.where(x == 0, below_b, torch.where(x == levels - 1, above_a, inside))


def _log1mexp(d: Tensor) -> Tensor:
    """log(1 - exp(d)) for d < 0 (Mächler 2012)."""
    near = d > -math.log(2)
    return torch.where(
        near, torch.log(-torch.expm1(torch.where(near, d, -1.0))), torch.log1p(-torch.exp(torch.where(near, -1.0, d)))
    )
