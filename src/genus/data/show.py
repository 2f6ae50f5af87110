"""What genus sees in a source: its facts in words, and a contact sheet."""

import math
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genus.data import symbols
from genus.data.source import Source, TensorSplit
from genus.kinds import Grid, Label, Points, Tokens, Vectors, Waveform
from genus.prob import noise
from genus.prob.spectrum import spectrogram

INK, PAPER = "#222222", "#ffffff"


def describe(source: Source) -> dict[str, str]:
    """The facts of a source as rows of a table: what -> words."""
    rows = {
        "name": source.name,
        "domain": str(source.domain),
        "condition": "none" if source.condition is None else str(source.condition),
    }
    rows |= {f"{name} items": f"{len(split):,}" for name, split in source.splits.items()}
    if isinstance(source.condition, Label) and source.train.condition is not None:
        counts = source.train.condition.bincount(minlength=source.condition.count).tolist()
        pairs = [f"{name} {count:,}" for name, count in zip(source.condition.names, counts, strict=True)]
        rows["labels in train"] = ", ".join(pairs[:40]) + (", ..." if len(pairs) > 40 else "")
    x = _some(source.train, 10_000)[0]
    if isinstance(source.domain, Vectors):
        names = source.domain.names or tuple(f"feature {k + 1}" for k in range(source.domain.features))
        spread = [f"{n} {m:.4g} ± {s:.3g}" for n, m, s in zip(names, x.mean(0), x.std(0), strict=True)]
        rows["mean ± deviation"] = ", ".join(spread[:12]) + (", ..." if len(spread) > 12 else "")
    elif isinstance(source.domain, Tokens) and source.domain.names:
        often = x.flatten().bincount(minlength=source.domain.levels).sort(descending=True, stable=True).indices[:16]
        rows["most frequent symbols"] = ", ".join(repr(source.domain.names[code])[:12] for code in often.tolist())
    else:
        rows["values in train"] = f"{x.min():g} to {x.max():g}, mean {x.float().mean():.4g}"
    if source.attributes:
        known = [f"{name} ({', '.join(values)})" if values else name for name, values in source.attributes.items()]
        rows["attributes"] = "; ".join(known)
    rows |= {"licence": source.licence, "citation": source.citation, "homepage": source.homepage}
    rows |= {"notes": source.notes, "fingerprint": source.fingerprint}
    return {key: value for key, value in rows.items() if value}


def preview(source: Source) -> Image.Image:
    """A contact sheet of the training split: pictures with labels, a scatter matrix, or clouds from one side,
    or the spectrum of sounds over time."""
    if isinstance(source.domain, Grid):
        return _pictures(source)
    if isinstance(source.domain, Points):
        return _clouds(source)
    if isinstance(source.domain, Waveform):
        return _sounds(source, source.domain)
    if isinstance(source.domain, Vectors):
        return _vectors(source)
    if isinstance(source.domain, Tokens):
        return Image.fromarray(symbols.page(_some(source.train, 60)[0], source.domain))
    raise ValueError(f"expected a source of pictures, clouds, sounds or vectors; got {source.domain}.")


def _some(split: TensorSplit, count: int) -> tuple[Tensor, Tensor | None]:
    batch = split.batch(torch.arange(min(count, len(split))), noise.stream("preview"))
    return batch.x, batch.condition


def _caption(source: Source, label: Tensor | None, item: int) -> str:
    return source.condition.names[int(label[item])] if isinstance(source.condition, Label) and label is not None else ""


