"""Sequences of symbols: texts, codes, days of weather."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from genus.kinds._domain import SHEET, Discrete, Reading, Sheet

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageFont

SEEN = {"\n": "↵", "\t": "→", "\f": "→", " ": " "}
SIZE, GAP = 13, 8  # of the font and between data, in pixels
MOST_LINES = 24
FEW = 20  # so many symbols have colours of their own, more a scale

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Tokens(Discrete):
    """Sequences of ``length`` symbols ``0 .. levels-1``: characters of a text, codes, days of weather.

    names: what the symbols stand for, one each, or none.
    """

    kind: ClassVar[str] = "tokens"
    plural: ClassVar[str] = "tokens"
    options = frozenset({"length"})
    read_as: ClassVar[Reading] = "symbols"

    length: int
    levels: int = field(default=2)  # a field may implement a property
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        if self.length < 1 or self.levels < 2 or (self.names and len(self.names) != self.levels):
            raise ValueError(f"tokens need length >= 1, levels >= 2 and as many names, or none; got {self!r}.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def ordered(self) -> bool:
        return self.levels == 2  # there is only one order

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return cls(5, 2), cls(4, 3), cls(12, 300)  # 32 states; 81 states; more symbols than a byte holds

    @property
    def is_text(self) -> bool:
        """Whether every symbol is a single character."""
        return bool(self.names) and all(len(name) == 1 for name in self.names)

    def texts(self, x: Tensor) -> list[str]:
        """Sequences ``(B, length)`` of characters as strings."""
        return ["".join(self.names[code] for code in datum) for datum in x.tolist()]

    def draw(self, x: Tensor, sheet: Sheet = SHEET) -> "PIL.Image.Image":
        """As text where each symbol is a character, else as strips of coloured cells."""
        from genus import drawing

        columns = min(sheet.columns or (3 if self.is_text else 1), len(x))
        room = sheet.width // columns - GAP
        tiles = [_written(text, room) for text in self.texts(x)] if self.is_text else _strips(x, self.levels, room)
        return drawing.tiled(tiles, columns, tiles[0].shape[1] * columns, sheet.captions, GAP)

    def ending(self, count: int) -> str:
        return ".txt" if self.is_text else ""

    def file(self, x: Tensor, labels: Sequence[str] = ()) -> bytes:
        """Texts one after the other."""
        return "".join(f"--- {n} ---\n{text}\n" for n, text in enumerate(self.texts(x), 1)).encode()

    def facts(self, x: Tensor) -> dict[str, str]:
        if not self.names:
            return super().facts(x)
        often = x.flatten().bincount(minlength=self.levels).sort(descending=True, stable=True).indices[:16]
        return {"most frequent symbols": ", ".join(repr(self.names[code])[:12] for code in often.tolist())}

    def __str__(self) -> str:
        return f"sequences of {self.length} tokens, {self.levels} symbols"


def _written(text: str, room: int) -> Pixels:
    """A text in lines that fill ``room`` pixels; ends of lines are shown by a sign."""
    from PIL import Image, ImageDraw

    from genus.drawing import INK

    font = _font()
    wide = font.getlength("m")
    letters = max(6, min(len(text), int(room // wide)))
    shown = "".join(SEEN.get(c, c) for c in text)
    lines = [shown[start : start + letters] for start in range(0, len(shown), letters)]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], "…"]
    tile = Image.new("RGB", (math.ceil(letters * wide), len(lines) * (SIZE + 3)), "#f3f4f7")
    brush = ImageDraw.Draw(tile)
    for n, line in enumerate(lines):
        brush.text((0, n * (SIZE + 3)), line, INK, font)
    return np.asarray(tile)


@cache
def _font() -> "PIL.ImageFont.FreeTypeFont":
    """The typewriter font that comes with matplotlib: Latin, Greek, Cyrillic and many signs."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"), SIZE)


def _strips(x: Tensor, levels: int, room: int) -> list[Pixels]:
    """Each sequence as a row of coloured cells, its first ``room`` symbols."""
    from matplotlib import colormaps

    codes = x[:, :room].numpy()
    few = levels <= FEW
    colours = colormaps["tab20"](codes) if few else colormaps["viridis"](codes / (levels - 1))
    cell = max(1, room // codes.shape[1])
    pixels = (255 * colours[..., :3]).round().astype(np.uint8)
    return [row[None].repeat(min(max(cell, 6), 24), 0).repeat(cell, 1) for row in pixels]
