"""What networks read of a condition, whatever its kind: a vector, and maps where the condition has places.

A model says *where* a condition enters (added to an embedding, concatenated to its input, a bias of each layer);
this file says *how* a label, numbers, words, a picture, a sound or a cloud become what can enter there.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.kinds import Domain, Grid, Label, Points, Tokens, Vectors, Waveform, classes_of
from genus.nn.standardise import Standardise

CONDITIONS: tuple[type[Domain], ...] = (Label, Vectors, Tokens, Waveform, Grid, Points)
"""The kinds of condition that `ConditionEncoder` reads; and `Parts` of them."""

WIDTH = 64  # of a vector whose width nobody asks for
HALVES = 2  # of each axis, where means are taken
CODES = 16  # numbers of the learned vector of a code without order
CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Context(NamedTuple):
    """How much there is to read of a condition: numbers of the vector, which may be one-hot, and planes of the maps."""

    features: int = 0
    planes: int = 0
    one_hot: bool = False


NOTHING = Context()  # without a condition


class Encoded(NamedTuple):
    """vector: ``(B, features)``. maps: ``(B, planes, *size)``, or None where the condition has no places."""

    vector: Tensor
    maps: Tensor | None

    def repeat(self, times: int) -> "Encoded":
        """The whole batch ``times`` over."""
        return Encoded(*(None if p is None else p.repeat(times, *[1] * (p.ndim - 1)) for p in self))  # type: ignore[arg-type]


Given = Tensor | Encoded | None
"""A condition, as data have it or as it was read; or none."""


class ConditionEncoder(nn.Module):
    """A condition ``(B, *condition.shape)`` -> `Encoded`. Every datum may be told to read none: ``dropped``.

    condition: what is read; labels, vectors, tokens, sound, grids of one to three axes, clouds, or `Parts` of them.
    features: of the vector. None: as many as the kind suggests, and a label as it is (one-hot, nothing learned).
    size, planes: of the maps that grids give, which are resized to that size; without a size there are none.
    drops: whether data are told nothing now and then, so that there is a vector of nothing to learn.

    Raises a ValueError for other kinds of condition.
    """

    null: Tensor

    def __init__(
        self,
        condition: Domain,
        features: int | None = None,
        size: tuple[int, ...] | None = None,
        planes: int = 16,
        drops: bool = True,
    ):
        super().__init__()
        self.domain = condition
        # A module cannot be called "type" or "half", a part can.
        parts = [(f"of_{name}", part) for name, part in condition.members]
        self.features = features or classes_of(condition) or WIDTH
        one_hot = bool(classes_of(condition)) and not features
        self.readers = nn.ModuleDict(
            {name: OneHot(self.features) if one_hot else reader_of(part, self.features) for name, part in parts}
        )
        if one_hot or not drops:
            self.register_buffer("null", torch.zeros(self.features), persistent=False)
        else:
            self.null = nn.Parameter(torch.zeros(self.features))
        placed = [name for name, part in parts if part.on_grid and size and len(part.shape) == 1 + len(size)]
        self.size, self.planes = size, planes if placed else 0
        self.mappers = nn.ModuleDict()
        for name in placed:
            reader = self.readers[name]
            assert isinstance(reader, Places) and size is not None
            self.mappers[name] = CONVOLUTIONS[len(size)](reader.channels, planes, 3, padding=1)

    @property
    def context(self) -> Context:
        """What it gives."""
        one_hot = any(isinstance(reader, OneHot) for reader in self.readers.values())
        return Context(self.features, self.planes, one_hot)

    def parts(self, condition: Tensor) -> dict[str, Tensor]:
        """The condition's parts by the names of their readers; of a single one, itself."""
        return {f"of_{name}": part for name, part in self.domain.split(condition).items()}

    @torch.no_grad()
    def fit(self, condition: Tensor) -> None:
        """Take the scale of numbers and coordinates from some training data ``(N, *condition.shape)``."""
        for name, part in self.parts(condition).items():
            reader = self.readers[name]
            if isinstance(reader, Numbers | Cloud):
                reader.fit(part)

    def forward(self, condition: Tensor, dropped: Tensor | None = None) -> Encoded:
        """dropped: ``(B,)`` booleans, the data that are told nothing."""
        parts = self.parts(condition)
        vector = sum(self.readers[name](part) for name, part in parts.items())
        maps: Tensor | None = None
        for name, mapper in self.mappers.items():
            reader = self.readers[name]
            assert isinstance(reader, Places) and self.size is not None
            mapped = mapper(resized(reader.planes(parts[name]), self.size, reader.ordered))
            maps = mapped if maps is None else maps + mapped
        if dropped is not None:
            vector = torch.where(dropped[:, None], self.null.to(vector), vector)
            if maps is not None:
                maps = maps.masked_fill(dropped.view(-1, *[1] * (maps.ndim - 1)), 0.0)
        return Encoded(vector, maps)

    def nothing(self, count: int) -> Encoded:
        """What ``count`` data read that are told nothing."""
        maps = None if self.size is None or not self.mappers else self.null.new_zeros(count, self.planes, *self.size)
        return Encoded(self.null.expand(count, -1), maps)


