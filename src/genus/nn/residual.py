"""Residual networks of convolutions, without batch statistics."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.nn.condition import NOTHING, ConditionBias, Context, Encoded


def zero(layer: nn.Module) -> nn.Module:
    """The layer with all parameters at zero: what it computes starts as nothing."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of ``(B, C, H, W)``; no batch statistics, so training = evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """``x + W relu(W relu(norm(x)))`` with a 3x3 and a 1x1 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.spread = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the same shape."""
        return x + self.mix(F.relu(self.spread(F.relu(self.norm(x)))))


class ResidualConvNet(nn.Module):
    """A convolution, residual blocks, and a last convolution that starts at zero.

    in_channels, out_channels: of the map that goes in and comes out. hidden: channels in
    between. blocks: residual blocks. size: (H, W) of the map; each pixel learns a bias of
    its own, since pictures are rarely stationary. context: of the condition that is added to the first layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int,
        blocks: int,
        size: tuple[int, int],
        context: Context = NOTHING,
    ):
        super().__init__()
        self.first = nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(1, hidden, *size))
        self.label = ConditionBias(context, hidden)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden) for _ in range(blocks)))
        self.norm = ChannelNorm(hidden)
        self.last = zero(nn.Conv2d(hidden, out_channels, 3, padding=1))

    def forward(self, x: Tensor, given: Encoded | None = None) -> Tensor:
        """``(B, in_channels, H, W)`` -> ``(B, out_channels, H, W)``."""
        h = self.label(self.first(x) + self.position, given)
        h = self.blocks(h.contiguous(memory_format=torch.channels_last))
        return self.last(F.relu(self.norm(h)))


class ResidualMLP(nn.Module):
    """Fully connected residual network; its last layer starts at zero.

    in_features, out_features, hidden: widths. blocks: residual blocks ``h + W relu(W relu(h))``.
    context: of the condition that is added to the first layer.
    """

    def __init__(self, in_features: int, out_features: int, hidden: int, blocks: int, context: Context = NOTHING):
        super().__init__()
        self.first = nn.Linear(in_features, hidden)
        self.label = ConditionBias(context, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
            for _ in range(blocks)
        )
        self.last = zero(nn.Linear(hidden, out_features))

    def forward(self, x: Tensor, given: Encoded | None = None) -> Tensor:
        """``(B, in_features)`` -> ``(B, out_features)``."""
        h = self.label(self.first(x), given)
        for block in self.blocks:
            h = h + block(h)
        return self.last(F.relu(h))
