"""Clouds of points in no order."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from genus.errors import DataFormatError
from genus.geometry.clouds import chamfer, chamfer_matrix, in_order, reduce_points
from genus.kinds._domain import SHEET, Domain, Meeting, Metric, Reading, Sheet
from genus.prob import noise

if TYPE_CHECKING:
    import PIL.Image

POINTS = 128  # of a cloud, when clouds are compared with a whole training set


@dataclass(frozen=True)
class Points(Domain):
    """A cloud of ``count`` points in ``dim`` dimensions; their order carries no meaning."""

    kind: ClassVar[str] = "points"
    plural: ClassVar[str] = "point clouds"
    dtype: ClassVar[torch.dtype] = torch.float32
    read_as: ClassVar[Reading] = "points"
    options = frozenset({"points"})
    floors = ()
    compared = 100
    compared_by = "distances"

    count: int
    dim: int = 3

    def __post_init__(self) -> None:
        if self.count < 1 or self.dim < 1:
            raise ValueError(f"points need count >= 1 and dim >= 1; got {self!r}.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, self.dim)

    @property
    def levels(self) -> None:
        return None

    @property
    def turns(self) -> bool:
        return self.dim == 3

    def error(self, x: Tensor, again: Tensor) -> str:
        return f"mean Chamfer distance: {float(chamfer(x, again, squared=False).mean()):.4g}"

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return (cls(16, 3),)

    def of(self, x: Tensor) -> Self:
        return replace(self, count=x.shape[1])

    def toy(self, label: Tensor, name: str = "toy") -> Tensor:
        normal = noise.normal((len(label), self.count, self.dim), self._toys(name))
        return 2 + (1 + 0.5 * self._wide(label)) * torch.nn.functional.normalize(normal, dim=-1)

    def draw(self, x: Tensor, sheet: Sheet = SHEET) -> "PIL.Image.Image":
        """From one fixed view, coloured by height: the second axis is up."""
        from genus import drawing

        columns = sheet.columns or drawing.columns_of(len(x))
        tiles = [cloud(datum, drawing.side(sheet.width, columns)) for datum in x.numpy()]
        return drawing.tiled(tiles, columns, sheet.width, sheet.captions)

    def metric(self, some: Callable[[], Tensor], seed: int) -> Metric:
        def prepare(x: Tensor) -> Tensor:
            return reduce_points(in_order(x.float()), POINTS, noise.stream(seed, "memorisation"))

        return Metric(f"Chamfer, squared, {min(POINTS, self.count)} points", prepare, chamfer_matrix, chamfer, power=2)

    def meet(self, samples: Domain, in_files: bool) -> Meeting:
        """Clouds in files may lie in any frame: on both sides each is put in the unit sphere. The larger clouds are
        reduced by lot."""
        if not isinstance(samples, Points):
            return super().meet(samples, in_files)
        if samples.dim != self.dim:
            raise ValueError("their dimensions differ")
        count = min(samples.count, self.count)

        def change(x: Tensor) -> Tensor:
            fewer = reduce_points(x, count, noise.stream("against", x.shape[1], count))
            return in_order(unit_sphere(fewer) if in_files else fewer)

        notes = ["on both sides each cloud is put in the unit sphere, as files may have any frame"] * in_files
        if samples.count != self.count:
            notes.insert(0, f"{count} points of each cloud, by lot, as the smaller side has")
        marks = [f"{count} points"] * (count != self.count) + ["each cloud in the unit sphere"] * in_files
        return Meeting(replace(self, count=count), change, change, tuple(notes), tuple(marks))

    def ending(self, count: int) -> str:
        return ".ply" if self.dim == 3 and count == 1 else ""

    def file(self, x: Tensor, labels: Sequence[str] = ()) -> bytes:
        import trimesh

        return trimesh.PointCloud(x[0].numpy()).export(file_type="ply")

    def __str__(self) -> str:
        return f"{self.count} points in {self.dim}-D"


def unit_sphere(clouds: Tensor) -> Tensor:
    """`genus.geometry.mesh.normalise` by each cloud's own points, ``(N, P, dim)``."""
    x = clouds.double()
    x = x - (x.amin(1, keepdim=True) + x.amax(1, keepdim=True)) / 2
    farthest = x.norm(dim=2).amax(1)
    if not (farthest > 0).all():
        raise DataFormatError(f"cloud {int((farthest <= 0).int().argmax())}: all points are the same.")
    return (x / farthest[:, None, None]).to(clouds.dtype)


def cloud(points: np.ndarray, size: int = 200) -> np.ndarray:
    """A cloud of points as a picture: near points last, far ones paler. Clouds of 1 or 2
    dimensions are drawn flat. The scale is the cloud's own."""
    from PIL import Image, ImageDraw

    from genus.drawing import PAPER, SHARP, shade, turn

    points = np.pad(points[:, :3].astype(np.float64), ((0, 0), (0, max(0, 3 - points.shape[1]))))
    centred = points - (points.min(0) + points.max(0)) / 2
    seen = turn(centred) if np.ptp(points[:, 2]) > 0 else centred
    reach = max(np.linalg.norm(centred, axis=1).max(), 1e-9)
    canvas = Image.new("RGB", (size * SHARP, size * SHARP), PAPER)
    brush = ImageDraw.Draw(canvas)
    radius = SHARP * size * min(max(0.32 / math.sqrt(len(points)), 0.006), 0.03)
    places = SHARP * size * (0.5 + 0.47 * seen[:, :2] / reach * [1, -1])
    colours = shade(centred[:, 1] / reach, seen[:, 2] / reach)
    for n in seen[:, 2].argsort():
        (u, v), colour = places[n], tuple(int(part) for part in colours[n])
        brush.ellipse((u - radius, v - radius, u + radius, v + radius), fill=colour)
    return np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS))
