"""A logistic density cut into ``levels`` bins with open ends, so that the bins sum to one.

Level k of 0 .. levels-1 sits at 2k/(levels-1) - 1 in [-1, 1] and owns the interval of half a
step on either side; the first and the last bin reach to infinity (Kingma et al. 2016,
https://arxiv.org/abs/1606.04934; Salimans et al. 2017, https://arxiv.org/abs/1701.05517).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.prob import noise


def to_unit(x: Tensor, levels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Levels 0 .. levels-1 as numbers in [-1, 1]."""
    return x.to(dtype) * (2 / (levels - 1)) - 1


def to_level(u: Tensor, levels: int) -> Tensor:
    """The level whose bin holds ``u`` (float, whole numbers)."""
    return ((u + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1)


def log_prob(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """log P(x) of each entry, in nats.

    x: integers 0 .. levels-1. mean: the centre of the density, in [-1, 1] units but not
    confined to them. log_scale: log of the density's scale in the same units.

    Nothing is subtracted that could cancel: for the bin between b and a,
    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)).
    """
    precision = torch.exp(-log_scale)
    step = 2 / (levels - 1)
    a = precision * (to_unit(x, levels, mean.dtype) + step / 2 - mean)  # upper edge
    width = precision * step  # a - b
    lowest, highest = x == 0, x == levels - 1
    below_a = F.logsigmoid(a).masked_fill(highest, 0.0)
    above_b = F.logsigmoid(width - a).masked_fill(lowest, 0.0)
    return below_a + above_b + torch.log(-torch.expm1(-width)).masked_fill(lowest | highest, 0.0)


def sample(mean: Tensor, log_scale: Tensor, levels: int, generator: torch.Generator | None = None) -> Tensor:
    """Draws of each entry: a logistic draw, rounded to its bin (float, whole numbers)."""
    u = noise.uniform(tuple(mean.shape), generator, mean.device, mean.dtype)
    tiny = torch.finfo(mean.dtype).tiny
    return to_level(mean + log_scale.exp() * torch.logit(u.clamp(min=tiny)), levels)
