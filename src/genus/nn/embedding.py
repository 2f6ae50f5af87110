"""Numbers as vectors that a network can tell apart."""

import math

import torch
from torch import Tensor, nn


def sinusoidal(position: Tensor, features: int, longest: float = 10_000.0) -> Tensor:
    """Sines and cosines of positions ``(B,)`` at geometric wavelengths up to 2 pi ``longest``: ``(B, features)``.

    Vaswani et al. (2017), section 3.5, https://arxiv.org/abs/1706.03762.
    """
    half = (features + 1) // 2
    frequencies = torch.exp(torch.arange(half, device=position.device) * (-math.log(longest) / max(half - 1, 1)))
    angle = position.float()[:, None] * frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :features]


class TimeEmbedding(nn.Module):
    """Time t ``(B,)`` in [0, 1] -> ``(B, features)``: a sinusoidal code, then two layers.

    inputs: width of the sinusoidal code, in which t spans 1,000 positions.
    """

    def __init__(self, inputs: int, features: int):
        super().__init__()
        self.inputs = inputs
        self.layers = nn.Sequential(nn.Linear(inputs, features), nn.SiLU(), nn.Linear(features, features))

    def forward(self, t: Tensor) -> Tensor:
        """``(B,)`` -> ``(B, features)``."""
        return self.layers(sinusoidal(1000 * t, self.inputs))
