"""A folder of meshes or point clouds, as clouds of equally many points in one frame."""

from array import array
from pathlib import Path

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from torch import Tensor

from genus.data.arrays import read_npy
from genus.data.guard import Faults, refuse_stray
from genus.errors import DataFormatError
from genus.geometry.mesh import FORMATS, load_cloud_or_mesh, normalise, sample_surface
from genus.prob import noise

ENDINGS = (*(f".{kind}" for kind in FORMATS), ".npy", ".xyz")
USUAL_POINTS = 2048
LARGEST = 128 << 20  # bytes of a text file
LONGEST = 1 << 20  # bytes of a line
MOST = 3_000_000  # points of a cloud, and lines of a text file

Shape = trimesh.Trimesh | NDArray[np.float64]


def read_shapes(
    paths: list[Path], folder: Path, points: int | None, faults: Faults
) -> tuple[list[int], Tensor, dict[str, Tensor]]:
    """Which files could be read, those as clouds ``(N, points, dim)`` float32, and the ``centre`` and ``scale``
    that each was normalised by.

    points: by default 2048, or as many as the smallest cloud has. Meshes are sampled
    uniformly on their surface, larger clouds thinned at random; both are functions of the
    item's name below ``folder``. Every shape is put in the unit sphere (`geometry.mesh.normalise`).
    """
    wanted = points or USUAL_POINTS
    kept: list[int] = []
    found, centres, scales = [], [], []
    for k, path in enumerate(paths):
        try:
            refuse_stray(path, folder)
            shape = _read(path)
            centre, scale = _frame(shape, path)
        except DataFormatError as error:
            faults.note(error)
            continue
        generator = noise.stream("cloud", path.relative_to(folder).as_posix())
        kept.append(k)
        if isinstance(shape, np.ndarray):
            if points and len(shape) < points:
                raise DataFormatError(f"{path}: expected at least {points} points; got {len(shape)}.")
            cloud = shape[noise.permutation(len(shape), generator)[:wanted].numpy()]
            found.append(torch.from_numpy((cloud - centre) / scale).float())
        else:
            found.append(sample_surface((shape.vertices - centre) / scale, shape.faces, wanted, generator)[0])
        if found[-1].shape[1] != found[0].shape[1]:
            raise DataFormatError(
                f"{path}: expected points in {found[0].shape[1]} dimensions, as before; got {found[-1].shape[1]}."
            )
        centres.append(torch.from_numpy(centre).float())
        scales.append(scale)
    if not found:
        return kept, torch.empty(0), {}
    smallest = min(map(len, found))  # the order of points is random, so a beginning is a fair sample
    clouds = torch.stack([cloud[:smallest] for cloud in found])
    return kept, clouds, {"centre": torch.stack(centres), "scale": torch.tensor(scales)}


def _read(path: Path) -> Shape:
    if path.suffix.lower() == ".xyz":
        return _checked(_read_xyz(path), path)
    if path.suffix.lower() == ".npy":
        return _checked(read_npy(path), path)
    return load_cloud_or_mesh(path)


def _frame(shape: Shape, path: Path) -> tuple[NDArray[np.float64], float]:
    """Centre and scale of a shape, of those vertices that its surface uses."""
    if isinstance(shape, np.ndarray):
        corners = shape
    else:
        used = np.zeros(len(shape.vertices), bool)
        used[shape.faces] = True
        corners = shape.vertices[used]
    try:
        return normalise(corners)[1:]
    except ValueError:
        raise DataFormatError(f"{path}: all points are the same.") from None


def _checked(points: NDArray[np.generic], path: Path) -> NDArray[np.float64]:
    if points.ndim != 2 or points.shape[1] not in (2, 3) or not len(points) or points.dtype.kind not in "fiu":
        raise DataFormatError(f"{path}: expected points (P, 2) or (P, 3); got {points.dtype} of shape {points.shape}.")
    if len(points) > MOST:
        raise DataFormatError(f"{path}: expected at most {MOST:,} points; got {len(points):,}.")
    with np.errstate(invalid="ignore"):  # a signalling NaN, found on the next line
        cloud = points.astype(np.float64)
    bad = ~(np.abs(cloud) <= 1e15).all(1)
    if bad.any():
        raise DataFormatError(f"{path}: point {int(bad.argmax())} is not finite, or larger than 1e15.")
    return cloud


def _read_xyz(path: Path) -> NDArray[np.float64]:
    """Lines of three numbers, anything after them (normals, colours) left out."""
    points = array("d")
    try:
        if path.stat().st_size > LARGEST:
            raise DataFormatError(f"{path}: larger than {LARGEST >> 20} MiB.")
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), start=1):
                if number > MOST:
                    raise DataFormatError(f"{path}: more than {MOST:,} lines.")
                cells = line.split(b"#")[0].split()
                if not cells:
                    continue
                try:
                    x, y, z = (float(cell) for cell in cells[:3])
                except ValueError:
                    shown = repr(line[:40].decode("utf-8", "replace"))
                    raise DataFormatError(f"{path}, line {number}: expected three numbers; got {shown}.") from None
                points.extend((x, y, z))
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error}).") from None
    if not points:
        raise DataFormatError(f"{path}: holds no point.")
    return np.asarray(points).reshape(-1, 3)
