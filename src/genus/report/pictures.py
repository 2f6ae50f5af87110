"""Pictures of data, of whatever domain, as PNG: one function, `sheet`."""

import io
import math
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from genus.data import symbols
from genus.kinds import Domain, Grid, Points, Pyramid, Tokens, Vectors, Waveform
from genus.report.sound import spectrograms

PAPER = (255, 255, 255)
INK, REAL, GENERATED = "#1d2433", "#9aa4b5", "#c2410c"
HEIGHT = colormaps["viridis"]  # colour by height, for every shape
VIEW = (35.0, 20.0)  # azimuth and elevation in degrees, for every shape


def sheet(
    x: Tensor, domain: Domain, *, columns: int | None = None, real: Tensor | None = None, width: int = 880
) -> bytes:
    """Data ``(B, *domain.shape)`` as one PNG, about ``width`` pixels wide.

    Pictures are enlarged by a whole factor, pixel by pixel; clips become strips of frames;
    voxels and clouds are drawn from one fixed view, coloured by height (their second axis is
    up); pyramids are their grids, the coarsest first; vectors are scattered, over ``real`` ones if given; of sounds
    one sees wave and spectrum.
    """
    domain.check(x, "pictures")
    x = x.detach().cpu()
    if not len(x):
        raise ValueError("a sheet needs at least one datum.")
    if isinstance(domain, Tokens):
        return png(symbols.page(x, domain, columns, width))
    columns = columns or (
        1 if isinstance(domain, Grid) and len(domain.size) == 3 and domain.levels > 2 else _columns(len(x))
    )
    drawn = min(max(width // columns, 72), 240)  # size of a drawn tile
    match domain:
        case Grid(size=(_, _)):
            tiles = [_rgb(datum, domain.levels) for datum in x.numpy()]
        case Grid(size=(_,)):
            return png_of(_lines(x))
        case Grid(channels=1, size=(_, _, _)) if domain.levels == 2:
            tiles = [voxels(datum[0] > 0, drawn) for datum in x.numpy()]
        case Grid(size=(_, _, _)):
            tiles = [_strip(datum, domain.levels) for datum in x.numpy()]
        case Pyramid(size=(_,) | (_, _)):
            tiles = [_grids(datum, domain) for datum in x]
        case Waveform():
            return png_of(spectrograms(x, domain, columns))
        case Points():
            tiles = [cloud(datum, drawn) for datum in x.numpy()]
        case Vectors():
            return png_of(scatter(x, domain, real))
        case _:
            raise ValueError(f"there is no picture of {domain}.")
    return png(_tile(tiles, columns, width))


def pairs(queries: Tensor, items: Tensor, domain: Domain, *, width: int = 480) -> bytes:
    """A row for each query ``(B, *shape)``, followed by its items ``(B, k, *shape)``."""
    rows = torch.cat([queries[:, None], items], 1)
    return sheet(rows.flatten(0, 1), domain, columns=rows.shape[1], width=width)


def png(picture: np.ndarray) -> bytes:
    """An ``(H, W, 3)`` uint8 array as PNG."""
    out = io.BytesIO()
    image = Image.fromarray(picture)
    colours = image.getcolors(256)
    if colours is None or len(colours) > 2:  # a palette of 256 colours where that loses nothing that the eye sees
        small = image.quantize(256, dither=Image.Dither.NONE)
        image = small if np.abs(np.asarray(small.convert("RGB"), np.int16) - picture).max() <= 24 else image
    image.save(out, "png", optimize=True)
    return out.getvalue()


def png_of(figure: Figure, dpi: int = 160) -> bytes:
    """A matplotlib figure as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def _columns(count: int) -> int:
    """A sheet twice as wide as high, or one row where there are few."""
    return count if count <= 8 else min(count, max(8, math.ceil(math.sqrt(2 * count))))


def _rgb(datum: np.ndarray, levels: int) -> np.ndarray:
    """``(C, H, W)`` integers to ``(H, W, 3)``; channels that are neither grey nor colour go side by side."""
    grey = (datum.astype(np.float64) * (255 / (levels - 1))).round().astype(np.uint8)
    if len(grey) == 3:
        return grey.transpose(1, 2, 0)
    return np.repeat(np.concatenate(list(grey), axis=1)[..., None], 3, axis=2)


def _grids(datum: Tensor, domain: Pyramid) -> np.ndarray:
    """The grids of a pyramid ``(D,)`` side by side, the coarsest first, each enlarged to the size of the finest."""
    grids = [np.atleast_2d(grid[0].numpy()) for grid in domain.grids(datum[None])]
    high, wide = grids[-1].shape
    enlarged = [np.repeat(np.repeat(g, -(-high // g.shape[0]), 0), -(-wide // g.shape[1]), 1) for g in grids]
    return np.concatenate([_rgb(grid[None, :high, :wide], domain.levels) for grid in enlarged], axis=1)


def _strip(datum: np.ndarray, levels: int, frames: int = 8) -> np.ndarray:
    """A clip ``(C, T, H, W)`` as a strip of up to ``frames`` frames."""
    chosen = np.linspace(0, datum.shape[1] - 1, min(frames, datum.shape[1])).round().astype(int)
    return np.concatenate([_rgb(datum[:, t], levels) for t in chosen], axis=1)


def _tile(tiles: list[np.ndarray], columns: int, width: int) -> np.ndarray:
    """Tiles on paper with thin gaps, enlarged by the whole factor that fits the width best."""
    height, tile_width = tiles[0].shape[:2]
    scale = max(1, round(width / (columns * (tile_width + 2))))
    gap = max(2, scale // 2)
    rows = math.ceil(len(tiles) / columns)
    size = (rows * (height * scale + gap) - gap, columns * (tile_width * scale + gap) - gap, 3)
    page = np.full(size, PAPER, np.uint8)
    for n, tile in enumerate(tiles):
        top, left = (n // columns) * (height * scale + gap), (n % columns) * (tile_width * scale + gap)
        page[top : top + height * scale, left : left + tile_width * scale] = tile.repeat(scale, 0).repeat(scale, 1)
    return page


def turn(points: np.ndarray, azimuth: float = VIEW[0], elevation: float = VIEW[1]) -> np.ndarray:
    """Points ``(N, 3)``, second axis up, seen from a direction in degrees: right, up, towards the eye."""
    a, e = math.radians(azimuth), math.radians(elevation)
    right = np.array([math.cos(a), 0, -math.sin(a)])
    towards = np.array([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    return points @ np.stack([right, np.cross(towards, right), towards], axis=1)


def cloud(points: np.ndarray, size: int = 200) -> np.ndarray:
    """A cloud of points as a picture: near points last, far ones paler. Clouds of 1 or 2
    dimensions are drawn flat. The scale is the cloud's own."""
    points = np.pad(points[:, :3].astype(np.float64), ((0, 0), (0, max(0, 3 - points.shape[1]))))
    centred = points - (points.min(0) + points.max(0)) / 2
    seen = turn(centred) if np.ptp(points[:, 2]) > 0 else centred
    reach = max(np.linalg.norm(centred, axis=1).max(), 1e-9)
    sharp = 2  # drawn twice as large, then made smaller: smooth edges
    canvas = Image.new("RGB", (size * sharp, size * sharp), PAPER)
    brush = ImageDraw.Draw(canvas)
    radius = sharp * size * min(max(0.32 / math.sqrt(len(points)), 0.006), 0.03)
    places = sharp * size * (0.5 + 0.47 * seen[:, :2] / reach * [1, -1])
    colours = _shade(centred[:, 1] / reach, seen[:, 2] / reach)
    for n in seen[:, 2].argsort():
        (u, v), colour = places[n], tuple(int(part) for part in colours[n])
        brush.ellipse((u - radius, v - radius, u + radius, v + radius), fill=colour)
    return np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS))


