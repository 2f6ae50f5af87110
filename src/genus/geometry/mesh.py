"""Triangle meshes: reading them with suspicion, putting them to one scale, sampling their surface."""

import io
import json
import logging
import struct
from pathlib import Path

import numpy as np
import torch
import trimesh
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from genus.errors import DataFormatError
from genus.prob import noise

FORMATS = ("obj", "ply", "stl", "off", "glb")
LARGEST = 512 << 20  # bytes of a mesh file

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def load_mesh(path: str | Path) -> trimesh.Trimesh:
    """A triangle mesh from OBJ, PLY, STL, OFF or GLB; scenes are baked into one mesh.

    Textures and other side files are not opened. Raises `DataFormatError` for files that
    do not parse and for meshes without faces, with NaN, or with faces that name missing vertices.
    """
    path = Path(path)
    loaded = _parse(path)
    if not isinstance(loaded, trimesh.Trimesh) or not len(loaded.faces):
        raise DataFormatError(f"{path}: the mesh has no faces.")
    check_mesh(loaded.vertices, loaded.faces, str(path))
    return loaded


def load_cloud_or_mesh(path: str | Path) -> trimesh.Trimesh | Floats:
    """`load_mesh`, but a file with vertices only (a scan as PLY) gives its points ``(P, 3)``."""
    path = Path(path)
    loaded = _parse(path)
    if isinstance(loaded, trimesh.Trimesh) and len(loaded.faces):
        check_mesh(loaded.vertices, loaded.faces, str(path))
        return loaded
    points = np.asarray(loaded.vertices, dtype=np.float64)
    if not len(points) or path.suffix.lower() != ".ply":
        raise DataFormatError(f"{path}: the mesh has no faces.")
    if not np.isfinite(points).all():
        raise DataFormatError(f"{path}: vertex {_first_bad(points)} is not finite.")
    return points


def check_mesh(vertices: ArrayLike, faces: ArrayLike, where: str) -> None:
    """Raise a `DataFormatError` naming ``where`` unless this is a finite mesh with some area."""
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise DataFormatError(
            f"{where}: expected vertices (V, 3) and faces (F, 3); got {vertices.shape}, {faces.shape}."
        )
    if not np.isfinite(vertices).all() or (len(vertices) and np.abs(vertices).max() > 1e15):
        raise DataFormatError(f"{where}: vertex {_first_bad(vertices)} is not finite, or larger than 1e15.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise DataFormatError(f"{where}: a face names vertex {faces.max()}, but there are {len(vertices)} vertices.")
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
    corners = np.asarray(vertices, dtype=np.float64)[np.asarray(faces)]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return np.sqrt((cross(b - a, c - a) ** 2).sum(1)) / 2


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


def _parse(path: Path) -> trimesh.Trimesh | trimesh.PointCloud:
    """What trimesh makes of the bytes alone, every complaint of it as one sentence."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise DataFormatError(f"{path}: expected a mesh as {', '.join(FORMATS)}.")
    try:
        if path.stat().st_size > LARGEST:
            raise DataFormatError(f"{path}: larger than {LARGEST >> 20} MiB.")
        content = path.read_bytes()
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error.strerror}).") from None
    _check_counts(content, kind, path)
    logger = logging.getLogger("trimesh")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # its warnings are about side files that are left alone on purpose
    try:
        with np.errstate(all="ignore"):
            scene = trimesh.load_scene(io.BytesIO(content), file_type=kind, process=False)
            parts = list(scene.dump())
            meshes = [g for g in parts if isinstance(g, trimesh.Trimesh) and len(g.faces)]
            if meshes:
                return trimesh.util.concatenate(meshes)  # type: ignore[return-value]
            points = [g.vertices for g in parts if hasattr(g, "vertices")]
            return trimesh.PointCloud(np.concatenate(points) if points else np.zeros((0, 3)))
    except (RecursionError, MemoryError, Exception) as error:  # a parser of foreign bytes may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataFormatError(f"{path}: not a readable {kind.upper()} mesh ({reason}).") from None
    finally:
        logger.setLevel(level)


def _check_counts(content: bytes, kind: str, path: Path) -> None:
    """Refuse headers that declare more elements than the file has bytes: they only make a parser allocate."""
    declared = 0
    try:
        if kind == "stl" and content[:5].lower() != b"solid":
            (declared,) = struct.unpack_from("<I", content, 80)
            if 84 + 50 * declared != len(content):
                raise DataFormatError(f"{path}: the STL header declares {declared} triangles; the length disagrees.")
        elif kind == "ply":
            head = content[: content.find(b"end_header")]
            declared = sum(int(line.split()[2]) for line in head.splitlines() if line.startswith(b"element"))
        elif kind == "off":
            words = b"\n".join(line.split(b"#")[0] for line in content[:4096].splitlines()).split()
            declared = sum(int(word) for word in words[1:3])
        elif kind == "glb":
            (length,) = struct.unpack_from("<I", content, 12)
            accessors = json.loads(content[20 : 20 + length]).get("accessors", [])
            declared = sum(int(accessor.get("count", 0)) for accessor in accessors)
    except DataFormatError:
        raise
    except (struct.error, ValueError, IndexError, AttributeError, TypeError, RecursionError):
        raise DataFormatError(f"{path}: the {kind.upper()} header is damaged.") from None
    if not 0 <= declared <= len(content):
        raise DataFormatError(f"{path}: the header declares {declared} elements; the file has {len(content)} bytes.")


def _first_bad(vertices: NDArray[np.floating]) -> int:
    return int(np.nonzero(~(np.abs(vertices) <= 1e15).all(1))[0][0])
