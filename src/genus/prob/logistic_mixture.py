"""Mixtures of discretized logistics: one mixture a pixel, whose channels depend on those before.

A component k draws the first channel from a logistic cut into bins (`discretized_logistic`), and
each later one from another, whose mean moves linearly with the channels already drawn:

    p(x) = sum_k w_k prod_j P(x_j | mean_jk + sum_i<j c_jik x_i, scale_jk)     x_i in [-1, 1] there

(Salimans et al. 2017, https://arxiv.org/abs/1701.05517). The components are of the whole pixel: so
given its first channels the mixture of the next has other weights, those of the posterior,
w_k prod_i<j P(x_i | ...) up to a constant. `channel` gives them.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from genus.prob import discretized_logistic

LOG_SCALES = (-7.0, 20.0)  # the floor is the paper's; beyond the ceiling, bins underflow


@dataclass(frozen=True)
class LogisticMixture:
    """Pixels of ``channels`` values 0 .. levels-1, K components each.

    log_weights: ``(..., K)``, normalised. means, log_scales: ``(..., channels, K)`` in units where the levels
    span [-1, 1]. slopes: ``(..., channels (channels - 1) / 2, K)``, those of the second channel first.
    """

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor
    slopes: Tensor
    levels: int

    @staticmethod
    def rows(channels: int) -> int:
        """Numbers that a component needs."""
        return 1 + 2 * channels + channels * (channels - 1) // 2

    @classmethod
    def of(cls, outputs: Tensor, channels: int, levels: int) -> Self:
        """From unconfined numbers ``(..., rows * K)`` of a network: weights by softmax, log-scales held within
        `LOG_SCALES`, slopes between -1 and 1."""
        rows = outputs.unflatten(-1, (cls.rows(channels), -1))
        weights, means, scales, slopes = rows.split([1, channels, channels, rows.shape[-2] - 1 - 2 * channels], -2)
        return cls(weights.squeeze(-2).log_softmax(-1), means, scales.clamp(*LOG_SCALES), slopes.tanh(), levels)

    @property
    def channels(self) -> int:
        """Values of a pixel."""
        return self.means.shape[-2]

    def distribution(self, x: Tensor, channel: int) -> tuple[Tensor, Tensor]:
        """Mean and log-scale ``(..., K)`` of a channel in each component, given those before it in x ``(..., C)``."""
        mean, first = self.means[..., channel, :], channel * (channel - 1) // 2
        if channel:
            before = discretized_logistic.to_unit(x[..., :channel, None], self.levels, mean.dtype)
            mean = mean + (self.slopes[..., first : first + channel, :] * before).sum(-2)
        return mean, self.log_scales[..., channel, :]

    def joint(self, x: Tensor, channels: int) -> Tensor:
        """log w_k p_k(the first channels of x): ``(..., K)``."""
        joint = self.log_weights
        for channel in range(channels):
            value = x[..., channel, None]
            joint = joint + discretized_logistic.log_prob(value, *self.distribution(x, channel), self.levels)
        return joint

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of whole pixels x ``(..., C)``: ``(...)``."""
        return self.joint(x, self.channels).logsumexp(-1)

    def channel(self, x: Tensor, channel: int) -> Tensor:
        """log p of each level of a channel, given the channels before it in x ``(..., C)``: ``(..., levels)``."""
        weights = self.joint(x, channel).log_softmax(-1).unsqueeze(-2)
        mean, log_scale = (part.unsqueeze(-2) for part in self.distribution(x, channel))
        values = torch.arange(self.levels, device=x.device).unsqueeze(-1)
        return (weights + discretized_logistic.log_prob(values, mean, log_scale, self.levels)).logsumexp(-1)
