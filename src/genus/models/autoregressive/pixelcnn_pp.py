r"""PixelCNN++: a mixture of discretized logistics for each pixel, from two streams at several resolutions.

p(x) = prod_i p(pixel_i | pixels before it) in raster order; a pixel's channels share one mixture, and
the mean of G moves linearly with R, that of B with R and G (`genus.prob.logistic_mixture`). So the
network knows nothing of channels, and 256 levels cost no more numbers than two.

The downward stream v reads the rows above (kernels 2x3), the stream u what lies above and to the
left too (2x2, no mask: at its own position, u knows only what comes before). Both are made of gated
residual layers, with concat_elu(x) = elu([x, -x]) and what each layer is told by others:

    c = W_2 * concat_elu(W_1 * concat_elu(x) + W_t concat_elu(told))        x' = x + c_1 sigmoid(c_2)

u is told of v; and in the second half of the network both are told of themselves in the first half.
Between stages the resolution is halved (a convolution of stride 2 that looks up and left), and after
the inner stages doubled again (a transposed one, 2x2).

**Strides and one position a step.** A position of a halved map reads nothing after the first of its
four pixels. So a walk computes it when it comes to that pixel, and keeps what it tells the four: the
inner stages work at every fourth (sixteenth) step only, and the logits are those of the full pass.

What differs from the paper: no weight normalisation and so no data-dependent initialisation (the
gates' weights start at a tenth; the means of the mixture spread over the levels); v is doubled by a
kernel of 2x2, not 2x3; sizes that halve badly are rounded up and cut again; the learning rate falls
as a cosine; an extra plane marks the outside of the picture; a condition adds to the gates, a vector
and, resized to each stage, maps.

Promises: exact log p(x); conditions of any kind; edits in raster order (exact given what comes
before an entry, see `edit`); samples at the cost of one position a step.
"""

from collections.abc import Iterable
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.kinds import Domain, Grid
from genus.models.autoregressive._entries import every_level
from genus.models.autoregressive._masked import OUTSIDE, BiasMemory, MaskedConv, Memory, RasterModel
from genus.nn.condition import ConditionBias, Context, Encoded
from genus.prob.logistic_mixture import LogisticMixture
from genus.recipe import Recipe

DOWN, RIGHT = (1, 1, 1), (1, 1, 0)  # rows above, columns to the left and right that v's and u's kernels read


def concat_elu(x: Tensor, dim: int) -> Tensor:
    """elu of both signs of x, side by side."""
    return F.elu(torch.cat([x, -x], dim))


def gated(x: Tensor, c: Tensor, dim: int) -> Tensor:
    """x and one half of c, as far as the other lets it through."""
    one, other = c.chunk(2, dim)
    return x + one * other.sigmoid()


class Halving(MaskedConv):
    """A convolution of stride 2: of each two rows and columns, the output at the first."""

    def forward(self, x: Tensor, outside: float = 0.0) -> Tensor:
        """``(B, inputs, H, W)`` -> ``(B, outputs, ceil(H / 2), ceil(W / 2))``."""
        return F.conv2d(F.pad(x, self.pad, value=outside), self.masked, self.bias, stride=2)


class Residual(nn.Module):
    """One stream's part of a layer; ``told`` features come from elsewhere."""

    def __init__(self, features: int, kernel: tuple[int, int, int], told: int, context: Context, dropout: float):
        super().__init__()
        self.conv = MaskedConv(2 * features, features, *kernel)
        self.gate = MaskedConv(2 * features, 2 * features, *kernel)
        self.told = MaskedConv(2 * told, features) if told else None
        self.label = ConditionBias(context, 2 * features)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.gate.weight.mul_(0.1)  # so that layers start close to the identity

    def forward(self, x: Tensor, told: Tensor | None, given: Encoded | None) -> Tensor:
        """``(B, features, H, W)``, one layer on."""
        h = self.conv(concat_elu(x, 1))
        if self.told is not None and told is not None:
            h = h + self.told(concat_elu(told, 1))
        return gated(x, self.label(self.gate(self.dropout(concat_elu(h, 1))), given), 1)