class ConditionBias(nn.Module):
    """What a condition adds to ``features`` of a network: a matrix times its vector, another times its maps.

    Of a label it is the row of a table, so models that call it ``label`` load what was saved by an embedding.
    """

    weight: nn.Parameter | None
    maps: nn.Parameter | None

    def __init__(self, context: Context, features: int):
        super().__init__()
        for name, inputs, one_hot in (("weight", context.features, context.one_hot), ("maps", context.planes, False)):
            first = torch.empty(inputs, features).normal_(std=1.0 if one_hot else max(inputs, 1) ** -0.5)
            self.register_parameter(name, nn.Parameter(first) if inputs else None)

    def vector(self, read: Encoded) -> Tensor:
        """What the vector adds everywhere, ``(B, features)``."""
        assert self.weight is not None
        return read.vector @ self.weight

    def forward(self, h: Tensor, read: Encoded | None) -> Tensor:
        """``(B, features, *size)`` -> the same shape; ``h`` itself where there is no condition."""
        if read is None or self.weight is None:
            return h
        h = h + self.vector(read)[(..., *[None] * (h.ndim - 2))]
        if self.maps is None or read.maps is None:
            return h
        return h + (resized(read.maps, tuple(h.shape[2:]), True).movedim(1, -1) @ self.maps).movedim(-1, 1)


class Conditioned(nn.Module):
    """What a model inherits that reads a condition of any kind, if it is built for one."""

    condition_encoder: ConditionEncoder | None

    def condition_on(self, condition: Domain | None, size: tuple[int, ...] | None = None) -> Context:
        """Make the encoder; what it gives."""
        self.condition_encoder = None if condition is None else ConditionEncoder(condition, size=size, drops=False)
        return NOTHING if self.condition_encoder is None else self.condition_encoder.context

    def fit_condition(self, condition: Tensor | None) -> None:
        """Take the scales of some training conditions."""
        if self.condition_encoder is not None and condition is not None:
            self.condition_encoder.fit(condition)

    def read_condition(self, condition: Given) -> Encoded | None:
        """Read it, once for a batch or a walk: what has been read already stays as it is."""
        if self.condition_encoder is None or condition is None or isinstance(condition, Encoded):
            return condition if isinstance(condition, Encoded) else None
        return self.condition_encoder(condition)


def reader_of(domain: Domain, features: int) -> nn.Module:
    """What makes a vector ``(B, features)`` of data ``(B, *shape)``, by how the kind says that it is read."""
    shape, levels = domain.shape, domain.levels or 0
    match domain.read_as:
        case "label":
            return nn.Embedding(levels, features)
        case "numbers":
            return Numbers(domain.num_dims, features)
        case "symbols":
            return Words(domain.num_dims, levels, features)
        case "planes" if len(shape[1:] or shape) in CONVOLUTIONS:
            return Places(shape[0] if shape[1:] else 1, levels, domain.ordered, features, len(shape[1:] or shape))
        case "points":
            return Cloud(shape[1], features)
    raise ValueError(f"expected a condition of the kinds {', '.join(c.plural for c in CONDITIONS)}; got {domain}.")


class OneHot(nn.Module):
    """Labels ``(B,)`` -> ``(B, count)`` of zeros and one one, in the precision that the model has."""

    rows: Tensor

    def __init__(self, count: int):
        super().__init__()
        self.register_buffer("rows", torch.eye(count), persistent=False)

    def forward(self, label: Tensor) -> Tensor:
        """A row of the identity each."""
        return self.rows[label.long()]


