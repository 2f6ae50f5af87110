"""The running average of the weights, which samples and scores are drawn with."""

import copy

import torch

from genus.contract import GenerativeModel


class Average:
    """An exponential moving average of a model's parameters.

    Buffers (batch statistics, spectral norm's vectors) are copied, never averaged. The
    decay warms up as ``min(decay, (1 + step) / (10 + step))``, so that short runs are not
    dominated by the initial weights.
    """

    def __init__(self, model: GenerativeModel, decay: float):
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self._average = [p.data for p in self.model.parameters()]
        self._live = [p.data for p in model.parameters()]
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the live weights after a step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._average, self._live, 1.0 - decay)
        for average, live in self._buffers:
            average.copy_(live)
