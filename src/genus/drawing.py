"""What drawings have in common: colours, sheets of tiles, one view of every shape, matplotlib without decoration.

Only what draws imports this file, inside its functions: matplotlib takes a while.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

PAPER = (255, 255, 255)
INK, REAL, GENERATED = "#1d2433", "#9aa4b5", "#c2410c"
HEIGHT = colormaps["viridis"]  # colour by height, for every shape
VIEW = (35.0, 20.0)  # azimuth and elevation in degrees, for every shape
LINE = 16  # pixels of a caption
SHARP = 2  # shapes are drawn so many times larger and then made smaller: smooth edges


def png(image: Image.Image) -> bytes:
    """A picture as PNG."""
    out, picture = io.BytesIO(), np.asarray(image)
    colours = image.getcolors(256)
    if colours is None or len(colours) > 2:  # a palette of 256 colours where that loses nothing that the eye sees
        small = image.quantize(256, dither=Image.Dither.NONE)
        image = small if np.abs(np.asarray(small.convert("RGB"), np.int16) - picture).max() <= 24 else image
    image.save(out, "png", optimize=True)
    return out.getvalue()


def rendered(figure: Figure, dpi: int = 160) -> Image.Image:
    """A matplotlib figure as a picture."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def png_of(figure: Figure, dpi: int = 160) -> bytes:
    """A matplotlib figure as PNG."""
    return png(rendered(figure, dpi))


def columns_of(count: int) -> int:
    """A sheet twice as wide as high, or one row where there are few."""
    return count if count <= 8 else min(count, max(8, math.ceil(math.sqrt(2 * count))))


def side(width: int, columns: int) -> int:
    """The side in pixels of a drawn tile on a sheet of so many columns."""
    return min(max(width // columns, 72), 240)


def tiled(
    tiles: list[np.ndarray], columns: int, width: int, captions: Sequence[str] = (), gap: int | None = None
) -> Image.Image:
    """Tiles ``(H, W, 3)`` on paper with thin gaps, enlarged by the whole factor that fits the width best, each over
    its caption."""
    height, tile_width = tiles[0].shape[:2]
    scale = max(1, round(width / (columns * (tile_width + 2))))
    gap = max(2, scale // 2) if gap is None else gap
    rows, line = math.ceil(len(tiles) / columns), LINE if any(captions) else 0
    down, across = height * scale + line + gap, tile_width * scale + gap
    page = np.full((rows * down - gap, columns * across - gap, 3), PAPER, np.uint8)
    for n, tile in enumerate(tiles):
        top, left = n // columns * down, n % columns * across
        page[top : top + height * scale, left : left + tile_width * scale] = tile.repeat(scale, 0).repeat(scale, 1)
    image = Image.fromarray(page)
    brush, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    for n, caption in enumerate(captions[: len(tiles)] if line else ()):
        place = (n % columns * across, n // columns * down + height * scale + 1)
        brush.text(place, caption[: across // 6], INK, font)
    return image


def turn(points: np.ndarray, azimuth: float = VIEW[0], elevation: float = VIEW[1]) -> np.ndarray:
    """Points ``(N, 3)``, second axis up, seen from a direction in degrees: right, up, towards the eye."""
    a, e = math.radians(azimuth), math.radians(elevation)
    right = np.array([math.cos(a), 0, -math.sin(a)])
    towards = np.array([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    return points @ np.stack([right, np.cross(towards, right), towards], axis=1)


def shade(height: np.ndarray, nearness: np.ndarray) -> np.ndarray:
    """Colours by height in -1..1, paler with distance: ``(N, 3)`` in 0..255."""
    colour = HEIGHT(0.08 + 0.82 * (height.clip(-1, 1) + 1) / 2)[:, :3]
    fog = 0.55 * (1 - nearness.clip(-1, 1)[:, None]) / 2
    return (255 * (colour * (1 - fog) + fog)).clip(0, 255)


def plain(axis: Any) -> None:
    """Two thin spines, small grey figures."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#c5ccd8")
    axis.tick_params(labelsize=7, colors="#5b6577", length=2)


def escape(text: str) -> str:
    """Text for matplotlib, which would read what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")
