"""Arrays: NPY, NPZ and IDX files. The shape and type of an array say what it holds.

    uint8 or bool   (N, H, W), (N, H, W, C), (N, C, H, W)   pictures, C = 1 or 3
                    (N, D, H, W), (N, 1, D, H, W)           voxels
    float           (N, F)                                  vectors
                    (N, P, 2) or (N, P, 3)                  point clouds

Axes other than these are named: ``tyx`` makes clips of what would be voxels.

An NPZ holds ``x`` and perhaps labels ``y``; or ``train``, ``val`` and ``test`` and perhaps
``train_y``, ``val_y`` and ``test_y``. A uint8 array of nothing but 0 and 1 has two levels.
"""

import io
import math
import stat
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from genus.data.guard import LARGEST, read_up_to, refuse_bomb, refuse_stray
from genus.data.idx import read_idx
from genus.data.source import Source, TensorSplit
from genus.data.splitting import ALIASES, PARTS, by_number, labels_of
from genus.errors import DataFormatError, SettingsError
from genus.kinds import Domain, Grid, Points, Vectors

LARGEST_DIRECTORY = 1 << 20  # bytes of the table of contents of an NPZ file, some 15,000 arrays

Array = NDArray[Any]


def open_arrays(path: Path, axes: str | None = None) -> Source:
    """An array file as a source. axes: letters for those of its grids, such as ``tyx``; a `SettingsError` where they
    do not fit."""
    source = _open(path)
    if axes is None:
        return source
    try:
        if not source.domain.on_grid:
            raise ValueError(f"only grids have them; got {source.domain}.")
        return replace(source, domain=replace(source.domain, axes=axes))  # type: ignore[call-arg]
    except ValueError as error:
        raise SettingsError(f"{path}: axes: {error}") from None


def _open(path: Path) -> Source:
    if path.suffix == ".npz":
        return _open_npz(path)
    if path.suffix == ".npy":
        return _from_whole(read_npy(path), None, path)
    labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    beside = labels != path and labels.exists()
    if beside:
        refuse_stray(labels, path.parent)
    return _from_whole(read_idx(path), read_idx(labels) if beside else None, path)


def as_domain(array: Array, where: str) -> tuple[Tensor, Domain]:
    """The tensor and domain of an array of items; a `DataFormatError` names what was expected."""
    if not array.size:
        raise DataFormatError(f"{where}: the array is empty, its shape is {array.shape}.")
    if array.dtype == bool or array.dtype == np.uint8:
        pictures = _channels_first(array, where)
        x = torch.from_numpy(np.ascontiguousarray(pictures).view(np.uint8))
        if array.dtype == bool and x.max() > 1:
            raise DataFormatError(f"{where}: expected the bytes 0 and 1 in an array of truth values.")
        return x, Grid(x.shape[1], tuple(x.shape[2:]), 2 if x.max() <= 1 else 256)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            x = torch.from_numpy(array.astype(np.float32, order="C"))
        finite = torch.isfinite(x).numpy()
        if not finite.all():
            place = tuple(int(k) for k in np.unravel_index(finite.argmin(), finite.shape))
            raise DataFormatError(f"{where}: the entry at {place} is NaN, infinite or beyond float32.")
        if x.ndim == 2:
            return x, Vectors(x.shape[1])
        if x.ndim == 3 and x.shape[2] in (2, 3):
            return x, Points(x.shape[1], x.shape[2])
    raise DataFormatError(
        f"{where}: expected uint8 pictures (N, H, W[, C]), float vectors (N, F) or float clouds (N, P, 2 or 3); "
        f"got {array.dtype} of shape {array.shape}."
    )


def _channels_first(array: Array, where: str) -> Array:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        return np.moveaxis(array, 3, 1)
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        return array
    if array.ndim == 4 and array.shape[1] not in (1, 3):
        return array[:, None]
    if array.ndim == 5 and array.shape[1] in (1, 3):
        return array
    raise DataFormatError(
        f"{where}: expected pictures as (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, "
        f"or voxels as (N, D, H, W) or (N, C, D, H, W); got shape {array.shape}."
    )


def _from_whole(array: Array, labels: Array | None, path: Path) -> Source:
    x, domain = as_domain(array, str(path))
    return whole(x, domain, path, labels)


def whole(x: Tensor, domain: Domain, path: Path, labels: Array | None = None) -> Source:
    """The data of a file as a source, split 80 / 10 / 10 by lot; labels: ``(N,)``."""
    y, label = (None, None) if labels is None else labels_of(labels, f"{path}: the labels")
    if y is not None and len(y) != len(x):
        raise DataFormatError(f"{path}: expected one label for each of {len(x)} items; got {len(y)}.")
    train, validation, test = (TensorSplit(x[i], None if y is None else y[i]) for i in by_number(len(x), str(path)))
    return Source(path.name, domain, train, validation, test, condition=label, notes="split 80 / 10 / 10")


