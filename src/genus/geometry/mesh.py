"""Triangle meshes: reading them with suspicion, putting them to one scale, sampling their surface."""

from pathlib import Path

import numpy as np
import torch
import trimesh
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from genus.errors import DataFormatError
from genus.geometry.formats import READERS
from genus.prob import noise

FORMATS = tuple(READERS)
LARGEST = 256 << 20  # bytes of a mesh file
BLOCK = 1 << 18  # faces whose areas are worked out at once

Floats = NDArray[np.float64]


def load_mesh(path: str | Path) -> trimesh.Trimesh:
    """A triangle mesh from OBJ, PLY, STL, OFF or GLB (`geometry.formats`); scenes are baked into one mesh.

    Textures and other side files are not opened. Raises `DataFormatError` for files that
    do not parse and for meshes without faces, with NaN, or with faces that name missing vertices.
    """
    path = Path(path)
    vertices, faces = _parse(path)
    check_mesh(vertices, faces, str(path))
    return trimesh.Trimesh(vertices, faces, process=False)


def load_cloud_or_mesh(path: str | Path) -> trimesh.Trimesh | Floats:
    """`load_mesh`, but a file with vertices only (a scan as PLY) gives its points ``(P, 3)``."""
    path = Path(path)
    vertices, faces = _parse(path)
    if len(faces) or not len(vertices) or path.suffix.lower() != ".ply":
        check_mesh(vertices, faces, str(path))
        return trimesh.Trimesh(vertices, faces, process=False)
    _check_finite(vertices, str(path))
    return vertices


def check_mesh(vertices: ArrayLike, faces: ArrayLike, where: str) -> None:
    """Raise a `DataFormatError` naming ``where`` unless this is a finite mesh with some area."""
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise DataFormatError(
            f"{where}: expected vertices (V, 3) and faces (F, 3); got {vertices.shape}, {faces.shape}."
        )
    if not len(faces):
        raise DataFormatError(f"{where}: the mesh has no faces.")
    _check_finite(vertices, where)
    if faces.min() < 0 or faces.max() >= len(vertices):
        bad = int(((faces < 0) | (faces >= len(vertices))).any(1).argmax())
        wrong = next(int(corner) for corner in faces[bad] if not 0 <= corner < len(vertices))
        raise DataFormatError(f"{where}: face {bad} names vertex {wrong}, but there are {len(vertices)} vertices.")
    if not face_areas(vertices, faces).sum() > 0:
        raise DataFormatError(f"{where}: the surface has no area.")


def normalise(vertices: ArrayLike, scheme: str = "unit_sphere") -> tuple[Floats, Floats, float]:
    """Vertices ``(V, 3)`` put to a common place and size, with the centre ``(3,)`` and scale
    that undo it: ``original = normalised * scale + centre``.

    Both schemes move the middle of the bounding box to the origin. unit_sphere: the
    farthest vertex is at distance 1. bbox: the longest side of the box is [-1, 1].
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    low, high = vertices.min(0), vertices.max(0)
    centre = (low + high) / 2
    if scheme == "unit_sphere":
        scale = float(np.linalg.norm(vertices - centre, axis=1).max())
    elif scheme == "bbox":
        scale = float((high - low).max() / 2)
    else:
        raise ValueError(f"unknown scheme {scheme!r}; expected 'unit_sphere' or 'bbox'.")
    if not scale > 0:
        raise ValueError(f"expected vertices that differ; all {len(vertices)} are one point.")
    return (vertices - centre) / scale, centre, scale


def face_areas(vertices: ArrayLike, faces: ArrayLike) -> Floats:
    """Area of each triangle, ``(F,)``."""
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces)
    areas = np.empty(len(faces))
    for start in range(0, len(faces), BLOCK):
        corners = vertices[faces[start : start + BLOCK]]
        a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
        areas[start : start + BLOCK] = np.sqrt((cross(b - a, c - a) ** 2).sum(1)) / 2
    return areas


def cross(a: Floats, b: Floats) -> Floats:
    """Cross products of rows, ``(N, 3)``; several times faster than `numpy.cross` for small arrays."""
    return np.stack([a[:, i] * b[:, j] - a[:, j] * b[:, i] for i, j in ((1, 2), (2, 0), (0, 1))], 1)


def sample_surface(
    vertices: ArrayLike, faces: ArrayLike, count: int, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """``count`` points uniform on the surface, ``(count, 3)`` float32, and the faces ``(count,)`` they lie on.

    A face is drawn by its area, a point in it by the square-root map of two uniform
    numbers (Osada et al. 2002. Shape distributions, eq. 1).
    """
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces)
    cumulative = face_areas(vertices, faces).cumsum()
    if not cumulative[-1] > 0:
        raise ValueError("expected a mesh with some area; all its faces are degenerate.")
    u = noise.uniform((3, count), generator, dtype=torch.float64).cpu().numpy()
    face = np.searchsorted(cumulative, u[0] * cumulative[-1], side="right").clip(max=len(faces) - 1)
    a, b, c = (vertices[faces[face, k]] for k in range(3))
    root, v = np.sqrt(u[1])[:, None], u[2][:, None]
    points = (1 - root) * a + root * (1 - v) * b + root * v * c
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(face.astype(np.int64))


def _parse(path: Path) -> tuple[Floats, NDArray[np.int64]]:
    """Vertices and faces as the file gives them, unchecked."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise DataFormatError(f"{path}: expected a mesh as {', '.join(FORMATS)}.")
    try:
        if path.stat().st_size > LARGEST:
            raise DataFormatError(f"{path}: larger than {LARGEST >> 20} MiB.")
        content = path.read_bytes()
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error.strerror}).") from None
    with np.errstate(all="ignore"):  # a signalling NaN, refused by `check_mesh`
        return READERS[kind](content, str(path))


def _check_finite(vertices: NDArray[np.floating], where: str) -> None:
    """Refuse vertices that are not finite, or so large that squares overflow in single precision."""
    fine = (np.abs(vertices) <= 1e15).all(1)
    if not fine.all():
        raise DataFormatError(f"{where}: vertex {int(fine.argmin())} is not finite, or larger than 1e15.")
