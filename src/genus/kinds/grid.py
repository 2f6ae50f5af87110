"""Integers on a regular grid: pictures, voxels, clips, codes."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from genus.kinds._domain import SHEET, Discrete, Domain, Meeting, Reading, Sheet, root_mean_square

if TYPE_CHECKING:
    import PIL.Image
    from matplotlib.figure import Figure

LARGEST_SIDE = 16383  # of a WebP picture


def usual_axes(count: int) -> str:
    """The names of a grid's axes where nobody gives them: x; y and x; z, y and x."""
    return "abcdefghijklmnopqrstuvwzyx"[-count:]


@dataclass(frozen=True)
class Grid(Discrete):
    """Integer values on a regular grid: pictures (2-D), voxels or clips (3-D).

    A datum has shape ``(channels, *size)`` and entries ``0 .. levels-1``, stored as
    uint8 where they fit and int64 otherwise. Binary pictures have two levels.

    ordered: whether neighbouring levels are alike, as grey values are; the codes of a codebook are not.
    axes: a letter for each axis of ``size``: ``yx`` (pictures), ``zyx`` (voxels), ``tyx`` (clips), ``x`` and so on.
    By default the last letters of ``...wzyx``.
    """

    kind: ClassVar[str] = "grid"
    plural: ClassVar[str] = "pictures and grids"
    read_as: ClassVar[Reading] = "planes"
    on_grid: ClassVar[bool] = True
    options = frozenset({"size", "colour", "binarize"})
    compared_by = "classifier"

    channels: int
    size: tuple[int, ...]
    levels: int = field(default=256)  # a field may implement a property
    ordered: bool = field(default=True, repr=False)  # not shown: fingerprints hold the repr, and are older
    axes: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(s) for s in self.size))
        if not self.axes:
            object.__setattr__(self, "axes", usual_axes(len(self.size)))
        if len(self.axes) != len(self.size) or len(set(self.axes)) != len(self.axes):
            raise ValueError(f"a grid needs a letter of its own for each axis; got {self.axes!r} for {self.size}.")
        if self.channels < 1 or not self.size or min(self.size) < 1 or self.levels < 2:
            raise ValueError(f"a grid needs channels >= 1, sizes >= 1 and levels >= 2; got {self!r}.")

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return (
            cls(1, (2, 2), 2),  # 16 states: small enough for sums over all of them
            cls(1, (1, 2), 5),  # 25 states
            cls(1, (8, 8), 256),
            cls(3, (5, 7), 4),  # channels and odd sizes
            cls(1, (4, 4, 4), 2),  # voxels
            cls(1, (3, 4, 4), 5, axes="tyx"),  # a clip
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.size)

    def to_json(self) -> dict[str, Any]:
        described = super().to_json()
        if self.ordered:
            del described["ordered"]
        if self.axes == usual_axes(len(self.size)):
            del described["axes"]
        return described

    @property
    def is_picture(self) -> bool:
        return self.axes == "yx"

    @property
    def is_clip(self) -> bool:
        return self.axes == "tyx"

    @property
    def sort(self) -> str:
        return self.kind if self.ordered else "codes"

    def draw(self, x: Tensor, sheet: Sheet = SHEET) -> "PIL.Image.Image":
        """Pictures enlarged by a whole factor, pixel by pixel; volumes of two levels as voxels, seen from one side,
        their second axis up; clips and other volumes as strips of frames; lines as curves."""
        from genus import drawing

        axes, solid = len(self.size), self.axes == "zyx" and self.channels == 1 and self.levels == 2
        if axes not in (1, 2, 3):
            raise ValueError(f"there is no picture of {self}.")
        if axes == 1:
            return drawing.rendered(_lines(x))
        columns = sheet.columns or (1 if axes == 3 and not solid else drawing.columns_of(len(x)))
        if solid:
            tiles = [voxels(datum[0] > 0, drawing.side(sheet.width, columns)) for datum in x.numpy()]
        else:
            tiles = [(_rgb if axes == 2 else _strip)(datum, self.levels) for datum in x.numpy()]
        return drawing.tiled(tiles, columns, sheet.width, sheet.captions)

    def error(self, x: Tensor, again: Tensor) -> str:
        if not self.ordered or self.levels == 2:
            return super().error(x, again)
        return root_mean_square(x, again, f" of {self.levels - 1} levels")

    @property
    def planes(self) -> tuple[int, tuple[int, ...]] | None:
        return (self.channels, self.size) if len(self.size) <= 3 else None

    def as_planes(self, x: Tensor) -> Tensor:
        return x.float() / (self.levels - 1) * 2 - 1

    def meet(self, samples: Domain, in_files: bool) -> Meeting:
        """Pictures in files have 256 levels, and are rounded to this domain's; arrays are taken as they are."""
        if not isinstance(samples, Grid) or len(samples.size) != len(self.size):
            raise ValueError("expected samples and real data of one kind")
        if samples.size != self.size:
            square = self.is_picture and len(set(self.size)) == 1
            remedy = f"give --size {self.size[0]} (any size, for both sides)" if square else "resize the samples first"
            raise ValueError(f"their sizes differ; {remedy}")
        if samples.channels != self.channels:
            remedy = "--colour grey turns both sides grey, --colour rgb repeats the channel of grey ones"
            raise ValueError(f"their channels differ; {remedy}")
        if samples.levels == self.levels or not in_files:
            return Meeting(self)
        note = f"rounded from {samples.levels} to the {self.levels} levels of the real data"
        return Meeting(self, samples=lambda x: self._rounded(x, samples.levels), notes=(note,))

    def rounding(self, other: Domain) -> Callable[[Tensor], Tensor] | None:
        if not isinstance(other, Grid) or other == self or replace(other, levels=self.levels) != self:
            return None
        return lambda x: self._rounded(x, other.levels)

    def _rounded(self, x: Tensor, levels: int) -> Tensor:
        """Values 0 .. levels-1 to the nearest of this domain's levels."""
        return (x.float() * ((self.levels - 1) / (levels - 1))).round().to(self.dtype)

    def rivals(self, x: Tensor) -> dict[str, int]:
        """Pictures as PNG and WebP, twice: a file for each, summed, which pays for a header and an empty dictionary
        each time; and all on one sheet, near to a square, where the coder can look across pictures."""
        if picture_of(self, 1, 3) is None or self.levels > 256:
            return {}
        from PIL import features

        found, two = {}, self.levels == 2
        pictures = np.moveaxis(x.contiguous().numpy(), 1, -1) * (255 if two else 1)
        whole = _sheet(pictures)
        for name, encode in {"PNG": _png, **({"WebP lossless": _webp} if features.check("webp") else {})}.items():
            found[f"{name}, a file each"] = sum(encode(picture, two) for picture in pictures)
            if max(whole.shape) <= LARGEST_SIDE:
                found[f"{name}, one sheet"] = encode(whole, two)
        return found

    def __str__(self) -> str:
        kind = "levels" if self.ordered else "codes"
        name = "clip" if self.is_clip else "grid"
        return f"{name} {self.channels}x{'x'.join(map(str, self.size))}, {self.levels} {kind}"


