"""The U-Net of diffusion models: maps to maps of the same size, told the time.

Ho et al. (2020), appendix B, https://arxiv.org/abs/2006.11239: residual blocks with group
norm, self-attention at chosen levels, the time added inside every block. Works on grids of
one to three dimensions and of any size: an odd size is halved upwards (5 -> 3), and on the
way back a map is stretched to the size that the skip connection has.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.nn.embedding import TimeEmbedding


def conv(dims: int, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A convolution over ``dims`` axes that keeps the size (or divides it by the stride, upwards)."""
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    return kind(in_channels, out_channels, kernel, stride, padding=kernel // 2)


def grown(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, h: Tensor, size: Sequence[int]) -> Tensor:
    """A convolution of ``h`` stretched to ``size`` by the nearest entry: ``(B, C, *half of it)`` to that size.

    Entries that come twice are met by the sum of two taps; those sums, taken first, leave 4 products of 9 on a
    plane, and no stretched map. An odd size is stretched: there the last entry comes once.
    """
    if any(n % 2 for n in size):
        return layer(F.interpolate(h, size=size, mode="nearest"))
    kernel = layer.weight.flip(*range(2, h.ndim))  # a transposed convolution meets its taps backwards
    for axis in range(len(size)):
        kernel = F.pad(kernel, [0, 0] * axis + [0, 1]) + F.pad(kernel, [0, 0] * axis + [1, 0])
    transposed = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[len(size)]
    return transposed(h, kernel.transpose(0, 1), layer.bias, stride=2, padding=1)


def groups_of(width: int) -> int:
    """32 groups (the paper's), or fewer where groups of the first level would have under four channels."""
    return math.gcd(width, max(1, min(32, width // 4)))


def zeroed(module: nn.Module) -> nn.Module:
    """The module with all parameters zero: a residual branch that starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, plus the embedding; norm, SiLU, dropout, conv; plus the input."""

    def __init__(self, dims: int, in_channels: int, out_channels: int, embedding: int, dropout: float, groups: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, in_channels), conv(dims, in_channels, out_channels)
        self.embed = nn.Linear(embedding, out_channels)
        self.norm2, self.conv2 = nn.GroupNorm(groups, out_channels), zeroed(conv(dims, out_channels, out_channels))
        self.dropout = nn.Dropout(dropout)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else conv(dims, in_channels, out_channels, kernel=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``(B, in_channels, *size)`` and ``(B, embedding)`` -> ``(B, out_channels, *size)``."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.embed(F.silu(embedding)).view(*h.shape[:2], *[1] * (h.ndim - 2))
        return self.skip(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))


class Attention(nn.Module):
    """Every place of a map looks at every other one (one head)."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, *size)`` -> the same shape."""
        places = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = self.query_key_value(places).chunk(3, dim=-1)
        seen = self.out(F.scaled_dot_product_attention(query, key, value))
        return x + seen.transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """``(B, in_channels, *size)`` and a time ``(B,)`` in [0, 1] -> ``(B, out_channels, *size)``.

    width: channels of the first level. multipliers: width of each level, in that unit; each
    level has half the size of the one before. blocks: residual blocks a level (one more on
    the way back). attention: levels with self-attention, 0 being the full size. dims: axes
    of a map (1, 2 or 3). The output is zero before training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        dropout: float = 0.1,
        dims: int = 2,
    ):
        super().__init__()
        if not multipliers or min(multipliers) < 1 or width < 1 or blocks < 1:
            raise ValueError(f"a U-Net needs width, blocks and multipliers >= 1; got {width}, {blocks}, {multipliers}.")
        if any(not 0 <= level < len(multipliers) for level in attention):
            raise ValueError(
                f"attention levels are 0..{len(multipliers) - 1}, the first is full size; got {attention}."
            )
        self.embedding_features, groups = 4 * width, groups_of(width)
        self.widths, self.attention = [width * m for m in multipliers], attention
        self.time = TimeEmbedding(width, self.embedding_features)
        self.first = conv(dims, in_channels, width)

        def block(inputs: int, outputs: int, level: int) -> nn.ModuleList:
            residual = ResidualBlock(dims, inputs, outputs, self.embedding_features, dropout, groups)
            return nn.ModuleList([residual, Attention(outputs, groups) if level in attention else nn.Identity()])

        channels, skips = width, [width]
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for level, multiplier in enumerate(multipliers):
            self.down.append(nn.ModuleList())
            for _ in range(blocks):
                self.down[level].append(block(channels, width * multiplier, level))  # type: ignore[operator]
                channels = width * multiplier
                skips.append(channels)
            if level < len(multipliers) - 1:
                self.shrink.append(conv(dims, channels, channels, stride=2))
                skips.append(channels)
        self.before = ResidualBlock(dims, channels, channels, self.embedding_features, dropout, groups)
        self.middle = Attention(channels, groups)
        self.after = ResidualBlock(dims, channels, channels, self.embedding_features, dropout, groups)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(multipliers))):
            self.up.append(nn.ModuleList())
            for _ in range(blocks + 1):
                outputs = width * multipliers[level]
                self.up[-1].append(block(channels + skips.pop(), outputs, level))  # type: ignore[operator]
                channels = outputs
            if level:
                self.grow.append(conv(dims, channels, channels))
        self.last = nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(), zeroed(conv(dims, channels, out_channels)))

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """context: ``(B, embedding_features)``, added to the embedding of the time."""
        embedding = self.time(t) if context is None else self.time(t) + context
        h = self.first(x)
        skips = [h]
        for level, stage in enumerate(self.down):
            for residual, attend in stage:  # type: ignore[attr-defined]
                h = attend(residual(h, embedding))
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
                skips.append(h)
        h = self.after(self.middle(self.before(h, embedding)), embedding)
        for level, stage in enumerate(self.up):
            for residual, attend in stage:  # type: ignore[attr-defined]
                h = attend(residual(torch.cat([h, skips.pop()], dim=1), embedding))
            if level < len(self.grow):
                h = grown(self.grow[level], h, skips[-1].shape[2:])  # type: ignore[arg-type]
        return self.last(h)
