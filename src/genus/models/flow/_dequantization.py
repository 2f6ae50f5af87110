"""From integers to real numbers, for flows on pictures."""

import math

import torch
from torch import Tensor, nn

from genus.contract import Likelihood
from genus.prob import noise


class UniformDequantization(nn.Module):
    """Integers ``0..levels-1`` -> unbounded reals: add uniform noise, then take a logit.

    v = (x + u) / levels in [0, 1),   y = logit(alpha + (1 - 2 alpha) v)     (RealNVP, section 4.1)

    log P(x) = log E_u p(x + u) >= E_u log p(x + u): any average over u of the log density
    is a *bound* (Theis et al. 2016, section 3.1).

    levels: number of values of an entry. alpha: in (0, 0.5); how far the logit stays away
    from 0 and 1.
    """

    likelihood = Likelihood.BOUND

    def __init__(self, levels: int, alpha: float):
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha: expected a number in (0, 0.5); got {alpha}.")
        self.levels, self.alpha = levels, alpha

    def forward(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Integers ``x`` and noise ``u`` in [0, 1) -> y and log |dy / d(x + u)|, ``(B,)``."""
        p = self.alpha + (1 - 2 * self.alpha) * (x + u) / self.levels
        log_slope = math.log((1 - 2 * self.alpha) / self.levels) - p.log() - (1 - p).log()
        return p.logit(), log_slope.flatten(1).sum(1)

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The noise ``u`` for ``x``."""
        return noise.uniform(tuple(x.shape), generator, x.device)

    def inverse(self, y: Tensor) -> Tensor:
        """The integers (int64) whose cell holds ``y``; what lies beyond 0 and 1 is clamped."""
        v = (y.sigmoid() - self.alpha) / (1 - 2 * self.alpha)
        return (v * self.levels).floor().clamp(0, self.levels - 1).long()
