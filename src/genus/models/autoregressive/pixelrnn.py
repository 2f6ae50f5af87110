r"""PixelRNN: LSTMs that run over pictures, row by row or along the diagonals, in both directions.

p(x) = prod_i p(x_i | x_<i) in raster order. A 7x7 convolution under mask A (an entry does not read
itself), then layers h + W_1x1 s, where the states s come from gates (eq. 3)

    i, f, o, g = W_is * h + W_ss * s_before        c = f c_before + i g        s = o tanh(c)

and two layers of relu and 1x1 convolution before the logits. What comes before is

    row         the row above: three of its states, one of its cells. What is read grows with the
                layers below as a triangle that opens upwards; the input is read 3x1 under mask B.
    diagonal    the left neighbour and the one above: everything above to the left. A second LSTM
                runs from right to left, and its states are moved down by one row before the two are
                added: else they would tell what lies to the right. Together they see all that comes
                before, save one: under mask A no input of the row above knows that row's last pixel,
                so it is seen within the reach of the first kernel only. Neighbours of one diagonal do
                not need each other: *skewed* by one column a row, a picture's diagonals are columns,
                so a pass takes H + W - 1 steps.

What differs from the paper: the right-to-left LSTM reads its input without the mask of the channel
groups, as all of it lies above; the input's 3x1 is cut to the taps that are read; forget gates start
open (bias 1); the two layers of the head have 2f features; an extra plane marks the outside of the
picture; a condition adds to the gates, a vector and maps; a picture of two levels has one logit an entry;
codes without an order are read as learned vectors; Adam, where the paper used RMSProp.

Promises: exact log p(x); conditions of any kind; edits in raster order (exact given what comes
before an entry, see `edit`); samples at the cost of one position a step.
"""

from collections.abc import Iterable
from typing import Literal, Self, cast

import torch
import torch.nn.functional as F
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

Kind = Literal["row", "diagonal"]


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """State and cell from the gates ``(..., 4f)``, in the order input, forget, output, content."""
    f = cell.shape[-1]
    i, forget, o = gates[..., : 3 * f].sigmoid().chunk(3, -1)
    cell = forget * cell + i * gates[..., 3 * f :].tanh()
    return o * cell.tanh(), cell


def skew(x: Tensor) -> Tensor:
    """``(..., H, W, F)`` -> ``(..., H, H + W - 1, F)``: row r moves r columns to the right, zeros come in."""
    rows, columns = x.shape[-3:-1]
    flat = F.pad(x, (0, 0, 0, rows)).flatten(-3, -2)
    return flat[..., :-rows, :].unflatten(-2, (rows, rows + columns - 1))


def unskew(x: Tensor) -> Tensor:
    """The inverse of `skew`."""
    rows, columns = x.shape[-3], x.shape[-2] - x.shape[-3] + 1
    flat = F.pad(x.flatten(-3, -2), (0, 0, 0, rows))
    return flat.unflatten(-2, (rows, rows + columns))[..., :columns, :]


def one_row_down(x: Tensor) -> Tensor:
    """``(..., H, W, F)``; the first row becomes zero, the last one is lost."""
    return F.pad(x, (0, 0, 0, 0, 1, -1))


