"""Pictures in raster order: masked convolutions, and sampling that computes one position a step.

The order is row by row, pixel by pixel, and within a pixel channel by channel (R, then G given R,
then B given R and G). A model sees a picture as *planes*: its channels scaled to [-1, 1], and one
plane that is 0 inside the picture and 1 outside, so that a border never looks like a grey value.
The codes of a codebook have no order (`Grid.ordered`), so a number would say nothing of them: each
has a learned vector, and a channel is as many planes as a vector has numbers.

A full pass gives the logits of all entries at once, for training and scoring. Sampling needs one
entry at a time; `Memory` keeps what each convolution has read, so a step costs one position, not
one picture. Samples, edits and compressed files come from one walk, `RasterModel.chain_rule`.
"""

import itertools
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import (
    Batch,
    GenerativeModel,
    HasConditionals,
    HasLogProb,
    IsConditional,
    IsEditable,
    Likelihood,
    Losses,
    Split,
    Walk,
    name_of,
    spread,
)
from genus.kinds import Domain, Grid
from genus.models.autoregressive._entries import every_level, log_p, width_of
from genus.nn.condition import CONDITIONS, ConditionBias, Conditioned, Encoded, resized
from genus.prob import chain

Choose = Callable[[Tensor, int, int, int], Tensor]
"""From the logits ``(B, width)`` of entry (channel, row, column), its values ``(B,)``."""

OUTSIDE = 1.0  # what all planes hold outside of the picture


def groups_of(features: int, channels: int) -> Tensor:
    """Which channel's group each feature belongs to: ``channels`` blocks of about the same size."""
    return torch.arange(features) * channels // features


