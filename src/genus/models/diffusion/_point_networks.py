"""The networks of point diffusion: a reader of clouds, and two that walk points back from noise.

The point networks take points ``(B, N, dim)`` and one context a cloud, ``(B, context)``, and
treat every point alone.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Encoder(nn.Module):
    """PointNet: clouds ``(B, N, dim)`` -> mean and log-variance of q(z | x), each ``(B, latent_features)``.

    A network shared by all points, the maximum over the points, and a head for each output:
    the order of the points cannot matter.
    """

    def __init__(self, dim: int, latent_features: int, width: int):
        super().__init__()
        sizes = [dim, width, width, 2 * width, 4 * width]
        layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
        self.points = nn.ModuleList(layers)
        self.mean = self._head(4 * width, latent_features)
        self.log_var = self._head(4 * width, latent_features)

    @staticmethod
    def _head(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(inputs, inputs // 2), nn.ReLU(), nn.Linear(inputs // 2, inputs // 4), nn.ReLU(),
            nn.Linear(inputs // 4, outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x
        for layer in self.points[:-1]:
            h = F.relu(layer(h))
        h = self.points[-1](h).amax(1)
        return self.mean(h).float(), self.log_var(h).float()


class ConcatSquash(nn.Module):
    """A linear layer of points whose gate and shift come from the context.

    The gate is twice a sigmoid, and the weights are He's: so a deep stack starts with signals
    of the size that came in, and learns from the first step.
    """

    def __init__(self, inputs: int, outputs: int, context: int):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.gate, self.shift = nn.Linear(context, outputs), nn.Linear(context, outputs, bias=False)
        nn.init.kaiming_normal_(self.layer.weight, a=0.01)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """``(B, N, inputs)`` and ``(B, context)`` -> ``(B, N, outputs)``."""
        return torch.addcmul(self.shift(context)[:, None], self.layer(x), 2 * self.gate(context).sigmoid()[:, None])


class PointNetwork(nn.Module):
    """Names the noise in every point ``(B, N, dim)``, given one context a cloud."""

    def __init__(self, dim: int, context: int, width: int):
        super().__init__()
        sizes = [dim, width, 2 * width, 4 * width, 2 * width, width, dim]
        self.layers = nn.ModuleList([ConcatSquash(*pair, context) for pair in pairwise(sizes)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = x
        for layer in self.layers[:-1]:
            h = F.leaky_relu(layer(h, context))
        return x + self.layers[-1](h, context)


class ResidualPointNetwork(nn.Module):
    """As `PointNetwork`, with positions also as sines and cosines, and residual layers whose
    scales and shifts come from a network of the context.

    In a minute on two cores it tells legs from noise where the paper's network does not yet.
    """

    def __init__(self, dim: int, context: int, width: int, layers: int = 4, octaves: int = 3):
        super().__init__()
        inside, self.octaves = 2 * width, octaves
        self.first = nn.Linear(dim * (1 + 2 * octaves), inside)
        self.context = nn.Sequential(
            nn.Linear(context, 4 * width), nn.SiLU(), nn.Linear(4 * width, 2 * layers * inside)
        )
        self.before = nn.ModuleList([nn.Linear(inside, inside) for _ in range(layers)])
        self.after = nn.ModuleList([nn.Linear(inside, inside) for _ in range(layers)])
        for layer in self.after:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.last = nn.Linear(inside, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """``(B, N, dim)`` and ``(B, context)`` -> ``(B, N, dim)``."""
        angles = torch.cat([x * 2.0**octave for octave in range(self.octaves)], dim=-1)
        h = self.first(torch.cat([x, angles.sin(), angles.cos()], dim=-1))
        modulations = self.context(context)[:, None].chunk(2 * len(self.before), dim=-1)
        for k, (before, after) in enumerate(zip(self.before, self.after, strict=True)):
            scale, shift = modulations[2 * k], modulations[2 * k + 1]
            h = h + after(F.silu(torch.addcmul(shift, before(h), 1 + scale)))
        return x + self.last(h)