class Scan(nn.Module):
    """LSTMs over lines of positions, all positions of a line at once; one LSTM a direction.

    A position reads ``taps`` states of the line before, those at ``-before`` .. from its own place.
    There is no bias: where gates are zero and nothing has been, states stay zero (the ends of a skewed row).
    """

    def __init__(self, features: int, taps: int, before: int, directions: int):
        super().__init__()
        self.pad = (0, 0, before, taps - 1 - before)
        bound = features**-0.5
        self.weight = nn.Parameter(torch.empty(directions, taps * features, 4 * features).uniform_(-bound, bound))

    def told(self, states: Tensor) -> Tensor:
        """What a line's states ``(directions, B, n, f)`` add to the gates of the next one."""
        count, n = states.shape[1:3]
        padded = F.pad(states, self.pad)
        taps = torch.cat([padded[:, :, k : k + n] for k in range(padded.shape[2] - n + 1)], -1)
        return torch.bmm(taps.flatten(1, 2), self.weight).unflatten(1, (count, n))

    def forward(self, gates: Tensor) -> Tensor:
        """Gates ``(directions, lines, B, n, 4f)`` -> states ``(directions, lines, B, n, f)``."""
        cell = self.weight.new_zeros(*gates[:, 0].shape[:-1], gates.shape[-1] // 4)
        state, states = cell, []
        for line in gates.unbind(1):
            state, cell = lstm(line + self.told(state), cell)
            states.append(state)
        return torch.stack(states, 1)


class Layer(nn.Module):
    """One recurrent layer with its shortcut: from 2f features to f and back."""

    def __init__(self, kind: Kind, features: int, channels: int, context: Context):
        super().__init__()
        few, many = groups_of(features, channels), groups_of(2 * features, channels)
        own = group_mask(many, few.repeat(4))
        if kind == "row":
            self.read = MaskedConv(2 * features, 4 * features, 0, 1, own=own)
            self.scan = Scan(features, taps=3, before=1, directions=1)
        else:
            self.read = MaskedConv(2 * features, 8 * features, own=torch.cat([own, torch.ones_like(own)]))
            self.scan = Scan(features, taps=2, before=1, directions=2)
        self.kind = kind
        with torch.no_grad():
            self.read.bias.view(-1, 4, features)[:, 1] = 1
        self.out = MaskedConv(features, 2 * features, own=group_mask(few, many))
        self.label = ConditionBias(context, len(self.read.bias))

    def states(self, gates: Tensor) -> Tensor:
        """``(B, H, W, gates)`` -> ``(B, H, W, f)``."""
        if self.kind == "row":
            lines = gates.transpose(0, 1).unsqueeze(0)
            return self.scan(lines).squeeze(0).transpose(0, 1)
        left, right = gates.chunk(2, -1)
        skewed = skew(torch.stack([left, right.flip(2)]))
        states = self.scan(skewed.permute(0, 3, 1, 2, 4)).permute(0, 2, 3, 1, 4)
        to_the_right, to_the_left = unskew(states)
        return to_the_right + one_row_down(to_the_left.flip(2))

    def forward(self, h: Tensor, given: Encoded | None) -> Tensor:
        """``(B, 2f, H, W)``, one layer on."""
        gates = self.label(self.read(h), given)
        outer: Tensor = self.out(self.states(gates.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return h + outer


class PixelRNN(RasterModel):
    """PixelRNN (pixel recurrent neural networks), in raster order.

    Args:
        kind: "row" is the Row LSTM (quicker, does not see all that comes before), "diagonal" the Diagonal BiLSTM.
        features: f of an LSTM; the stream between layers has twice as many.
        layers: recurrent layers.
        first: size of the first layer's kernel, odd.
    """

    paper = (
        "van den Oord, Kalchbrenner, Kavukcuoglu (2016). Pixel Recurrent Neural Networks. "
        "https://arxiv.org/abs/1601.06759"
    )
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=5e-3, batch_size=32, steps=600, schedule="cosine", warmup_steps=50, clip_norm=100.0, ema=0.99,
            settings={"features": 16, "layers": 2},
        ),
        "mnist": Recipe(
            learning_rate=2e-3, batch_size=16, steps=50_000, schedule="cosine", warmup_steps=200, clip_norm=100.0,
            ema=0.999, settings={"features": 16, "layers": 7},
        ),
        "paper": Recipe(
            learning_rate=1e-3, batch_size=16, steps=200_000, schedule="cosine", warmup_steps=1000, clip_norm=100.0,
            ema=0.9995, settings={"features": 128, "layers": 12},
        ),
    }  # fmt: skip

    def __init__(
        self,
        domain: Grid,
        condition: Domain | None = None,
        *,
        kind: Kind = "diagonal",
        features: int = 16,
        layers: int = 7,
        first: int = 7,
    ):
        super().__init__(domain, condition)
        channels = domain.channels
        if kind not in ("row", "diagonal"):
            raise ValueError(f"kind: expected 'row' or 'diagonal'; got {kind!r}.")
        if features < channels:
            raise ValueError(f"features: expected one or more a channel, at least {channels}; got {features}.")
        if layers < 1:
            raise ValueError(f"layers: expected at least 1; got {layers}.")
        if first < 3 or first % 2 == 0:
            raise ValueError(f"first: expected an odd size of at least 3; got {first}.")
        many, reach = groups_of(2 * features, channels), first // 2
        mask_a = group_mask(self.reads, many, strict=True)
        self.first = MaskedConv(len(self.reads), 2 * features, reach, reach, reach, own=mask_a)
        self.layers = nn.ModuleList(Layer(kind, features, channels, self.context) for _ in range(layers))
        self.head = Head(many, channels * self.width, channels)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, features=8, layers=2, first=3)  # type: ignore[arg-type]

    def full_pass(self, planes: Tensor, given: Encoded | None) -> Tensor:
        h = self.first(planes, OUTSIDE)
        for layer in self.layers:
            h = layer(h, given)
        outputs: Tensor = self.head(h)
        return outputs

    def walker(self, count: int, given: Encoded | None) -> "RecurrentWalker":
        return RecurrentWalker(self, count, given)


