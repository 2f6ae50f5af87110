"""Encoders and decoders: fully connected layers, and strided convolutions with their mirror image."""

import math

import torch
from torch import Tensor, nn

from genus.domain import Grid


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Fully connected layers with ReLU between them."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def halvings(size: tuple[int, ...], times: int) -> list[tuple[int, ...]]:
    """The sizes that strided convolutions pass through: each rounds up, so odd sizes are fine."""
    sizes = [size]
    for _ in range(times):
        sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
    return sizes


class ConvEncoder(nn.Module):
    """Strided convolutions and a linear layer: ``(B, C*H*W + classes)`` to ``(B, outputs)``."""

    def __init__(self, domain: Grid, classes: int, channels: tuple[int, ...], outputs: int):
        super().__init__()
        self.shape = domain.shape
        layers: list[nn.Module] = []
        for before, after in zip((domain.channels, *channels), channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        features = (domain.channels, *channels)[-1] * math.prod(halvings(domain.size, len(channels))[-1])
        self.head = nn.Linear(features + classes, outputs)

    def forward(self, u: Tensor) -> Tensor:
        """Convolve the picture; the label joins before the last layer."""
        picture, label = u.split([math.prod(self.shape), u.shape[1] - math.prod(self.shape)], dim=1)
        return self.head(torch.cat([self.layers(picture.view(-1, *self.shape)).flatten(1), label], 1))


def conv_decoder(domain: Grid, inputs: int, channels: tuple[int, ...], outputs: int) -> nn.Sequential:
    """The mirror image: a linear layer, transposed convolutions, and a convolution to the outputs."""
    sizes = halvings(domain.size, len(channels))
    wide = channels[::-1] or (domain.channels,)
    layers: list[nn.Module] = [
        nn.Linear(inputs, wide[0] * math.prod(sizes[-1])),
        nn.Unflatten(1, (wide[0], *sizes[-1])),
        nn.ReLU(inplace=True),
    ]
    for before, after, size in zip(wide, (*wide[1:], wide[-1]), sizes[-2::-1], strict=False):
        even = (1 - size[0] % 2, 1 - size[1] % 2)  # an even size needs one more row than 2m - 1
        layers += [
            nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=even),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(wide[-1], outputs * domain.channels, 3, padding=1, bias=False))
