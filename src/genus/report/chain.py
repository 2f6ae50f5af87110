"""A Markov chain as a picture: its graph where there are few states, else its matrix as a heat map."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from genus.chains import MarkovChain
from genus.drawing import INK, escape, plain, png_of

MOST_NODES = 12
FAINTEST = 0.005  # rarer transitions are not drawn
NODE = 0.16  # radius, where the states stand on a circle of radius 1
CLOSED, TRANSIENT, ARROW = "#dbe7f6", "#f3f4f7", "#4c6f9f"


def transition_picture(chain: MarkovChain) -> bytes:
    """The chain as PNG. States that are left for good one day are paler."""
    return png_of(_graph(chain) if len(chain) <= MOST_NODES else _heat_map(chain), dpi=130)


def shown(name: str, most: int = 12) -> str:
    """A state's name for reading: white space and what cannot be printed are spelled out."""
    name = name if name.isprintable() and name.strip() == name and name else repr(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _graph(chain: MarkovChain) -> Figure:
    """States on a circle, arrows as thick as they are probable, labelled where they can be told apart."""
    count = len(chain)
    across, up = (1.6, 1.6) if count > 2 else (1.6, 0.55)  # two states stand side by side
    figure = Figure((6.4, 6.4 * up / across), layout="constrained")
    axis: Any = figure.add_subplot()
    axis.set_axis_off()
    axis.set_aspect("equal")
    axis.set_xlim(-across, across)
    axis.set_ylim(-up, up)
    angles = math.pi / 2 - 2 * math.pi * np.arange(count) / count if count != 2 else np.array([math.pi, 0.0])
    places = np.stack([np.cos(angles), np.sin(angles)], 1) * (count > 1)
    stays = {state for group in chain.closed for state in group}
    radius = NODE if count <= 8 else 0.75 * NODE
    for state, place in enumerate(places):
        colour = CLOSED if state in stays else TRANSIENT
        axis.add_patch(Circle(place, radius, facecolor=colour, edgecolor=INK, linewidth=1.2, zorder=3))
        name = escape(shown(chain.names[state]))
        size = min(11.0, 240 * radius / (0.62 * len(name)))
        axis.text(*place, name, ha="center", va="center", fontsize=size, color=INK, zorder=4)
    least = 0.0 if count <= 5 else 2 / count  # of a labelled arrow
    for u, v in np.argwhere(chain.matrix.numpy() >= FAINTEST):
        p = float(chain.matrix[u, v])
        text = f"{p:.2f}".replace("1.00", "1") if p >= least else ""
        if u == v:
            _loop(axis, places[u], angles[u] if count > 1 else math.pi / 2, radius, p, text)
        else:
            _arrow(axis, places[u], places[v], radius, p, text)
    return figure


def _style(p: float) -> dict[str, Any]:
    return {"color": ARROW, "linewidth": 0.5 + 3 * p, "alpha": 0.35 + 0.6 * p}


def _arrow(axis: Any, tail: np.ndarray, head: np.ndarray, radius: float, p: float, text: str) -> None:
    """A bent arrow from rim to rim, so that there and back do not lie on one another."""
    bend, along = 0.18, head - tail
    distance = float(np.hypot(*along))
    left = np.array([-along[1], along[0]])
    middle = (tail + head) / 2 - bend * left  # the control point, as matplotlib's arc3 has it
    start = tail + (middle - tail) * radius / np.hypot(*(middle - tail))
    end = head + (middle - head) * (radius + 0.02) / np.hypot(*(middle - head))
    style = f"arc3,rad={bend * distance / float(np.hypot(*(end - start))) * 0.9:.3f}"
    axis.add_patch(
        FancyArrowPatch(
            tuple(start), tuple(end), connectionstyle=style, arrowstyle="-|>", mutation_scale=12, zorder=2, **_style(p)
        )
    )
    _label(axis, tail + 0.42 * along - bend * 0.62 * left, text)


def _loop(axis: Any, place: np.ndarray, angle: float, radius: float, p: float, text: str) -> None:
    """An arrow from a state to itself, on its outer side."""
    start, end = (place + radius * np.array([math.cos(a), math.sin(a)]) for a in (angle + 0.6, angle - 0.6))
    loop: dict[str, Any] = {"connectionstyle": "arc3,rad=-1.9", "arrowstyle": "-|>", "mutation_scale": 12, "zorder": 2}
    axis.add_patch(FancyArrowPatch(tuple(start), tuple(end), **loop, **_style(p)))
    _label(axis, place + (radius + 0.27) * np.array([math.cos(angle), math.sin(angle)]), text)


def _label(axis: Any, place: np.ndarray, text: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    axis.text(*place, text, ha="center", va="center", fontsize=9, color=INK, zorder=5, bbox=box if text else None)


def _heat_map(chain: MarkovChain) -> Figure:
    """The matrix: a row for each state, a column for what follows it."""
    count, figure = len(chain), Figure((7.4, 6.6), layout="constrained")
    axis: Any = figure.add_subplot()
    # colours by the square root: most transitions of a large chain are rare
    drawn = axis.imshow(chain.matrix.sqrt().numpy(), cmap="viridis", vmin=0, interpolation="nearest")
    names = [escape(shown(name, 6)) for name in chain.names]
    step = math.ceil(count / 60)
    for side in (axis.xaxis, axis.yaxis):
        side.set_ticks(range(0, count, step), names[::step])
    plain(axis)
    axis.tick_params(labelsize=max(4, min(8, 400 / count)))
    axis.tick_params(axis="x", rotation=90)
    axis.set_xlabel("next")
    axis.set_ylabel("from")
    bar = figure.colorbar(drawn, ax=axis, shrink=0.8)
    ticks = [t for t in (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1) if math.sqrt(t) <= drawn.get_clim()[1]]
    bar.set_ticks([math.sqrt(t) for t in ticks], labels=[f"{t:g}" for t in ticks])
    bar.set_label("probability")
    return figure