def _shade(height: np.ndarray, nearness: np.ndarray) -> np.ndarray:
    """Colours by height in -1..1, paler with distance: ``(N, 3)`` in 0..255."""
    colour = HEIGHT(0.08 + 0.82 * (height.clip(-1, 1) + 1) / 2)[:, :3]
    fog = 0.55 * (1 - nearness.clip(-1, 1)[:, None]) / 2
    return (255 * (colour * (1 - fog) + fog)).clip(0, 255)


FACES = {  # the three kinds of face that the view sees: outward axis, corners, brightness
    0: (((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)), 0.72),
    1: (((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)), 1.0),
    2: (((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)), 0.86),
}


def voxels(filled: np.ndarray, size: int = 200) -> np.ndarray:
    """Occupied cells ``(X, Y, Z)`` as a picture, Y up: exposed faces, far ones first."""
    sharp = 2
    canvas = Image.new("RGB", (size * sharp, size * sharp), PAPER)
    brush = ImageDraw.Draw(canvas)
    middle = np.array(filled.shape) / 2
    scale = sharp * size * 0.48 / np.linalg.norm(middle)
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
            zip(seen[..., 2].mean(1), seen[..., :2] * [1, -1] * scale + size * sharp / 2, colour, strict=True)
        )
    for _, outline, colour in sorted(polygons, key=lambda polygon: polygon[0]):
        brush.polygon([tuple(corner) for corner in outline], fill=tuple(int(part) for part in colour))
    return np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS))


