"""Loss curves, drawn with matplotlib's objects alone (no global figure)."""

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from genus.drawing import GENERATED, INK, REAL, escape, plain

WARNING = "#b7791f"

Metrics = Sequence[dict[str, Any]]
"""Records of a run: ``{"step": 100, "train/loss": 1.2, "validation/loss": 1.3, ...}``, some with
``"warnings"``: a list of ``{"name": ..., "seen": ..., "cure": ...}``."""


def curves(metrics: Metrics, *, most: int = 6) -> Figure | None:
    """The loss on training and validation data, then its terms in small panels; None without any."""
    terms = _terms(metrics)[:most]
    if not terms:
        return None
    columns = min(3, len(terms))
    rows = math.ceil(len(terms) / columns)
    figure = Figure((8.8 if columns > 1 else 5.6, 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axis, term in zip(panels, terms, strict=False):
        _panel(axis, metrics, term)
    for axis in panels[len(terms) :]:
        axis.set_axis_off()
    return figure


def warnings_of(metrics: Metrics) -> tuple[tuple[int, str, str, str], ...]:
    """(step, name, what was seen, what to try) of every warning that training raised, in order;
    what is not made like a warning is passed over."""
    return tuple(
        (int(step), *(str(warning[key]) for key in ("name", "seen", "cure")))  # type: ignore[misc]
        for record in metrics
        if (step := _number(record.get("step"))) is not None and isinstance(record.get("warnings"), list)
        for warning in record["warnings"]
        if isinstance(warning, dict) and warning.keys() >= {"name", "seen", "cure"}
    )


def losses_of(runs: Sequence[tuple[str, Metrics]]) -> Figure | None:
    """The loss of several models, a panel each: different losses have no common axis."""
    drawn = [(name, metrics) for name, metrics in runs if "loss" in _terms(metrics)]
    if not drawn:
        return None
    columns = min(4, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = Figure((2.9 * columns if columns > 1 else 5.6, 2.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axis, (name, metrics) in zip(panels, drawn, strict=False):
        _panel(axis, metrics, "loss")
        axis.set_title(escape(name), fontsize=9, loc="left", color=INK)
    for axis in panels[len(drawn) :]:
        axis.set_axis_off()
    return figure


def svg_of(figure: Figure) -> bytes:
    """A figure as SVG, sharp at every size; equal figures give equal bytes."""
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "genus"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _terms(metrics: Metrics) -> list[str]:
    """Names of loss terms, ``loss`` first: what follows ``train/`` or ``validation/`` with some number."""
    found = {
        key.split("/", 1)[1]
        for record in metrics
        for key, value in record.items()
        if key.startswith(("train/", "validation/")) and _number(value) is not None
    }
    return sorted(found, key=lambda term: (term != "loss", term))


def _panel(axis: Any, metrics: Metrics, term: str) -> None:
    for split, colour, width in (("train", REAL, 1.0), ("validation", GENERATED, 1.6)):
        points = [
            (float(record["step"]), value)
            for record in metrics
            if "step" in record and (value := _number(record.get(f"{split}/{term}"))) is not None
        ]
        if points:
            axis.plot(
                *zip(*points, strict=True),
                color=colour,
                linewidth=width,
                label=split,
                marker="." if len(points) < 3 else "",
            )
    _zoom(axis)
    for number, step in enumerate(sorted({step for step, *_ in warnings_of(metrics)})):
        label = "_more" if number else "warning"  # once in the legend
        axis.axvline(step, color=WARNING, linewidth=1.0, linestyle=(0, (2, 2)), label=label)
    plain(axis)
    axis.set_title(escape(term), fontsize=9, loc="left", color=INK)
    axis.set_xlabel("step", fontsize=7, color="#5b6577")
    if axis.lines:
        axis.legend(fontsize=7, frameon=False)


def _zoom(axis: Any) -> None:
    """Cut the first steps' heights off: the axis shows what happens after the first tenth."""
    values = sorted(y for line in axis.lines for y in list(line.get_ydata())[len(list(line.get_ydata())) // 10 :])
    if len(values) >= 10 and values[0] < values[-1]:
        margin = 0.08 * (values[-1] - values[0])
        axis.set_ylim(values[0] - margin, values[-1] + margin)


def _number(value: Any) -> float | None:
    """A finite number, or None: curves have gaps where a metric was not one."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
