"""The user's own data, whole and in their order: what goes into a file, and what comes out of it.

`genus.data.open_source` cuts data into three splits by lot; here every item counts, and where it
stands. Nothing is resized or rounded: data that are not of the run's domain are refused.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genus.data.arrays import read_npy, read_npz
from genus.data.guard import Faults, regular_files
from genus.data.idx import read_idx
from genus.data.pictures import ENDINGS, FORMATS, read_pictures
from genus.data.sound import ENDINGS as SOUNDS
from genus.data.sound import LARGEST, read_recording, windows
from genus.data.transforms import with_channels
from genus.errors import DataFormatError
from genus.kinds import Domain, Waveform, picture_of


def read_items(path: Path, domain: Domain) -> tuple[Tensor, Tensor | None]:
    """All items of an .npy, .npz or IDX file, the windows of a WAV or FLAC recording, or a folder of pictures
    (in the order of their names), and the labels that an .npz holds as ``y``. Raises a `DataFormatError`
    for what is not of the domain."""
    if path.is_dir():
        return _pictures(path.resolve(), domain), None
    if not path.is_file():
        raise DataFormatError(f"{path}: no such file or folder.")
    if path.suffix.lower() in SOUNDS:
        return _recording(path, domain), None
    if path.suffix == ".npy":
        return _in_terms(read_npy(path), domain, str(path)), None
    if path.suffix != ".npz":
        return _in_terms(read_idx(path), domain, str(path)), None
    arrays = read_npz(path)
    x = arrays.get("x") if len(arrays) > 1 else next(iter(arrays.values()))
    if x is None:
        raise DataFormatError(f"{path}: expected an array x (and labels y); got {', '.join(arrays)}.")
    y = arrays.get("y")
    if y is not None and (y.ndim != 1 or y.dtype.kind not in "iu" or len(y) != len(x)):
        raise DataFormatError(f"{path}: expected {len(x):,} integers as labels y; got {y.dtype} of shape {y.shape}.")
    return _in_terms(x, domain, str(path)), None if y is None else torch.from_numpy(y.astype(np.int64))


def write_items(path: Path, x: Tensor, y: Tensor | None) -> None:
    """An .npy file ``(N, *domain.shape)``; with labels an .npz of ``x`` and ``y``. Whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        if y is None:
            np.save(file, x.numpy(), allow_pickle=False)
        else:
            np.savez(file, x=x.numpy(), y=y.numpy())
    part.replace(path)


def _in_terms(array: NDArray[Any], domain: Domain, where: str) -> Tensor:
    """``(N, *domain.shape)``, also from pictures ``(N, H, W)`` and ``(N, H, W, C)``."""
    if array.dtype.kind in "biu" and domain.levels is not None:
        array = _as_planes(array, domain) if domain.on_grid else array
        if array.shape[1:] == domain.shape:
            if array.min() < 0 or array.max() >= domain.levels:
                span = f"{array.min()}..{array.max()}"
                raise DataFormatError(f"{where}: expected values 0..{domain.levels - 1} for {domain}; got {span}.")
            return torch.from_numpy(np.ascontiguousarray(array, np.int64)).to(domain.dtype)
    raise DataFormatError(f"{where}: the run models {domain}; got {array.dtype} of shape {array.shape}.")


def _as_planes(array: NDArray[Any], domain: Domain) -> NDArray[Any]:
    """With the axis of channels where the domain has it, if it stands elsewhere or nowhere."""
    channels, *size = domain.shape
    if array.shape[1:] == (*size, channels) != domain.shape:
        return np.moveaxis(array, -1, 1)
    return array[:, None] if array.shape[1:] == (*size,) and channels == 1 else array


def _recording(path: Path, domain: Domain) -> Tensor:
    """The windows of a recording, as mu-law codes; what is left at its end is named in a warning."""
    if path.stat().st_size > LARGEST:
        raise DataFormatError(f"{path}: larger than {LARGEST >> 20} MiB.")
    recording = read_recording(path.read_bytes(), str(path))
    if domain != Waveform(domain.num_dims, recording.rate) or len(recording.codes) < domain.num_dims:
        found = f"{len(recording.codes):,} samples at {recording.rate:,} Hz of 256 levels"
        raise DataFormatError(f"{path}: {found}; the run models {domain}.")
    x, _ = windows([recording.codes], domain.num_dims)
    if left := len(recording.codes) - x.numel():
        warnings.warn(f"{path}: the last {left:,} samples fill no window and are left out.", stacklevel=3)
    return x


def _pictures(folder: Path, domain: Domain) -> Tensor:
    """Pictures of exactly the domain's size; two levels stand for black and white."""
    files = [file for file in regular_files(folder) if file.suffix.lower() in ENDINGS]
    if not files:
        raise DataFormatError(f"{folder}: holds no picture; expected {', '.join(ENDINGS)}.")
    grid = picture_of(domain)
    if grid is None or grid.size[0] != grid.size[1]:
        raise DataFormatError(f"{folder}: pictures are read as squares; the run models {domain}. Give an .npy file.")
    if domain.levels not in (2, 256):
        raise DataFormatError(f"{folder}: pictures have 256 levels; the run models {domain}. Give an .npy file.")
    _, x = read_pictures(files, folder, grid.size[0], Faults())
    for file in files:
        with Image.open(file, formats=FORMATS) as picture:
            if picture.size != grid.size:
                raise DataFormatError(f"{file}: {picture.size[0]} x {picture.size[1]} pixels; the run models {domain}.")
    if len(x[0]) > grid.channels:
        raise DataFormatError(f"{folder}: holds pictures in colour; the run models {domain}.")
    x = with_channels(x, grid.channels)
    if domain.levels == 2:
        if not ((x == 0) | (x == 255)).all():
            raise DataFormatError(f"{folder}: expected black and white (0 and 255) for {domain}; got greys.")
        x = x // 255
    return x