class Layer(nn.Module):
    """Both streams, one layer on; ``recalls``: in the second half, told of the first."""

    def __init__(self, features: int, recalls: bool, context: Context, dropout: float):
        super().__init__()
        self.v = Residual(features, DOWN, features * recalls, context, dropout)
        self.u = Residual(features, RIGHT, features * (1 + recalls), context, dropout)

    def forward(
        self, v: Tensor, u: Tensor, given: Encoded | None, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """v and u; ``past``: what they were in the first half."""
        v = self.v(v, None if past is None else past[0], given)
        u = self.u(u, v if past is None else torch.cat([v, past[1]], 1), given)
        return v, u


class Stage(nn.Module):
    """Layers of one resolution, the stages of the lower ones in their midst."""

    def __init__(self, stages: int, depth: int, features: int, context: Context, dropout: float):
        super().__init__()
        self.before = nn.ModuleList(Layer(features, False, context, dropout) for _ in range(depth))
        self.inner = Stage(stages - 1, depth, features, context, dropout) if stages > 1 else None
        if self.inner is not None:
            self.halve_v, self.halve_u = (Halving(features, features, *kernel) for kernel in (DOWN, RIGHT))
            self.double_v, self.double_u = (MaskedConv(features, 4 * features) for _ in range(2))
        after = depth + (self.inner is not None)  # with what came in, there is one more to recall
        self.after = nn.ModuleList(Layer(features, True, context, dropout) for _ in range(after))

    def forward(self, v: Tensor, u: Tensor, given: Encoded | None) -> tuple[Tensor, Tensor]:
        """v and u ``(B, features, H, W)`` through all stages from here on."""
        past = [(v, u)]
        for layer in self.before:
            past.append(layer(*past[-1], given))
        if self.inner is None:
            v, u = past.pop()
        else:
            v, u = past[-1]
            low_v, low_u = self.inner(self.halve_v(v), self.halve_u(u), given)
            height, width = v.shape[2:]
            v = F.pixel_shuffle(self.double_v(low_v), 2)[..., :height, :width]
            u = F.pixel_shuffle(self.double_u(low_u), 2)[..., :height, :width]
        for layer in self.after:
            v, u = layer(v, u, given, past.pop())
        return v, u


class PixelCNNPP(RasterModel):
    """PixelCNN++ (discretized logistic mixtures and other modifications), in raster order.

    Args:
        features: of each stream.
        depth: layers of each stage, before and after the stages within.
        stages: resolutions, each half of the one before.
        mixtures: logistics of a pixel.
        dropout: rate of dropout while training, in each layer.
    """

    paper = (
        "Salimans, Karpathy, Chen, Kingma (2017). PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture "
        "Likelihood and Other Modifications. https://arxiv.org/abs/1701.05517"
    )
    needs_ordered_levels = True  # levels are bins of logistic densities
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=3e-3, batch_size=32, steps=600, schedule="cosine", warmup_steps=50, clip_norm=100.0, ema=0.99,
            precision="bfloat16", settings={"features": 24, "depth": 1, "stages": 2, "mixtures": 10},
        ),
        "mnist": Recipe(
            learning_rate=2e-3, batch_size=32, steps=10_000, schedule="cosine", warmup_steps=200, clip_norm=100.0,
            ema=0.999, precision="bfloat16", settings={"features": 32, "depth": 2, "stages": 3, "dropout": 0.1},
        ),
        "paper": Recipe(
            learning_rate=1e-3, batch_size=128, steps=200_000, schedule="cosine", warmup_steps=1000, clip_norm=100.0,
            ema=0.9995, precision="bfloat16",
            settings={"features": 160, "depth": 5, "stages": 3, "mixtures": 10, "dropout": 0.5},
        ),
    }  # fmt: skip

    def __init__(
        self,
        domain: Grid,
        condition: Domain | None = None,
        *,
        features: int = 64,
        depth: int = 2,
        stages: int = 3,
        mixtures: int = 10,
        dropout: float = 0.0,
    ):
        super().__init__(domain, condition)
        for name, number in {"features": features, "depth": depth, "stages": stages, "mixtures": mixtures}.items():
            if number < 1:
                raise ValueError(f"{name}: expected at least 1; got {number}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a rate from 0 to below 1; got {dropout}.")
        inputs, channels, rows = domain.channels + 1, domain.channels, LogisticMixture.rows(domain.channels)
        self.above = MaskedConv(inputs, features, *DOWN, shift=1)
        self.left = MaskedConv(inputs, features, *DOWN, own=torch.zeros(features, inputs))
        self.stage = Stage(stages, depth, features, self.context, dropout)
        self.head = MaskedConv(features, rows * mixtures)
        with torch.no_grad():
            self.head.bias.view(rows, mixtures)[1 : 1 + channels] = torch.linspace(-1, 1, mixtures)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, features=6, depth=1, stages=2, mixtures=3)  # type: ignore[arg-type]

    def full_pass(self, planes: Tensor, given: Encoded | None) -> Tensor:
        """Planes ``(B, channels + 1, H, W)`` -> the numbers of the mixtures ``(B, rows * mixtures, H, W)``."""
        _, u = self.stage(self.above(planes, OUTSIDE), self.left(planes, OUTSIDE), given)
        outputs: Tensor = self.head(F.elu(u))
        return outputs

    def distribution(self, outputs: Tensor) -> LogisticMixture:
        """The mixtures from the network's numbers ``(..., rows * mixtures)``."""
        return LogisticMixture.of(outputs, self.domain.channels, self.domain.levels)

    def distributions(self, x: Tensor, condition: Tensor | None) -> tuple[LogisticMixture, Tensor]:
        """Of all pixels, and the pixels ``(B, H, W, channels)``."""
        self.domain.check(x)
        given = self.read_condition(self.given(condition, len(x)))
        planes = self.planes(x).contiguous(memory_format=torch.channels_last)
        outputs = self.full_pass(planes, given).to(planes.dtype)  # out of autocast
        return self.distribution(outputs.movedim(1, -1)), x.movedim(1, -1)

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        distributions, pixels = self.distributions(x, condition)
        return distributions.log_prob(pixels).flatten(1).sum(1)

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        distributions, pixels = self.distributions(x, condition)
        channels = [distributions.channel(pixels, channel) for channel in range(self.domain.channels)]
        return self.narrow(torch.stack(channels, 1)).movedim(-1, 2)

    def narrow(self, log_p: Tensor) -> Tensor:
        """Logits ``(..., width)`` from the log-probabilities ``(..., levels)``."""
        return log_p[..., 1:] - log_p[..., :1] if self.width == 1 else log_p

    def entry(self, outputs: Tensor, pixel: Tensor, channel: int) -> Tensor:
        return every_level(self.narrow(self.distribution(outputs).channel(pixel, channel)))

    def walker(self, count: int, given: Encoded | None) -> "PlusWalker":
        return PlusWalker(self, count, given)


