r"""Gated PixelCNN: two stacks of convolutions that together see everything above and to the left.

p(x) = prod_i p(x_i | x_<i) in raster order, all factors from one pass. A masked 3x3 convolution
has a blind spot (what lies above to the right is lost), so there are two stacks. The vertical one
reads all rows above; the horizontal one reads its own row to the left, and the vertical one.
Layer k, with convolutions W and gates (eq. 2 and figure 2; h is a label, eq. 4):

    a = W_v * v + V_v h                                  v' = tanh(a_1) sigmoid(a_2)
    b = W_h * u + W_1x1 * a + V_h h                      u' = u + W_1x1 * (tanh(b_1) sigmoid(b_2))

What differs from the paper: the shift by one row, which keeps the vertical stack blind to its own
row, is made once, on its input, and not at each of its links to the horizontal one (the same, save
that the top row is then told from the features of an empty row); convolutions are cut to the taps
that are read, not masked; an extra plane marks the outside of the picture; the first layer has no
gate; dilations widen the view with few layers (as the UvA's tutorial 12 has them); a picture of two
levels has one logit an entry.

Promises: exact log p(x); conditional on a label; edits in raster order (exact given what comes
before an entry, see `edit`); samples at the cost of one position a step.
"""

from collections.abc import Iterable
from typing import Self, cast

import torch
from torch import Tensor, nn

from genus.domain import Domain, Grid
from genus.models.autoregressive._masked import (
    OUTSIDE,
    Head,
    MaskedConv,
    Memory,
    RasterModel,
    group_mask,
    groups_of,
    planes_groups,
)
from genus.recipe import Recipe


def gate(a: Tensor, dim: int) -> Tensor:
    """tanh of one half times sigmoid of the other."""
    one, other = a.chunk(2, dim)
    return one.tanh() * other.sigmoid()


