"""Means and sums over a batch's entries, kept exact where it matters."""

import math

import torch
from torch import Tensor


def logmeanexp(log_w: Tensor, dim: int = 0) -> Tensor:
    """log of the mean of exp(log_w) along ``dim``, computed in float64."""
    return torch.logsumexp(log_w.double(), dim) - math.log(log_w.shape[dim])