def planes_groups(channels: int, each: int = 1) -> Tensor:
    """The groups of a picture's planes, ``each`` of them a channel; the last plane is constant at an own position,
    so any group does."""
    return (torch.arange(channels * each + 1) // each).clamp(max=channels - 1)


def with_inside(planes: Tensor) -> Tensor:
    """Planes ``(B, n, ...)`` and the one that marks what is outside, ``(B, n + 1, ...)``; here, nothing is."""
    return torch.cat([planes, torch.zeros_like(planes[:, :1])], 1)


def code_features(codes: int) -> int:
    """How many numbers stand for one of ``codes`` codes; a vector as long as one-hot for a few."""
    return min(codes, 32)


class CodeVectors(nn.Embedding):
    """A learned vector for each code: a channel of codes becomes as many planes as a vector has numbers."""

    def __init__(self, codes: int):
        super().__init__(codes, code_features(codes))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, ...)`` -> ``(B, channels * features, ...)``."""
        return super().forward(x.long()).movedim(-1, 2).flatten(1, 2)


def group_mask(inputs: Tensor, outputs: Tensor, *, strict: bool = False) -> Tensor:
    """Which input an output may read at its own position: the groups up to its own, ``(outputs, inputs)``.

    strict: its own group not ("mask A", for the first layer, whose inputs are the entries themselves).
    """
    return inputs < outputs.unsqueeze(1) if strict else inputs <= outputs.unsqueeze(1)


class MaskedConv(nn.Conv2d):
    """A convolution that keeps the size, and reads ``above`` rows, and of its own row what came before.

    own: `group_mask` of the own position; the positions to its right are not read. None for inputs
    that know nothing of their own row (the vertical stack's): all of the kernel is read.
    shift: rows by which the input is moved down first; 1 leaves the own row out.
    """

    mask: Tensor
    bias: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        above: int = 0,
        left: int = 0,
        right: int = 0,
        *,
        own: Tensor | None = None,
        dilation: int = 1,
        shift: int = 0,
    ):
        super().__init__(inputs, outputs, (above + 1, left + 1 + right), dilation=dilation)
        self.pad = (left * dilation, right * dilation, above * dilation + shift, -shift)
        mask = torch.ones_like(self.weight)
        if own is not None:
            mask[:, :, -1, left] = own.to(mask.dtype)
            mask[:, :, -1, left + 1 :] = 0
        self.register_buffer("mask", mask, persistent=False)

    @property
    def masked(self) -> Tensor:
        """The weights that count."""
        return self.weight * self.mask

    def at_once(self) -> tuple[Tensor, Tensor]:
        """Matrix ``(taps * inputs, outputs)`` and bias that make an output of all that it reads."""
        return self.masked.permute(2, 3, 1, 0).reshape(-1, self.out_channels).contiguous(), self.bias

    def forward(self, x: Tensor, outside: float = 0.0) -> Tensor:
        """``(B, inputs, H, W)`` -> ``(B, outputs, H, W)``; beyond the border, inputs are ``outside``."""
        padded = F.pad(x, self.pad, value=outside) if any(self.pad) else x
        return F.conv2d(padded, self.masked, self.bias, dilation=self.dilation)


class Head(nn.Sequential):
    """Features ``(B, f, H, W)`` -> logits ``(B, outputs, H, W)``: two rectifiers, each before a 1x1 convolution.

    groups: of the features, which keep to their channels' order to the end.
    """

    def __init__(self, groups: Tensor, outputs: int, channels: int):
        features = len(groups)
        super().__init__(
            nn.ReLU(),
            MaskedConv(features, features, own=group_mask(groups, groups)),
            nn.ReLU(),
            MaskedConv(features, outputs, own=group_mask(groups, groups_of(outputs, channels))),
        )

    def at_once(self) -> Callable[[Tensor], Tensor]:
        """The same for the features ``(B, f)`` of one position at a time, its matrices made once."""
        steps = [conv.at_once() for conv in self if isinstance(conv, MaskedConv)]

        def at(h: Tensor) -> Tensor:
            for matrix, bias in steps:
                h = torch.addmm(bias, h.relu(), matrix)
            return h

        return at


class Memory:
    """The inputs of a `MaskedConv` as far as they are still read, and its output at one place of them.

    It holds the rows that a position of the current row reads, and moves down with the row: a few rows
    stay in a processor's cache where pictures do not. So rows must come in order.
    """

    def __init__(self, conv: MaskedConv, count: int, size: tuple[int, ...], outside: float = 0.0):
        left, right, self.top, _ = conv.pad
        self.left, self.step = left, int(conv.dilation[0])
        self.span = tuple((k - 1) * self.step + 1 for k in conv.kernel_size)
        self.weight = conv.masked
        self.matrix, self.bias = conv.at_once()
        self.outside, self.now = outside, 0
        shape = (count, self.top + 1, size[1] + left + right, conv.in_channels)
        self.inputs = self.weight.new_full(shape, outside)  # the current row is the last

    def reach(self, row: int) -> None:
        """Move down to a row."""
        for _ in range(self.now, row):
            self.inputs[:, :-1] = self.inputs[:, 1:].clone()
            self.inputs[:, -1] = self.outside
        self.now = row

    def put(self, value: Tensor, row: int, column: int) -> None:
        """Inputs ``(B, inputs)`` of one position."""
        if row > self.now:
            self.reach(row)
        self.inputs[:, self.top, self.left + column] = value

    def put_row(self, values: Tensor, row: int) -> None:
        """Inputs ``(B, W, inputs)`` of one row."""
        if row > self.now:
            self.reach(row)
        self.inputs[:, self.top, self.left : self.left + values.shape[1]] = values

    def at(self, row: int, column: int, start: Tensor | None = None) -> Tensor:
        """Output ``(B, outputs)`` at one position; ``start`` (same shape) stands in for the bias."""
        if row > self.now:
            self.reach(row)
        height, width = self.span
        patch = self.inputs[:, : height : self.step, column : column + width : self.step].flatten(1)
        return torch.addmm(self.bias if start is None else start, patch, self.matrix)

    def row(self, row: int) -> Tensor:
        """Outputs ``(B, W, outputs)`` of one row."""
        if row > self.now:
            self.reach(row)
        rows, columns = (range(0, span, self.step) for span in self.span)
        width = self.inputs.shape[2] - self.span[1] + 1
        taps = [self.inputs[:, i, j : j + width] for i in rows for j in columns]
        return (torch.cat(taps, 2).flatten(0, 1) @ self.matrix + self.bias).unflatten(0, (-1, width))


class BiasMemory:
    """What a layer adds at each place: ``own``, and what a condition says there, worked out a row at a time."""

    def __init__(self, own: Tensor, bias: ConditionBias, given: Encoded | None, size: tuple[int, ...]):
        self.same = own if given is None or bias.weight is None else own + bias.vector(given)
        self.matrix, self.maps, self.now = bias.maps, None, -1
        if given is not None and given.maps is not None:
            self.maps = resized(given.maps, size, True).permute(2, 0, 3, 1)  # by rows

    def row(self, row: int) -> Tensor:
        """Of a row, ``(B, W, features)``, or what broadcasts to it."""
        if self.maps is None or self.matrix is None:
            return self.same[..., None, :]
        if row != self.now:
            self.now, self.line = row, self.same.unsqueeze(1) + self.maps[row] @ self.matrix
        return self.line

    def at(self, row: int, column: int) -> Tensor:
        """Of a position, ``(B, features)``, or what broadcasts to it."""
        return self.same if self.maps is None else self.row(row)[:, column]


class Walker(Protocol):
    """A model's state on its way through the pictures."""

    def outputs(self, row: int, column: int) -> Tensor:
        """Logits ``(B, channels * width)`` of a pixel; right for a channel once those before it are put."""
        ...

    def put(self, planes: Tensor, row: int, column: int) -> None:
        """Tell the planes ``(B, planes)`` of a pixel."""
        ...


class RasterModel(Conditioned, GenerativeModel, HasLogProb, HasConditionals, IsConditional, IsEditable):
    """A model of pictures entry by entry; subclasses give the full pass and the `Walker`."""

    domains = (Grid,)
    conditions = CONDITIONS
    domain: Grid

    def __init__(self, domain: Grid, condition: Domain | None = None):
        super().__init__(domain, condition)
        self.context = self.condition_on(condition, domain.size)
        self.width = width_of(domain)
        self.vectors = None if domain.ordered else CodeVectors(domain.levels)
        each = 1 if self.vectors is None else self.vectors.embedding_dim
        self.reads = planes_groups(domain.channels, each)  # the channel of each plane

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) != 2:
            return f"{name_of(cls)} models pictures, grids of two axes; got {domain}."
        return super().refuses(domain)

    def initialise(self, split: Split) -> None:
        """Scales of the condition, from (at most 4,096) training data."""
        if self.condition_encoder is not None:
            self.fit_condition(spread(split).condition)

    @abstractmethod
    def full_pass(self, planes: Tensor, given: Encoded | None) -> Tensor:
        """Planes ``(B, planes, H, W)`` -> logits ``(B, channels * width, H, W)``."""

    @abstractmethod
    def walker(self, count: int, given: Encoded | None) -> Walker:
        """The start of a walk through ``count`` pictures."""

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    def planes(self, x: Tensor) -> Tensor:
        """Raw entries ``(B, channels, ...)`` as the network sees them, ``(B, planes, ...)``: one plane a channel, or
        the vectors of codes; and the plane that marks the outside."""
        if self.vectors is not None:
            return with_inside(self.vectors(x))
        return with_inside(x.to(next(self.parameters()).dtype) * (2 / (self.domain.levels - 1)) - 1)

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Of each entry given those before it: ``(B, channels, width, H, W)``, width 1 for two levels."""
        self.domain.check(x)
        given = self.read_condition(self.given(condition, len(x)))
        planes = self.planes(x).contiguous(memory_format=torch.channels_last)
        outputs = self.full_pass(planes, given).to(planes.dtype)  # out of autocast
        return outputs.unflatten(1, (self.domain.channels, self.width))

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        return log_p(self.logits(x, condition).movedim(2, -1), x).flatten(1).sum(1)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x, condition=batch.condition)}

    def entry(self, outputs: Tensor, pixel: Tensor, channel: int) -> Tensor:
        """Logits ``(B, levels)`` of a channel from the `Walker`'s outputs for its pixel; the channels before it
        are in ``pixel`` (B, channels)."""
        return every_level(outputs.view(len(outputs), -1, self.width)[:, channel])

    @torch.no_grad()
    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walker = self.walker(count, self.read_condition(self.given(condition, count)))
        device, (height, width) = self.device, self.domain.size
        for row, column in itertools.product(range(height), range(width)):
            pixel = torch.zeros(count, self.domain.channels, dtype=torch.int64, device=device)
            for channel in range(self.domain.channels):
                logits = self.entry(walker.outputs(row, column), pixel, channel)
                pixel[:, channel] = yield (channel * height + row) * width + column, logits
                walker.put(self.planes(pixel), row, column)

    def walk(self, count: int, condition: Tensor | None, choose: Choose) -> Tensor:
        """Visit every entry in order, and let ``choose`` say what it is."""
        x = torch.zeros(count, *self.domain.shape, dtype=self.domain.dtype, device=self.device)

        def told(place: int, logits: Tensor) -> Tensor:
            rest, column = divmod(place, self.domain.size[1])
            channel, row = divmod(rest, self.domain.size[0])
            x[:, channel, row, column] = choose(logits[:, -self.width :], channel, row, column)
            return x[:, channel, row, column].long()

        chain.drive(self.chain_rule(count, condition=condition), told)
        return x

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Entry by entry, each step at the cost of one position."""
        x = torch.zeros(count, *self.domain.shape, dtype=self.domain.dtype, device=self.device)
        chain.fill(self.chain_rule(count, condition=condition), x.view(count, -1), generator)
        return x

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Redraw in raster order, given what was kept *before* an entry.

        A draw from p(rest | kept) where the kept entries come first in raster order (an upper half);
        elsewhere what is kept later is in the picture, but no entry before it knows of it.
        """
        flat = x.flatten(1).clone()
        return chain.fill(self.chain_rule(len(x), condition=condition), flat, generator, keep.flatten(1)).view(x.shape)
