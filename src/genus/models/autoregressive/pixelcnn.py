r"""PixelCNN: masked convolutions in place of recurrence, all conditionals in one pass.

p(x) = prod_i p(x_i | x_<i) in raster order. A 7x7 convolution under mask A (an entry does not read
itself), then residual blocks under mask B (a feature reads its own position), each

    h + W_1x1 relu(W_3x3 relu(W_1x1 relu(h)))       with 2f, f, f, 2f features (figure 5),

and two layers of relu and 1x1 convolution before the logits. What lies above and far to the right
of an entry stays unseen (the blind spot that `gated_pixelcnn` mends).

What differs from the paper: convolutions are cut to the rows that are read; an extra plane marks
the outside of the picture; a condition adds to each block, a vector and maps; a picture of two levels has
one logit an entry; codes without an order are read as learned vectors; Adam, where the paper used
RMSProp.

Promises: exact log p(x); conditions of any kind; edits in raster order (exact given what comes
before an entry, see `edit`); samples at the cost of one position a step.
"""

from collections.abc import Iterable
from typing import Self, cast

import torch
from torch import Tensor, nn

from genus.kinds import Domain, Grid
from genus.models.autoregressive._masked import (
    OUTSIDE,
    BiasMemory,
    Head,
    MaskedConv,
    Memory,
    RasterModel,
    group_mask,
    groups_of,
)
from genus.nn.condition import ConditionBias, Context, Encoded
from genus.recipe import Recipe


class Block(nn.Module):
    """A residual block under mask B: from 2f features to f and back."""

    def __init__(self, features: int, channels: int, context: Context):
        super().__init__()
        few, many = groups_of(features, channels), groups_of(2 * features, channels)
        self.inside = MaskedConv(2 * features, features, own=group_mask(many, few))
        self.conv = MaskedConv(features, features, 1, 1, 1, own=group_mask(few, few))
        self.outside = MaskedConv(features, 2 * features, own=group_mask(few, many))
        self.label = ConditionBias(context, features)

    def forward(self, h: Tensor, given: Encoded | None) -> Tensor:
        """``(B, 2f, H, W)``, one block on."""
        inner = self.label(self.inside(h.relu()), given)
        outer: Tensor = self.outside(self.conv(inner.relu()).relu())
        return h + outer


class PixelCNN(RasterModel):
    """PixelCNN (pixel recurrent neural networks), in raster order.

    Args:
        features: f of a residual block; the stream between blocks has twice as many.
        blocks: residual blocks.
        first: size of the first layer's kernel, odd.
    """

    paper = (
        "van den Oord, Kalchbrenner, Kavukcuoglu (2016). Pixel Recurrent Neural Networks. "
        "https://arxiv.org/abs/1601.06759"
    )
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=3e-3, batch_size=32, steps=600, schedule="cosine", warmup_steps=50, clip_norm=100.0, ema=0.99,
            precision="bfloat16", settings={"features": 16, "blocks": 4},
        ),
        "paper": Recipe(
            learning_rate=1e-3, batch_size=16, steps=200_000, schedule="cosine", warmup_steps=1000, clip_norm=100.0,
            ema=0.9995, precision="bfloat16", settings={"features": 128, "blocks": 15},
        ),
    }  # fmt: skip

    def __init__(
        self, domain: Grid, condition: Domain | None = None, *, features: int = 32, blocks: int = 7, first: int = 7
    ):
        super().__init__(domain, condition)
        channels = domain.channels
        if features < channels:
            raise ValueError(f"features: expected one or more a channel, at least {channels}; got {features}.")
        if blocks < 1:
            raise ValueError(f"blocks: expected at least 1; got {blocks}.")
        if first < 3 or first % 2 == 0:
            raise ValueError(f"first: expected an odd size of at least 3; got {first}.")
        many, reach = groups_of(2 * features, channels), first // 2
        mask_a = group_mask(self.reads, many, strict=True)
        self.first = MaskedConv(len(self.reads), 2 * features, reach, reach, reach, own=mask_a)
        self.blocks = nn.ModuleList(Block(features, channels, self.context) for _ in range(blocks))
        self.head = Head(many, channels * self.width, channels)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, features=8, blocks=2, first=3)  # type: ignore[arg-type]

    def full_pass(self, planes: Tensor, given: Encoded | None) -> Tensor:
        h = self.first(planes, OUTSIDE)
        for block in self.blocks:
            h = block(h, given)
        outputs: Tensor = self.head(h)
        return outputs

    def walker(self, count: int, given: Encoded | None) -> "PlainWalker":
        return PlainWalker(self, count, given)


class PlainWalker:
    """Every layer position by position."""

    def __init__(self, model: PixelCNN, count: int, given: Encoded | None):
        self.first = Memory(model.first, count, model.domain.size, OUTSIDE)
        self.blocks = [
            BlockMemory(block, count, model.domain.size, given) for block in cast(Iterable[Block], model.blocks)
        ]
        self.head = model.head.at_once()

    def put(self, planes: Tensor, row: int, column: int) -> None:
        self.first.put(planes, row, column)

    def outputs(self, row: int, column: int) -> Tensor:
        h = self.first.at(row, column)
        for block in self.blocks:
            h = block.at(h, row, column)
        return self.head(h)


class BlockMemory:
    """One block's part of the way: what its convolution has read."""

    def __init__(self, block: Block, count: int, size: tuple[int, ...], given: Encoded | None):
        self.inside, bias = block.inside.at_once()
        self.start = BiasMemory(bias, block.label, given, size)
        self.conv = Memory(block.conv, count, size)
        self.outside, self.bias = block.outside.at_once()

    def at(self, h: Tensor, row: int, column: int) -> Tensor:
        """Features ``(B, 2f)`` of a position, one block on."""
        self.conv.put(torch.addmm(self.start.at(row, column), h.relu(), self.inside).relu_(), row, column)
        return torch.addmm(h + self.bias, self.conv.at(row, column).relu_(), self.outside)
