"""The gated stacks: two stacks of masked convolutions that together see everything above and to the left.

The vertical stack reads the rows above, the horizontal one its own row to the left, and the vertical
one (equations in `gated_pixelcnn`). Each layer can read more: a condition, and the features of a map,
the *hints*, of which every position reads those at its own place. Hints must not know of the grid
itself; what they are is up to the model (`multiscale_pixelcnn`: the coarser grids).
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from genus.models.autoregressive._masked import OUTSIDE, BiasMemory, Head, MaskedConv, Memory, group_mask, groups_of
from genus.nn.condition import ConditionBias, Context, Encoded


def gate(a: Tensor, dim: int) -> Tensor:
    """tanh of one half times sigmoid of the other."""
    one, other = a.chunk(2, dim)
    return one.tanh() * other.sigmoid()


class GatedLayer(nn.Module):
    """One layer of both stacks."""

    def __init__(
        self,
        features: int,
        channels: int,
        kernel: int,
        dilation: int,
        context: Context,
        hints: int = 0,
        dropout: float = 0.0,
    ):
        super().__init__()
        half, groups = kernel // 2, groups_of(features, channels)
        self.vertical = MaskedConv(features, 2 * features, half, half, half, dilation=dilation)
        self.horizontal = MaskedConv(
            features, 2 * features, 0, half, own=group_mask(groups, groups.repeat(2)), dilation=dilation
        )
        self.link = MaskedConv(2 * features, 2 * features)  # all of it lies above: no mask
        self.out = MaskedConv(features, features, own=group_mask(groups, groups))
        self.label = ConditionBias(context, 4 * features)
        self.hint = MaskedConv(hints, 4 * features) if hints else None
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, v: Tensor, u: Tensor, given: Encoded | None, hints: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Vertical and horizontal features ``(B, features, H, W)``, one layer on."""
        a, b = self.vertical(v), self.horizontal(u)
        if given is not None:
            a, b = self.label(torch.cat([a, b], 1), given).chunk(2, 1)
        if self.hint is not None:
            above, left = self.hint(hints).chunk(2, 1)
            a, b = a + above, b + left
        b = b + self.link(a)
        return gate(a, 1), u + self.out(self.dropout(gate(b, 1)))


class GatedStacks(nn.Module):
    """Both stacks and the head, from planes to logits: a part of a model, or inherited by one.

    `build` makes its parts, as the ``__init__`` of a model that inherits it calls others.
    """

    above: MaskedConv
    left: MaskedConv
    layers: nn.ModuleList
    head: Head

    def build(
        self,
        reads: Tensor,
        channels: int,
        outputs: int,
        context: Context,
        hints: int = 0,
        *,
        features: int,
        dilations: tuple[int, ...],
        kernel: int,
        first: int,
        dropout: float = 0.0,
    ) -> None:
        """reads: the channel of each plane (`planes_groups`). outputs: logits of a position, over all channels.
        context, hints: how much the layers read of a condition and of another map."""
        if features < channels:
            raise ValueError(f"features: expected one or more a channel, at least {channels}; got {features}.")
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations: expected one number of at least 1 a layer; got {dilations}.")
        for name, size in (("kernel", kernel), ("first", first)):
            if size < 3 or size % 2 == 0:
                raise ValueError(f"{name}: expected an odd size of at least 3; got {size}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a rate from 0 to below 1; got {dropout}.")
        groups, reach = groups_of(features, channels), first // 2
        self.above = MaskedConv(len(reads), features, reach - 1, reach, reach, shift=1)
        self.left = MaskedConv(len(reads), features, 0, reach, own=group_mask(reads, groups, strict=True))
        self.layers = nn.ModuleList(
            GatedLayer(features, channels, kernel, dilation, context, hints, dropout) for dilation in dilations
        )
        self.head = Head(groups, outputs, channels)

    def stacks(self, planes: Tensor, given: Encoded | None, hints: Tensor | None = None) -> Tensor:
        """Planes ``(B, planes, H, W)`` and hints ``(B, hints, H, W)`` -> logits ``(B, outputs, H, W)``."""
        v, u = self.above(planes, OUTSIDE), self.left(planes, OUTSIDE)
        for layer in self.layers:
            v, u = layer(v, u, given, hints)
        outputs: Tensor = self.head(u)
        return outputs


class GatedWalker:
    """The vertical stack row by row, the horizontal one position by position."""

    def __init__(
        self,
        stacks: GatedStacks,
        count: int,
        size: tuple[int, ...],
        given: Encoded | None,
        hints: Tensor | None = None,
    ):
        self.above, self.left = (Memory(conv, count, size, OUTSIDE) for conv in (stacks.above, stacks.left))
        self.layers = [
            GatedLayerMemory(layer, count, size, given) for layer in cast(Iterable[GatedLayer], stacks.layers)
        ]
        self.head = stacks.head.at_once()
        self.hints = None if hints is None else hints.permute(2, 0, 3, 1).contiguous()  # by rows
        self.row = -1

    def put(self, planes: Tensor, row: int, column: int) -> None:
        self.above.put(planes, row, column)
        self.left.put(planes, row, column)

    def outputs(self, row: int, column: int) -> Tensor:
        if row != self.row:
            v, self.row = self.above.row(row), row
            for layer in self.layers:
                v = layer.advance(v, row, None if self.hints is None else self.hints[row])
        u = self.left.at(row, column)
        for layer in self.layers:
            u = layer.at(u, row, column)
        return self.head(u)


class GatedLayerMemory:
    """One layer's part of the way: what its convolutions have read."""

    def __init__(self, layer: GatedLayer, count: int, size: tuple[int, ...], given: Encoded | None):
        self.vertical, self.horizontal = (Memory(conv, count, size) for conv in (layer.vertical, layer.horizontal))
        self.link, link_bias = layer.link.at_once()
        self.out, self.bias = layer.out.at_once()
        own = torch.cat([torch.zeros_like(link_bias), self.horizontal.bias + link_bias])
        self.label = BiasMemory(own, layer.label, given, size)
        self.hint = None if layer.hint is None else layer.hint.at_once()

    def advance(self, v: Tensor, row: int, hints: Tensor | None) -> Tensor:
        """Vertical features ``(B, W, features)`` of a row, one layer on; keeps what they add at the row's positions."""
        added = self.label.row(row)
        if self.hint is not None and hints is not None:
            matrix, bias = self.hint
            added = added + (hints @ matrix + bias)
        above, left = added.chunk(2, -1)
        self.vertical.put_row(v, row)
        a = self.vertical.row(row) + above
        self.added = a @ self.link + left
        return gate(a, 2)

    def at(self, u: Tensor, row: int, column: int) -> Tensor:
        """Horizontal features ``(B, features)`` of a position, one layer on."""
        self.horizontal.put(u, row, column)
        b = self.horizontal.at(row, column, self.added[:, column])
        return torch.addmm(u + self.bias, gate(b, 1), self.out)