def _open_npz(path: Path) -> Source:
    arrays = read_npz(path)
    if len(arrays) == 1:
        arrays = {"x": next(iter(arrays.values()))}
    if "x" in arrays:
        return _from_whole(arrays["x"], arrays.get("y"), path)
    keys = {part: next((key for key in ALIASES[part] if key in arrays), None) for part in PARTS}
    if None in keys.values():
        raise DataFormatError(
            f"{path}: expected the arrays x (and y), or train, val and test (and train_y ...); got {', '.join(arrays)}."
        )
    parts = [arrays[str(key)] for key in keys.values()]
    if len({(part.shape[1:], part.dtype) for part in parts}) != 1:
        shapes = ", ".join(f"{part.dtype} {part.shape}" for part in parts)
        raise DataFormatError(f"{path}: expected items of one shape and type in the three parts; got {shapes}.")
    x, domain = as_domain(np.concatenate(parts), str(path))
    sizes = [len(part) for part in parts]
    if not min(sizes):
        raise DataFormatError(f"{path}: expected at least one item in each part; got {sizes}.")
    found = [arrays[f"{key}_y"] for key in keys.values() if f"{key}_y" in arrays]
    if found and [len(y) if y.ndim else 0 for y in found] != sizes:
        raise DataFormatError(f"{path}: expected labels for each of the three parts, as many as items ({sizes}).")
    y, label = labels_of(np.concatenate(found), f"{path}: the labels") if found else (None, None)
    xs, ys = x.split(sizes), [None] * 3 if y is None else y.split(sizes)
    train, validation, test = (TensorSplit(a, b) for a, b in zip(xs, ys, strict=True))
    return Source(path.name, domain, train, validation, test, condition=label, notes="splits as in the file")


def read_npy(path: Path) -> Array:
    """The array of an NPY file; never unpickles, never allocates more than the file holds."""
    try:
        with path.open("rb") as file:
            return _read_npy(file, path.stat().st_size, str(path))
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error}).") from None


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an NPZ file by name; refuses members that inflate beyond reason.

    Members are never written anywhere; still, names that lead out of a folder and links are refused.
    """
    arrays: dict[str, Array] = {}
    try:
        with _Sparing(path.open("rb", buffering=0)) as raw, zipfile.ZipFile(raw) as archive:
            members = archive.infolist()
            refuse_bomb(sum(member.file_size for member in members), path.stat().st_size, str(path))
            for member in members:
                where = f"{path}, array {member.filename[:60]!r}"
                key = _key(member, where)
                if key in arrays:
                    raise DataFormatError(f"{where}: there are two of that name.")
                with archive.open(member) as file:
                    arrays[key] = _read_npy(file, member.file_size, where)  # type: ignore[arg-type]
    except DataFormatError:
        raise
    except Exception as error:  # a parser of foreign bytes may raise anything
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise DataFormatError(f"{path}: not a readable NPZ file ({reason}).") from None
    if not arrays:
        raise DataFormatError(f"{path}: holds no array.")
    return arrays


class _Sparing(io.BufferedReader):
    """A file that gives a mebibyte at most in one read: `zipfile` reads the table of contents at once,
    as large as the file says it is, and makes a large object of each entry."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(LARGEST_DIRECTORY if size is None or size < 0 else min(size, LARGEST_DIRECTORY))


def _key(member: zipfile.ZipInfo, where: str) -> str:
    """The name of an array in an archive, if it is one that numpy would have written."""
    name, kind = member.filename, member.external_attr >> 16
    if stat.S_ISLNK(kind) or name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        raise DataFormatError(f"{where}: a link, or a name that leads out of the archive, refused.")
    if not name.endswith(".npy") or not name.isprintable() or len(name) > 200:
        raise DataFormatError(f"{where}: not an NPY array.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others inflate without a bound
        raise DataFormatError(f"{where}: expected it stored or deflated, as numpy does.")
    return name[:-4]


def _read_npy(file: BinaryIO, length: int, where: str) -> Array:
    try:
        version = npy.read_magic(file)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = header(file)
    except Exception as error:  # the header is a Python literal: its parser may raise anything
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise DataFormatError(f"{where}: the NPY header is damaged ({reason}).") from None
    if dtype.hasobject or dtype.names or dtype.kind not in "biufU":
        raise DataFormatError(f"{where}: expected numbers or text; got {dtype} (Python objects are never unpickled).")
    if not math.prod(shape) * dtype.itemsize:
        raise DataFormatError(f"{where}: the array is empty, its shape is {str(shape)[:60]}.")
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared > min(length, LARGEST):
        raise DataFormatError(f"{where}: the header declares shape {str(shape)[:60]}, more than the file holds.")
    content = read_up_to(file, declared)
    if len(content) != declared or file.read(1):
        raise DataFormatError(f"{where}: the header declares {declared} bytes of data; the file holds another number.")
    array: Array = np.frombuffer(content, dtype)
    return array.reshape(shape, order="F" if fortran else "C")