class PlusWalker:
    """The downward stream row by row, the other position by position, once for all channels of a pixel."""

    def __init__(self, model: PixelCNNPP, count: int, given: Encoded | None):
        size = model.domain.size
        self.above, self.left = (Memory(conv, count, size, OUTSIDE) for conv in (model.above, model.left))
        self.stage = StageMemory(model.stage, count, size, given)
        self.head, self.bias = model.head.at_once()
        self.row, self.column = -1, -1

    def put(self, planes: Tensor, row: int, column: int) -> None:
        self.above.put(planes, row, column)
        self.left.put(planes, row, column)

    def outputs(self, row: int, column: int) -> Tensor:
        if row != self.row:
            self.stage.advance(self.above.row(row), row)
        if (row, column) != (self.row, self.column):
            self.row, self.column = row, column
            u = self.stage.at(self.left.at(row, column), row, column)
            self.numbers = torch.addmm(self.bias, F.elu(u), self.head)
        return self.numbers


class ResidualMemory:
    """One stream's part of a layer on its way: what its convolutions have read."""

    def __init__(self, residual: Residual, count: int, size: tuple[int, ...], given: Encoded | None):
        self.conv, self.gate = (Memory(conv, count, size) for conv in (residual.conv, residual.gate))
        self.label = BiasMemory(torch.zeros_like(self.gate.bias), residual.label, given, size)
        if residual.told is not None:
            self.matrix, self.bias = residual.told.at_once()

    def told(self, told: Tensor | None) -> Tensor | float:
        """What ``told`` features ``(..., told)`` add."""
        return 0.0 if told is None else concat_elu(told, -1) @ self.matrix + self.bias

    def advance(self, x: Tensor, told: Tensor | None, row: int) -> Tensor:
        """Features ``(B, W, features)`` of a row, one layer on."""
        self.conv.put_row(concat_elu(x, 2), row)
        self.gate.put_row(concat_elu(self.conv.row(row) + self.told(told), 2), row)
        return gated(x, self.gate.row(row) + self.label.row(row), 2)

    def at(self, x: Tensor, told: Tensor, row: int, column: int) -> Tensor:
        """Features ``(B, features)`` of a position, one layer on."""
        self.conv.put(concat_elu(x, 1), row, column)
        self.gate.put(concat_elu(self.conv.at(row, column) + self.told(told), 1), row, column)
        return gated(x, self.gate.at(row, column, self.gate.bias + self.label.at(row, column)), 1)