def _rgb(datum: np.ndarray, levels: int) -> np.ndarray:
    """``(C, H, W)`` integers to ``(H, W, 3)``; channels that are neither grey nor colour go side by side."""
    grey = (datum.astype(np.float64) * (255 / (levels - 1))).round().astype(np.uint8)
    if len(grey) == 3:
        return grey.transpose(1, 2, 0)
    return np.repeat(np.concatenate(list(grey), axis=1)[..., None], 3, axis=2)


def _strip(datum: np.ndarray, levels: int, frames: int = 8) -> np.ndarray:
    """A clip ``(C, T, H, W)`` as a strip of up to ``frames`` frames."""
    chosen = np.linspace(0, datum.shape[1] - 1, min(frames, datum.shape[1])).round().astype(int)
    return np.concatenate([_rgb(datum[:, t], levels) for t in chosen], axis=1)


def _lines(x: Tensor, most: int = 8) -> "Figure":
    """Data on a line ``(B, C, L)``: one small curve each."""
    from matplotlib.figure import Figure

    from genus.drawing import GENERATED, plain

    shown = x[:most]
    figure = Figure((8.8, 0.9 * len(shown)), layout="constrained")
    for axis, datum in zip(np.atleast_1d(figure.subplots(len(shown), 1)), shown.numpy(), strict=True):
        axis.plot(datum.T, color=GENERATED, linewidth=0.8)
        plain(axis)
    return figure


