"""Raw data as numbers of the size that a standard normal has, and back."""

import math

import torch
from torch import Tensor, nn

from genus.contract import Split, batches
from genus.kinds import Domain, Points
from genus.prob import noise
from genus.prob.discretized_logistic import to_level, to_unit


class Scaling(nn.Module):
    """Grids and sound go to [-1, 1]. Vectors are standardised feature by feature. Clouds are centred
    and divided by one scalar, so that shapes keep their proportions.

    shift, scale: buffers ``(features,)``, set by `initialise` from the training split; data
    of levels have none.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, domain: Domain):
        super().__init__()
        self.domain = domain
        if not domain.discrete:
            self.register_buffer("shift", torch.zeros(domain.shape[-1]))
            self.register_buffer("scale", torch.ones(domain.shape[-1]))

    @torch.no_grad()
    def initialise(self, split: Split) -> None:
        """Measure mean and standard deviation of the split (two passes, float64)."""
        if self.domain.discrete:
            return
        axes = self.shift.shape[0]

        def average(of: Tensor | None) -> Tensor:
            """Mean of the data, or their mean square around ``of``."""
            total, count = torch.zeros(axes, dtype=torch.float64), 0
            for batch in batches(split, 1024):
                rows = batch.x.double().cpu().reshape(-1, axes)
                total += (rows if of is None else (rows - of).square()).sum(0)
                count += len(rows)
            return total / max(count, 1)

        mean = average(None)
        variance = average(mean)
        if isinstance(self.domain, Points):
            variance = variance.mean().expand(axes)
        self.shift.copy_(mean)
        self.scale.copy_(torch.where(variance > 0, variance, 1.0).sqrt())  # a constant feature stays as it is

    def encode(self, x: Tensor) -> Tensor:
        """Raw data -> float32 of the same shape."""
        if self.domain.levels is not None:
            return to_unit(x, self.domain.levels)
        return (x - self.shift) / self.scale

    def decode(self, y: Tensor) -> Tensor:
        """The inverse; rounded to the levels, where there are any."""
        if self.domain.levels is not None:
            return to_level(y, self.domain.levels).to(self.domain.dtype)
        return y * self.scale + self.shift

    def log_det(self, x: Tensor) -> Tensor:
        """log |d encode / dx| of one datum of a continuous domain (float64)."""
        return -self.scale.double().log().sum() * (x[0].numel() / len(self.scale))

    def dequantize(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, float]:
        """Data whose density a model can have, and the log of a raw unit's volume in them: log p(x) is at least the
        mean of the log-density plus that volume. Levels are filled with uniform noise, a bin each."""
        if self.domain.levels is None:
            return self.encode(x), float(self.log_det(x))
        width = 2 / (self.domain.levels - 1)
        u = noise.uniform(tuple(x.shape), generator, x.device)
        return self.encode(x) + width * (u - 0.5), x[0].numel() * math.log(width)