def scatter(x: Tensor, domain: Vectors, real: Tensor | None = None, most: int = 4) -> Figure:
    """Samples over real data: one scatter for two features, pairs of the first ``most`` for more.
    The axes are those of the real data, so samples far away lie outside."""
    features = min(domain.features, most)
    names = [escape(name) for name in domain.names] or [f"x{n + 1}" for n in range(domain.features)]
    sets = [(REAL, "real", real)] if real is not None else []
    sets.append((GENERATED, "samples", x))
    clouds = [(colour, label, data[:2000].detach().cpu().double().numpy()) for colour, label, data in sets]
    frame = np.stack([clouds[0][2].min(0), clouds[0][2].max(0)])
    margin = 0.06 * np.where(np.ptp(frame, axis=0) > 0, np.ptp(frame, axis=0), 1)
    low, high = frame[0] - margin, frame[1] + margin
    if features <= 2:
        side, grid = 3.4, [(0, 1 if features == 2 else 0)]
        figure = Figure((side, side), layout="constrained")
        axes = [[figure.add_subplot()]]
    else:
        figure = Figure((1.9 * features, 1.9 * features), layout="constrained")
        axes = figure.subplots(features, features).tolist()
        grid = [(column, row) for row in range(features) for column in range(features)]
    for axis, (u, v) in zip((axis for row in axes for axis in row), grid, strict=True):
        for colour, label, data in clouds:
            if u == v:
                axis.hist(
                    data[:, u],
                    bins=np.linspace(low[u], high[u], 40).tolist(),
                    density=True,
                    color=colour,
                    alpha=0.6,
                    label=label,
                )
            else:
                axis.scatter(data[:, u], data[:, v], s=3, color=colour, alpha=0.55, linewidths=0, label=label)
                axis.set_ylim(low[v], high[v])
        axis.set_xlim(low[u], high[u])
        plain(axis)
        if v == grid[-1][1]:
            axis.set_xlabel(names[u])
        if u == 0 and features > 1:
            axis.set_ylabel(names[v])
    if len(clouds) > 1:
        figure.legend(
            *axes[0][0].get_legend_handles_labels(),
            loc="outside upper right",
            ncols=2,
            frameon=False,
            markerscale=3,
            fontsize=8,
        )
    return figure


def _lines(x: Tensor, most: int = 8) -> Figure:
    """Data on a line ``(B, C, L)``: one small curve each."""
    shown = x[:most]
    figure = Figure((8.8, 0.9 * len(shown)), layout="constrained")
    for axis, datum in zip(np.atleast_1d(figure.subplots(len(shown), 1)), shown.numpy(), strict=True):
        axis.plot(datum.T, color=GENERATED, linewidth=0.8)
        plain(axis)
    return figure


def plain(axis: Any) -> None:
    """Two thin spines, small grey figures."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#c5ccd8")
    axis.tick_params(labelsize=7, colors="#5b6577", length=2)


def escape(text: str) -> str:
    """Text for matplotlib, which would read what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")
