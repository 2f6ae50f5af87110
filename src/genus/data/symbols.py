"""How sequences of symbols are shown: as text where each symbol is a character, else as coloured strips."""

import math
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genus.kinds import Tokens

INK, PAPER, SEEN = "#1d2433", 255, {"\n": "↵", "\t": "→", "\f": "→", " ": " "}
SIZE, GAP = 13, 8  # of the font and between data, in pixels
MOST_LINES = 24
FEW = 20  # so many symbols have colours of their own, more a scale

Pixels = NDArray[np.uint8]


def is_text(domain: Tokens) -> bool:
    """Whether every symbol is a single character."""
    return bool(domain.names) and all(len(name) == 1 for name in domain.names)


def texts(x: Tensor, domain: Tokens) -> list[str]:
    """Sequences ``(B, length)`` of characters as strings."""
    return ["".join(domain.names[code] for code in datum) for datum in x.tolist()]


def page(x: Tensor, domain: Tokens, columns: int | None = None, width: int = 880) -> Pixels:
    """Sequences ``(B, length)`` as one picture ``(H, W, 3)``, about ``width`` pixels wide."""
    text = is_text(domain)
    columns = min(columns or (3 if text else 1), len(x))
    room = width // columns - GAP
    tiles = [_written(datum, room) for datum in texts(x, domain)] if text else _strips(x, domain, room)
    height, across = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (across + GAP) + GAP, 3), PAPER, np.uint8)
    for n, tile in enumerate(tiles):
        top, left = GAP + n // columns * (height + GAP), GAP + n % columns * (across + GAP)
        sheet[top : top + height, left : left + across] = tile
    return sheet


def _written(text: str, room: int) -> Pixels:
    """A text in lines that fill ``room`` pixels; ends of lines are shown by a sign."""
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
def _font() -> ImageFont.FreeTypeFont:
    """The typewriter font that comes with matplotlib: Latin, Greek, Cyrillic and many signs."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"), SIZE)


def _strips(x: Tensor, domain: Tokens, room: int) -> list[Pixels]:
    """Each sequence as a row of coloured cells, its first ``room`` symbols."""
    codes = x[:, :room].numpy()
    few = domain.levels <= FEW
    colours = colormaps["tab20"](codes) if few else colormaps["viridis"](codes / (domain.levels - 1))
    cell = max(1, room // codes.shape[1])
    pixels = (255 * colours[..., :3]).round().astype(np.uint8)
    return [row[None].repeat(min(max(cell, 6), 24), 0).repeat(cell, 1) for row in pixels]
