r"""ConvNADE: orderless training with a convolutional network, so any part of a picture completes any other.

Trained as `_orderless` says: any set of entries is shown, and the network predicts all others at
once. It sees planes: each channel scaled to [-1, 1] where it is visible and 0 elsewhere, each
channel's mask, and where the picture ends. A wide convolution, then residual blocks

    h + W_1x1 relu(W_3x3 relu(h)),        and logits  W_1x1 relu(h) + b,  with b of each place.

The picture is padded once, and no convolution pads. So an entry's logits are a function of the
square around it alone, and predicting one entry takes the network on that square, not on the
picture: at 28x28, 32 features and 4 blocks 1/37 of a pass's arithmetic. A sample takes D such steps, one
an entry, and so does an exact log p(x) in each ordering: in an order drawn freely, entries have
nothing else in common that could be kept.

What differs from the paper: residual blocks without pooling, valid and full convolutions (8x8, 4x4,
6x6, 7x7 and back); no dense network beside them, b in its place; the whole picture is not seen, but
the square of 2 reach + 1; more than two levels and several channels are allowed; labels add a vector
to each block; Adam on a cosine with averaged weights; likelihoods of a stated ensemble of orderings,
exact, where the paper estimates.

Promises: exact log p(x) of the ensemble; conditional on a label; completes any part given any
other (kept entries first, then the others in a random order); with one ordering, compression.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Split, Walk
from genus.kinds import Domain, Grid, classes_of
from genus.models.autoregressive._entries import every_level, log_odds
from genus.models.autoregressive._orderless import Orderless
from genus.recipe import Recipe


class Block(nn.Module):
    """A residual block without padding: a position less on every side."""

    def __init__(self, features: int, labels: int):
        super().__init__()
        self.conv = nn.Conv2d(features, features, 3)
        self.out = nn.Conv2d(features, features, 1)
        self.label = nn.Embedding(labels, features) if labels else None

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """``(B, features, H, W)`` -> ``(B, features, H - 2, W - 2)``."""
        inner = self.conv(h.relu())
        if self.label is not None:
            inner = inner + self.label(condition)[..., None, None]
        kept: Tensor = h[:, :, 1:-1, 1:-1]
        return kept + self.out(inner.relu())


class ConvNADE(Orderless):
    """Orderless neural autoregressive distribution estimator of pictures, with convolutions.

    Args:
        features: of each block.
        blocks: residual blocks.
        first: size of the first layer's kernel, odd.
        orderings: orderings of the ensemble that scores and samples: 1 is the raster order; scoring costs D
            steps for each.
    """

    paper = (
        "Uria, Cote, Gregor, Murray, Larochelle (2016). Neural Autoregressive Distribution Estimation. "
        "https://arxiv.org/abs/1605.02226"
    )
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=3e-3, batch_size=32, steps=600, schedule="cosine", warmup_steps=50, clip_norm=100.0, ema=0.99,
            precision="bfloat16", settings={"features": 24, "blocks": 3},
        ),
        "paper": Recipe(
            learning_rate=1e-3, batch_size=100, steps=200_000, schedule="cosine", warmup_steps=500, clip_norm=100.0,
            ema=0.9995, precision="bfloat16", settings={"features": 64, "blocks": 10},
        ),
    }  # fmt: skip

    def __init__(
        self,
        domain: Grid,
        condition: Domain | None = None,
        *,
        features: int = 32,
        blocks: int = 4,
        first: int = 7,
        orderings: int = 1,
    ):
        super().__init__(domain, condition, orderings)
        for name, value in (("features", features), ("blocks", blocks)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1; got {value}.")
        if first < 3 or first % 2 == 0:
            raise ValueError(f"first: expected an odd size of at least 3; got {first}.")
        labels = classes_of(condition)
        self.reach = first // 2 + blocks
        self.first = nn.Conv2d(2 * domain.channels + 1, features, first)
        self.blocks = nn.ModuleList(Block(features, labels) for _ in range(blocks))
        self.last = nn.Conv2d(features, domain.channels * self.width, 1)
        self.b = nn.Parameter(torch.zeros(domain.num_dims, self.width))

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, features=8, blocks=1, first=3)  # type: ignore[arg-type]

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) != 2:
            return f"conv_nade models pictures, grids of two axes; got {domain}."
        return super().refuses(domain)

    def initialise(self, split: Split) -> None:
        """Start the biases b at the data's own (add-one) log-odds, entry by entry."""
        self.b.data.copy_(log_odds(split, self.domain))

    def scaled(self, x: Tensor) -> Tensor:
        """Entries as numbers in [-1, 1]."""
        return x.to(self.b.dtype) * (2 / (self.domain.levels - 1)) - 1

    def planes(self, x: Tensor, visible: Tensor) -> Tensor:
        """What the network sees of ``x`` and visible (B, D), padded: ``(B, 2 channels + 1, H + 2 reach, ...)``."""
        shown = visible.to(self.b.dtype)
        both = torch.cat([self.scaled(x) * shown, shown], 1).view(len(x), -1, *self.domain.size)
        inside = torch.cat([both, torch.ones_like(both[:, :1])], 1)
        return F.pad(inside, [self.reach] * 4).contiguous(memory_format=torch.channels_last)

    def network(self, planes: Tensor, condition: Tensor | None) -> Tensor:
        """Planes of any size to logits but for b: ``(B, channels, width, H - 2 reach, W - 2 reach)``."""
        h = self.first(planes)
        for block in self.blocks:
            h = block(h, condition)
        outputs: Tensor = self.last(h.relu())
        return outputs.unflatten(1, (self.domain.channels, self.width))

    def logits(self, x: Tensor, visible: Tensor, condition: Tensor | None = None) -> Tensor:
        outputs = self.network(self.planes(x, visible), condition)
        return outputs.movedim(2, -1).flatten(1, 3) + self.b

    @torch.no_grad()
    def walk(self, order: Tensor, x: Tensor, visible: Tensor, condition: Tensor | None) -> Walk:
        (channels, height, width), r = self.domain.shape, self.reach
        planes = self.planes(x, visible)
        for place in order.tolist():
            channel, row, column = place // (height * width), place // width % height, place % width
            square = planes[:, :, row : row + 2 * r + 1, column : column + 2 * r + 1]
            logits = self.network(square, condition)[:, channel, :, 0, 0] + self.b[place]
            entry = yield place, every_level(logits)
            planes[:, channel, row + r, column + r] = self.scaled(entry)
            planes[:, channels + channel, row + r, column + r] = 1