def _pictures(source: Source, columns: int = 12, rows: int = 8) -> Image.Image:
    x, label = _some(source.train, columns * rows)
    levels = source.domain.levels or 256
    if x.ndim == 5:  # voxels: how much lies along the first axis
        x = x.float().mean(2)
        x = x / x.amax().clamp(min=1e-9) * (levels - 1)
    pictures = (x.float() * 255 / (levels - 1)).round().byte()
    pictures = pictures if pictures.shape[1] == 3 else pictures[:, :1].expand(-1, 3, -1, -1)
    height, width = pictures.shape[-2:]
    zoom = max(1, round(72 / max(height, width)))
    line, gap = (16 if label is not None else 0), 4
    cell_x, cell_y = width * zoom + gap, height * zoom + gap + line
    sheet = Image.new("RGB", (columns * cell_x + gap, math.ceil(len(x) / columns) * cell_y + gap), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for item, picture in enumerate(pictures):
        left, top = gap + item % columns * cell_x, gap + item // columns * cell_y
        tile = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
        sheet.paste(tile.resize((width * zoom, height * zoom), Image.Resampling.NEAREST), (left, top))
        draw.text((left, top + height * zoom + 1), _caption(source, label, item)[: width * zoom // 6], INK, font)
    return sheet


def _clouds(source: Source, columns: int = 8, rows: int = 4) -> Image.Image:
    x, label = _some(source.train, columns * rows)
    rows = math.ceil(len(x) / columns)
    figure = Figure(figsize=(1.6 * columns, 1.75 * rows), facecolor=PAPER)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for item, cloud in enumerate(x.numpy()):
        across, up, near = _seen(cloud)
        order = near.argsort()  # near points are drawn last
        axes[item].scatter(across[order], up[order], c=near[order], s=4, linewidths=0, cmap="viridis")
        axes[item].set_aspect("equal")
        axes[item].set_title(_caption(source, label, item), fontsize=8, color=INK, pad=1)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.95, 0.02, 0.12)
    return _rendered(figure)


def _sounds(source: Source, domain: Waveform, columns: int = 6, rows: int = 5) -> Image.Image:
    """How strong each frequency is over time, up to half of the rate; a window of 1/16 of the sound."""
    x, label = _some(source.train, columns * rows)
    rows = math.ceil(len(x) / columns)
    window = 2 ** min(max(round(math.log2(domain.length / 16)), 4), 9)
    decibels = 10 * (spectrogram(domain.amplitudes(x), window) + 1e-10).log10()
    figure = Figure(figsize=(1.9 * columns, 1.4 * rows), facecolor=PAPER)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    top = float(decibels.max())
    for item, axis in enumerate(axes):
        axis.set_axis_off()
        if item < len(x):
            axis.imshow(decibels[item].numpy(), "magma", vmin=top - 70, vmax=top, origin="lower", aspect="auto")
            axis.set_title(_caption(source, label, item), fontsize=8, color=INK, pad=1)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.95, 0.03, 0.2)
    return _rendered(figure)


def _seen(cloud: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Points ``(P, 2 or 3)`` as seen from the front right and somewhat above: across, up, nearness."""
    if cloud.shape[1] < 3:
        return cloud[:, 0], cloud[:, -1], np.zeros(len(cloud), np.float32)
    turn, tilt = math.radians(35), math.radians(20)
    across = cloud[:, 0] * math.cos(turn) - cloud[:, 2] * math.sin(turn)
    depth = cloud[:, 0] * math.sin(turn) + cloud[:, 2] * math.cos(turn)
    up = cloud[:, 1] * math.cos(tilt) - depth * math.sin(tilt)
    return across, up, cloud[:, 1] * math.sin(tilt) + depth * math.cos(tilt)


def _vectors(source: Source, shown: int = 5, count: int = 3000) -> Image.Image:
    x, label = _some(source.train, count)
    names = source.domain.names if isinstance(source.domain, Vectors) else ()
    n = min(shown, x.shape[1])
    figure = Figure(figsize=(2 + 1.6 * n, 2 + 1.6 * n), facecolor=PAPER)
    axes = figure.subplots(n, n, squeeze=False)
    for row in range(n):
        for column in range(n):
            axis = axes[row, column]
            if row == column:
                axis.hist(x[:, row].numpy(), bins=50, color="#4c78a8")
            else:
                colours = {"color": "#4c78a8"} if label is None else {"c": label, "cmap": "tab10"}
                axis.scatter(x[:, column], x[:, row], s=2, linewidths=0, **colours)
            axis.tick_params(labelsize=6)
            if row == n - 1:
                axis.set_xlabel(names[column] if names else f"feature {column + 1}", fontsize=8)
            if column == 0:
                axis.set_ylabel(names[row] if names else f"feature {row + 1}", fontsize=8)
    figure.tight_layout()
    return _rendered(figure)


def _rendered(figure: Figure, dpi: int = 100) -> Image.Image:
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