class LayerMemory:
    """Both streams of a layer; the rows of v tell the positions of u."""

    def __init__(self, layer: Layer, count: int, size: tuple[int, ...], given: Encoded | None):
        self.v, self.u = (ResidualMemory(part, count, size, given) for part in (layer.v, layer.u))

    def advance(self, v: Tensor, row: int, past: Tensor | None = None) -> Tensor:
        """v of a row, one layer on."""
        self.row = self.v.advance(v, past, row)
        return self.row

    def at(self, u: Tensor, row: int, column: int, past: Tensor | None = None) -> Tensor:
        """u of a position, one layer on."""
        v = self.row[:, column]
        return self.u.at(u, v if past is None else torch.cat([v, past], 1), row, column)


class StageMemory:
    """A stage and those within: they go on where a row and a column of theirs begin, and are kept until the next."""

    def __init__(self, stage: Stage, count: int, size: tuple[int, ...], given: Encoded | None):
        def of(layers: nn.ModuleList) -> list[LayerMemory]:
            return [LayerMemory(layer, count, size, given) for layer in cast(Iterable[Layer], layers)]

        self.before, self.after, self.inner = of(stage.before), of(stage.after), None
        if stage.inner is not None:
            half = tuple((length + 1) // 2 for length in size)
            self.inner = StageMemory(stage.inner, count, half, given)
            self.halve_v, self.halve_u = (Memory(conv, count, size) for conv in (stage.halve_v, stage.halve_u))
            self.double_v, self.double_u = stage.double_v.at_once(), stage.double_u.at_once()
            self.kept_u = self.halve_u.bias.new_zeros(count, half[1], len(self.halve_u.bias), 2, 2)
            self.kept_v = torch.zeros_like(self.kept_u)

    def advance(self, v: Tensor, row: int) -> Tensor:
        """v ``(B, W, features)`` of a row through all stages from here on."""
        past = [v]
        for layer in self.before:
            past.append(layer.advance(past[-1], row))
        if self.inner is None:
            v = past.pop()
        else:
            self.halve_v.put_row(past[-1], row)
            if row % 2 == 0:
                low = self.inner.advance(self.halve_v.row(row)[:, ::2], row // 2)
                matrix, bias = self.double_v
                self.kept_v = (low @ matrix + bias).unflatten(2, (-1, 2, 2))
            v = self.kept_v[:, :, :, row % 2].mT.flatten(1, 2)[:, : v.shape[1]]
        for layer in self.after:
            v = layer.advance(v, row, past.pop())
        return v

    def at(self, u: Tensor, row: int, column: int) -> Tensor:
        """u ``(B, features)`` of a position through all stages from here on."""
        past = [u]
        for layer in self.before:
            past.append(layer.at(past[-1], row, column))
        if self.inner is None:
            u = past.pop()
        else:
            self.halve_u.put(past[-1], row, column)
            if row % 2 == 0 and column % 2 == 0:
                low = self.inner.at(self.halve_u.at(row, column), row // 2, column // 2)
                matrix, bias = self.double_u
                self.kept_u[:, column // 2] = torch.addmm(bias, low, matrix).unflatten(1, (-1, 2, 2))
            u = self.kept_u[:, column // 2, :, row % 2, column % 2]
        for layer in self.after:
            u = layer.at(u, row, column, past.pop())
        return u