class Numbers(nn.Module):
    """Rows ``(B, n)`` of any scale -> ``(B, features)``, by two layers."""

    def __init__(self, numbers: int, features: int):
        super().__init__()
        self.units = Standardise((numbers,))
        self.layers = nn.Sequential(nn.Linear(numbers, features), nn.SiLU(), nn.Linear(features, features))

    def fit(self, x: Tensor) -> None:
        """Mean and standard deviation of each column."""
        self.units.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, n)`` -> ``(B, features)``."""
        return self.layers(self.units(x.to(self.units.mean))[0])


class Words(nn.Module):
    """Symbols ``(B, length)`` -> ``(B, features)``: two layers of a transformer, then the mean over places.

    Vaswani et al. (2017), section 3, https://arxiv.org/abs/1706.03762, with a norm before each part and at the end.
    """

    def __init__(self, length: int, symbols: int, features: int, heads: int = 4):
        super().__init__()
        width = max(heads, heads * math.ceil(min(features, 128) / heads))
        self.symbols = nn.Embedding(symbols, width)
        self.places = nn.Parameter(nn.init.normal_(torch.empty(length, width), std=0.02))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, norm_first=True, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.last = nn.Linear(width, features)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, length)`` -> ``(B, features)``."""
        return self.last(self.layers(self.symbols(x.long()) + self.places).mean(1))


class Places(nn.Module):
    """Integers on a grid ``(B, channels, *size)``, or ``(B, length)`` -> ``(B, features)``: strided convolutions, then
    the mean of each half, quarter or eighth.

    Levels in order are scaled to [-1, 1]; others have a learned vector each.
    """

    def __init__(self, channels: int, levels: int, ordered: bool, features: int, axes: int):
        super().__init__()
        self.levels, self.ordered = levels, ordered
        self.codes = None if ordered else nn.Embedding(levels, CODES)
        self.channels = channels if ordered else channels * CODES
        widths = (self.channels, 32, 64, 64)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [he_normal(CONVOLUTIONS[axes](before, after, 3, stride=2, padding=1)), nn.SiLU()]
        self.layers, self.last = nn.Sequential(*layers), nn.Linear(64 * HALVES**axes, features)

    def planes(self, x: Tensor) -> Tensor:
        """What convolutions read: ``(B, channels, *size)``."""
        if self.codes is None:
            return 2 * x.to(self.last.weight.dtype) / (self.levels - 1) - 1
        return self.codes(x.long()).movedim(-1, 2).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, *size)`` -> ``(B, features)``."""
        x = x.unsqueeze(1) if x.ndim == 2 else x
        h = self.layers(self.planes(x))
        return self.last(F.interpolate(h, (HALVES,) * (h.ndim - 2), mode="area").flatten(1))


class Cloud(nn.Module):
    """Points ``(B, N, dim)`` in any order -> ``(B, features)``: each by itself, then the maximum.

    Qi et al. (2017), PointNet, section 4.2, https://arxiv.org/abs/1612.00593.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, dim: int, features: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))
        self.points = nn.Sequential(he_normal(nn.Linear(dim, 64)), nn.SiLU(), he_normal(nn.Linear(64, 128)))
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(128, features))

    def fit(self, x: Tensor) -> None:
        """Centre and size of clouds ``(N, points, dim)``."""
        flat = x.double().flatten(0, 1)
        self.centre.copy_(flat.mean(0))
        self.scale.copy_((flat - flat.mean(0)).square().mean().sqrt().clamp(min=1e-12))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, dim)`` -> ``(B, features)``."""
        return self.last(self.points((x.to(self.centre) - self.centre) / self.scale).amax(1))


def he_normal(layer: nn.Module) -> nn.Module:
    """The layer with He's first weights and no bias: PyTorch's own let what differs between conditions fade."""
    nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def resized(planes: Tensor, size: tuple[int, ...], smooth: bool) -> Tensor:
    """Planes ``(B, C, *any)`` at another size: means where it shrinks, so that no thin line is lost; else
    interpolated, or the nearest where there is nothing in between."""
    if tuple(planes.shape[2:]) == tuple(size):
        return planes
    if all(n <= m for n, m in zip(size, planes.shape[2:], strict=True)):
        return F.interpolate(planes, size, mode="area")
    if not smooth:
        return F.interpolate(planes, size, mode="nearest-exact")
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(planes, size, mode=mode, align_corners=False)