FACES = {  # the three kinds of face that the view sees: outward axis, corners, brightness
    0: (((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)), 0.72),
    1: (((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)), 1.0),
    2: (((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)), 0.86),
}


def voxels(filled: np.ndarray, size: int = 200) -> np.ndarray:
    """Occupied cells ``(X, Y, Z)`` as a picture, Y up: exposed faces, far ones first."""
    from PIL import Image, ImageDraw

    from genus.drawing import HEIGHT, PAPER, SHARP, turn

    canvas = Image.new("RGB", (size * SHARP, size * SHARP), PAPER)
    brush = ImageDraw.Draw(canvas)
    middle = np.array(filled.shape) / 2
    scale = SHARP * size * 0.48 / np.linalg.norm(middle)
    polygons = []
    for axis, (corners, brightness) in FACES.items():
        step = np.eye(3, dtype=int)[axis]
        beyond = np.pad(filled, [(0, 1) if a == axis else (0, 0) for a in range(3)])
        beyond = beyond[tuple(slice(step[a], step[a] + filled.shape[a]) for a in range(3))]
        cells = np.argwhere(filled & ~beyond)
        if not len(cells):
            continue
        seen = turn((cells[:, None] + np.array(corners) - middle).reshape(-1, 3)).reshape(len(cells), 4, 3)
        colour = 255 * HEIGHT(0.08 + 0.82 * (cells[:, 1] + 0.5) / filled.shape[1])[:, :3] * brightness
        polygons += list(
            zip(seen[..., 2].mean(1), seen[..., :2] * [1, -1] * scale + size * SHARP / 2, colour, strict=True)
        )
    for _, outline, colour in sorted(polygons, key=lambda polygon: polygon[0]):
        brush.polygon([tuple(corner) for corner in outline], fill=tuple(int(part) for part in colour))
    return np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS))


def picture_of(domain: Domain, *channels: int) -> Grid | None:
    """The grid of a domain of pictures (of so many channels, if any are given); None for all others."""
    is_one = isinstance(domain, Grid) and domain.is_picture and (not channels or domain.channels in channels)
    return domain if is_one else None  # type: ignore[return-value]


def _sheet(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(N, H, W, C)`` tiled into one picture near to a square, black where none is left."""
    count, height, width, channels = pictures.shape
    columns = max(1, round(math.sqrt(count * height / width)))
    rows = math.ceil(count / columns)
    tiles = np.zeros((rows * columns, height, width, channels), np.uint8)
    tiles[:count] = pictures
    tiled = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return tiled.reshape(rows * height, columns * width, channels)


def _image(picture: NDArray[np.uint8]) -> "PIL.Image.Image":
    from PIL import Image

    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def _png(picture: NDArray[np.uint8], two_levels: bool) -> int:
    """Bytes of a PNG; of two levels, one bit a pixel."""
    out, image = io.BytesIO(), _image(picture)
    (image.convert("1") if two_levels and image.mode == "L" else image).save(out, "PNG", optimize=True)
    return len(out.getbuffer())


def _webp(picture: NDArray[np.uint8], two_levels: bool) -> int:
    out = io.BytesIO()
    _image(picture).save(out, "WEBP", lossless=True, quality=100, method=6)
    return len(out.getbuffer())


def grid_of(domain: Domain | None) -> Grid | None:
    """The domain, if its data lie on a grid."""
    return domain if isinstance(domain, Grid) else None