class GatedLayer(nn.Module):
    """One layer of both stacks."""

    def __init__(self, features: int, channels: int, kernel: int, dilation: int, labels: int):
        super().__init__()
        half, groups = kernel // 2, groups_of(features, channels)
        self.vertical = MaskedConv(features, 2 * features, half, half, half, dilation=dilation)
        self.horizontal = MaskedConv(
            features, 2 * features, 0, half, own=group_mask(groups, groups.repeat(2)), dilation=dilation
        )
        self.link = MaskedConv(2 * features, 2 * features)  # all of it lies above: no mask
        self.out = MaskedConv(features, features, own=group_mask(groups, groups))
        self.label = nn.Embedding(labels, 4 * features) if labels else None

    def forward(self, v: Tensor, u: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Vertical and horizontal features ``(B, features, H, W)``, one layer on."""
        a, b = self.vertical(v), self.horizontal(u)
        if self.label is not None:
            above, left = self.label(condition)[..., None, None].chunk(2, 1)
            a, b = a + above, b + left
        b = b + self.link(a)
        return gate(a, 1), u + self.out(gate(b, 1))


class GatedPixelCNN(RasterModel):
    """Gated PixelCNN (conditional image generation with PixelCNN decoders), in raster order.

    Args:
        features: of each stack.
        dilations: of each layer; as many layers as numbers.
        kernel: size of the kernels, odd.
        first: size of the first layer's kernel, odd.
    """

    paper = (
        "van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu (2016). Conditional Image Generation with "
        "PixelCNN Decoders. https://arxiv.org/abs/1606.05328"
    )
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=3e-3, batch_size=32, steps=600, schedule="cosine", warmup_steps=50, clip_norm=100.0, ema=0.99,
            precision="bfloat16", settings={"features": 24, "dilations": (1, 2, 1)},
        ),
        "mnist": Recipe(
            learning_rate=2e-3, batch_size=32, steps=10_000, schedule="cosine", warmup_steps=200, clip_norm=100.0,
            ema=0.999, precision="bfloat16", settings={"features": 32, "dilations": (1, 2, 1, 4, 1, 2, 1)},
        ),
        "paper": Recipe(
            learning_rate=1e-3, batch_size=128, steps=200_000, schedule="cosine", warmup_steps=1000, clip_norm=100.0,
            ema=0.9995, precision="bfloat16", settings={"features": 384, "dilations": (1,) * 20, "kernel": 5},
        ),
    }  # fmt: skip

    def __init__(
        self,
        domain: Grid,
        condition: Domain | None = None,
        *,
        features: int = 64,
        dilations: tuple[int, ...] = (1, 2, 1, 4, 1, 2, 1),
        kernel: int = 3,
        first: int = 7,
    ):
        super().__init__(domain, condition)
        channels = domain.channels
        if features < channels:
            raise ValueError(f"features: expected one or more a channel, at least {channels}; got {features}.")
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations: expected one number of at least 1 a layer; got {dilations}.")
        for name, size in (("kernel", kernel), ("first", first)):
            if size < 3 or size % 2 == 0:
                raise ValueError(f"{name}: expected an odd size of at least 3; got {size}.")
        groups, inputs, reach = groups_of(features, channels), channels + 1, first // 2
        self.above = MaskedConv(inputs, features, reach - 1, reach, reach, shift=1)
        self.left = MaskedConv(inputs, features, 0, reach, own=group_mask(planes_groups(channels), groups, strict=True))
        self.layers = nn.ModuleList(GatedLayer(features, channels, kernel, d, self.labels) for d in dilations)
        self.head = Head(groups, channels * self.width, channels)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, features=8, dilations=(1, 2), first=3)  # type: ignore[arg-type]

    def full_pass(self, planes: Tensor, condition: Tensor | None) -> Tensor:
        v, u = self.above(planes, OUTSIDE), self.left(planes, OUTSIDE)
        for layer in self.layers:
            v, u = layer(v, u, condition)
        outputs: Tensor = self.head(u)
        return outputs

    def walker(self, count: int, condition: Tensor | None) -> "GatedWalker":
        return GatedWalker(self, count, condition)


class GatedWalker:
    """The vertical stack row by row, the horizontal one position by position."""

    def __init__(self, model: GatedPixelCNN, count: int, condition: Tensor | None):
        size = model.domain.size
        self.above, self.left = (Memory(conv, count, size, OUTSIDE) for conv in (model.above, model.left))
        self.layers = [
            GatedLayerMemory(layer, count, size, condition) for layer in cast(Iterable[GatedLayer], model.layers)
        ]
        self.head = model.head.at_once()
        self.row = -1

    def put(self, planes: Tensor, row: int, column: int) -> None:
        self.above.put(planes, row, column)
        self.left.put(planes, row, column)

    def outputs(self, row: int, column: int) -> Tensor:
        if row != self.row:
            v, self.row = self.above.row(row), row
            for layer in self.layers:
                v = layer.advance(v, row)
        u = self.left.at(row, column)
        for layer in self.layers:
            u = layer.at(u, row, column)
        return self.head(u)


class GatedLayerMemory:
    """One layer's part of the way: what its convolutions have read."""

    def __init__(self, layer: GatedLayer, count: int, size: tuple[int, ...], condition: Tensor | None):
        self.vertical, self.horizontal = (Memory(conv, count, size) for conv in (layer.vertical, layer.horizontal))
        self.link, told_bias = layer.link.at_once()
        self.out, self.bias = layer.out.at_once()
        none = self.bias.new_zeros(1, 4 * len(self.bias))
        labels = none if layer.label is None else layer.label(condition)
        above, left = labels.unsqueeze(1).chunk(2, 2)
        self.above, self.left = above, left + self.horizontal.bias + told_bias

    def advance(self, v: Tensor, row: int) -> Tensor:
        """Vertical features ``(B, W, features)`` of a row, one layer on; keeps what they tell the row's positions."""
        self.vertical.put_row(v, row)
        a = self.vertical.row(row) + self.above
        self.told = a @ self.link + self.left
        return gate(a, 2)

    def at(self, u: Tensor, row: int, column: int) -> Tensor:
        """Horizontal features ``(B, features)`` of a position, one layer on."""
        self.horizontal.put(u, row, column)
        b = self.horizontal.at(row, column, self.told[:, column])
        return torch.addmm(u + self.bias, gate(b, 1), self.out)