class RecurrentWalker:
    """Every layer position by position."""

    def __init__(self, model: PixelRNN, count: int, given: Encoded | None):
        size = model.domain.size
        self.first = Memory(model.first, count, size, OUTSIDE)
        self.layers = [
            (RowMemory if layer.kind == "row" else DiagonalMemory)(layer, count, size, given)
            for layer in cast(Iterable[Layer], model.layers)
        ]
        self.head = model.head.at_once()
        self.row = 0

    def put(self, planes: Tensor, row: int, column: int) -> None:
        self.first.put(planes, row, column)

    def outputs(self, row: int, column: int) -> Tensor:
        if row != self.row:
            self.row = row
            for layer in self.layers:
                layer.next_row()
        h = self.first.at(row, column)
        for layer in self.layers:
            h = layer.at(h, row, column)
        return self.head(h)


class RowMemory:
    """A Row LSTM's part of the way: states and cells of its row so far, and what the row above tells."""

    def __init__(self, layer: Layer, count: int, size: tuple[int, ...], given: Encoded | None):
        self.read, self.scan = Memory(layer.read, count, size), layer.scan
        self.out, self.bias = layer.out.at_once()
        self.start = BiasMemory(self.read.bias, layer.label, given, size)
        self.state = self.bias.new_zeros(count, size[1], layer.out.in_channels)
        self.cell, self.cell_above = torch.zeros_like(self.state), torch.zeros_like(self.state)
        self.told = torch.zeros_like(self.state).repeat(1, 1, 4)

    def next_row(self) -> None:
        """The row so far is now the row above."""
        self.told = self.scan.told(self.state.unsqueeze(0)).squeeze(0)
        self.cell, self.cell_above = self.cell_above, self.cell

    def at(self, h: Tensor, row: int, column: int) -> Tensor:
        """Features ``(B, 2f)`` of a position, one layer on."""
        self.read.put(h, row, column)
        gates = self.read.at(row, column, self.start.at(row, column) + self.told[:, column])
        state, self.cell[:, column] = lstm(gates, self.cell_above[:, column])
        self.state[:, column] = state
        return torch.addmm(h + self.bias, state, self.out)


class DiagonalMemory:
    """A Diagonal BiLSTM's part of the way: left to right position by position; right to left, one row late."""

    def __init__(self, layer: Layer, count: int, size: tuple[int, ...], given: Encoded | None):
        self.out, self.bias = layer.out.at_once()
        f = layer.out.in_channels
        matrix, bias = layer.read.at_once()
        self.read, self.read_late = (part.contiguous() for part in matrix.chunk(2, 1))
        self.start = BiasMemory(bias, layer.label, given, size)
        (self.above, self.beside), (self.above_late, self.beside_late) = layer.scan.weight.unflatten(1, (2, f))
        self.inputs = bias.new_zeros(count, size[1], 2 * f)  # of the row
        self.state = bias.new_zeros(count, size[1] + 1, f)  # of the row; column -1 is the last, and stays zero
        self.cell = torch.zeros_like(self.state)
        self.late = torch.zeros_like(self.state[:, 1:])  # right to left, of the row above
        self.told = torch.zeros_like(self.late).repeat(1, 1, 4)
        self.row = 0

    def next_row(self) -> None:
        """The row is complete: run over it from right to left; what it tells the next one."""
        start_late = self.start.row(self.row)[..., 4 * self.state.shape[2] :]
        gates = self.inputs @ self.read_late + self.late @ self.above_late + start_late
        state = cell = torch.zeros_like(self.late[:, 0])
        for column in reversed(range(gates.shape[1])):
            state, cell = lstm(torch.addmm(gates[:, column], state, self.beside_late), cell)
            self.late[:, column] = state
        self.told = self.state[:, :-1] @ self.above
        self.row += 1

    def at(self, h: Tensor, row: int, column: int) -> Tensor:
        """Features ``(B, 2f)`` of a position, one layer on."""
        self.inputs[:, column] = h
        start = self.start.at(row, column)[..., : self.told.shape[2]]
        gates = torch.addmm(start + self.told[:, column], h, self.read)
        gates = torch.addmm(gates, self.state[:, column - 1], self.beside)
        state, self.cell[:, column] = lstm(gates, self.cell[:, column - 1])
        self.state[:, column] = state
        return torch.addmm(h + self.bias, state + self.late[:, column], self.out)
