r"""Gated PixelCNN: two stacks of convolutions that together see everything above and to the left.

p(x) = prod_i p(x_i | x_<i) in raster order, all factors from one pass. A masked 3x3 convolution
has a blind spot (what lies above to the right is lost), so there are two stacks. The vertical one
reads all rows above; the horizontal one reads its own row to the left, and the vertical one.
Layer k, with convolutions W and gates (eq. 2 and figure 2):

    a = W_v * v + V_v h + M_v * s                        v' = tanh(a_1) sigmoid(a_2)
    b = W_h * u + W_1x1 * a + V_h h + M_h * s            u' = u + W_1x1 * (tanh(b_1) sigmoid(b_2))

The condition: h is a vector that all places read (eq. 4; of a label one-hot, of anything else learned),
s are maps of a picture, read by each place at its own by 1x1 convolutions without a mask (section 2.3).

What differs from the paper: the shift by one row, which keeps the vertical stack blind to its own
row, is made once, on its input, and not at each of its links to the horizontal one (the same, save
that the top row is then told from the features of an empty row); convolutions are cut to the taps
that are read, not masked; an extra plane marks the outside of the picture; the first layer has no
gate; dilations widen the view with few layers (as the UvA's tutorial 12 has them); a picture of two
levels has one logit an entry; codes without an order are read as learned vectors.

Promises: exact log p(x); conditions of any kind; edits in raster order (exact given what comes
before an entry, see `edit`); samples at the cost of one position a step.
"""

from typing import Self

from torch import Tensor

from genus.kinds import Domain, Grid
from genus.models.autoregressive._gated import GatedStacks, GatedWalker
from genus.models.autoregressive._masked import RasterModel
from genus.nn.condition import Encoded
from genus.recipe import Recipe


class GatedPixelCNN(GatedStacks, RasterModel):
    """Gated PixelCNN (conditional image generation with PixelCNN decoders), in raster order.

    Args:
        features: of each stack.
        dilations: of each layer; as many layers as numbers.
        kernel: size of the kernels, odd.
        first: size of the first layer's kernel, odd.
        dropout: rate of dropout while training, in each layer.
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
        "quick-codes": Recipe(  # of a first stage: small grids, and few of them
            optimizer="adamw", weight_decay=0.01, learning_rate=2e-3, batch_size=64, steps=4000, schedule="cosine",
            warmup_steps=200, clip_norm=100.0, ema=0.999, precision="bfloat16",
            settings={"features": 64, "dilations": (1, 2, 1, 2, 1), "dropout": 0.1},
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
        dropout: float = 0.0,
    ):
        super().__init__(domain, condition)
        self.build(
            self.reads, domain.channels, domain.channels * self.width, self.context,
            features=features, dilations=dilations, kernel=kernel, first=first, dropout=dropout,
        )  # fmt: skip

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, features=8, dilations=(1, 2), first=3)  # type: ignore[arg-type]

    def full_pass(self, planes: Tensor, given: Encoded | None) -> Tensor:
        return self.stacks(planes, given)

    def walker(self, count: int, given: Encoded | None) -> GatedWalker:
        return GatedWalker(self, count, self.domain.size, given)
