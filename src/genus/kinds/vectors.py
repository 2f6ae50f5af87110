"""Rows of numbers in the units of a table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from genus.kinds._domain import SHEET, Domain, Meeting, Sheet

if TYPE_CHECKING:
    import PIL.Image
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Vectors(Domain):
    """Rows of a table: ``features`` real numbers in the table's own units."""

    kind: ClassVar[str] = "vectors"
    plural: ClassVar[str] = "vectors"
    dtype: ClassVar[torch.dtype] = torch.float32
    scattered: ClassVar[bool] = True

    features: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if self.features < 1 or (self.names and len(self.names) != self.features):
            raise ValueError(f"vectors need features >= 1 and as many names, or none; got {self!r}.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.features,)

    @property
    def levels(self) -> None:
        return None

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return (cls(2),)

    def draw(self, x: Tensor, sheet: Sheet = SHEET) -> "PIL.Image.Image":
        """All in one scatter, over ``real`` ones if given."""
        from genus.drawing import rendered

        return rendered(scatter(x, self, sheet.real, sheet.captions))

    def ending(self, count: int) -> str:
        return ".csv"

    def file(self, x: Tensor, labels: Sequence[str] = ()) -> bytes:
        """A CSV file under the names of the columns; labels in a last one."""
        names, rows = [*(self.names or (f"x{n}" for n in range(self.features)))], [list(row) for row in x.numpy()]
        if labels:
            names.append("label" if "label" not in names else "label of the sample")
            rows = [[*row, label] for row, label in zip(rows, labels, strict=True)]
        text = io.StringIO(newline="")
        csv.writer(text).writerows([names, *rows])
        return text.getvalue().encode()

    def meet(self, samples: Domain, in_files: bool) -> Meeting:
        """The same columns in the same order, as far as both are named."""
        if not isinstance(samples, Vectors):
            return super().meet(samples, in_files)
        named = [names for names in (samples.names, self.names) if names and names[0] != "column 1"]
        if samples.features != self.features or (len(named) == 2 and named[0] != named[1]):
            raise ValueError(f"expected the same columns in the same order ({', '.join(self.names) or self.features})")
        return Meeting(self)

    def facts(self, x: Tensor) -> dict[str, str]:
        names = self.names or tuple(f"feature {k + 1}" for k in range(self.features))
        spread = [f"{n} {m:.4g} ± {s:.3g}" for n, m, s in zip(names, x.mean(0), x.std(0), strict=True)]
        return {"mean ± deviation": ", ".join(spread[:12]) + (", ..." if len(spread) > 12 else "")}

    def __str__(self) -> str:
        return f"vectors of {self.features} features"


def scatter(
    x: Tensor, domain: Vectors, real: Tensor | None = None, captions: Sequence[str] = (), most: int = 4
) -> "Figure":
    """Samples over real data, or data by their captions: one scatter for two features, pairs of the first ``most`` for
    more. The axes are those of the real data, so samples far away lie outside."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    from genus.drawing import GENERATED, REAL, escape, plain

    features = min(domain.features, most)
    names = [escape(name) for name in domain.names] or [f"x{n + 1}" for n in range(domain.features)]
    sets: list[tuple[Any, str, Tensor]] = [(REAL, "real", real)] if real is not None else []
    groups = sorted(set(captions)) if len(set(captions)) <= 10 else []
    for n, name in enumerate(groups):
        sets.append((colormaps["tab10"](n), escape(name), x[torch.tensor([caption == name for caption in captions])]))
    sets += [] if groups else [(GENERATED, "samples", x)]
    clouds = [(colour, label, data[:2000].detach().cpu().double().numpy()) for colour, label, data in sets]
    frame = (x if real is None else real).detach().cpu().double().numpy()
    frame = np.stack([frame.min(0), frame.max(0)])
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
                axis.scatter(
                    data[:, u],
                    data[:, v],
                    s=min(max(3, 1500 / len(data)), 20),
                    color=colour,
                    alpha=0.55,
                    linewidths=0,
                    label=label,
                )
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
            ncols=min(len(clouds), 5),
            frameon=False,
            markerscale=3,
            fontsize=8,
        )
    return figure
