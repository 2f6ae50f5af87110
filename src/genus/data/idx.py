"""IDX, the format of MNIST: four bytes of magic, the sizes of the axes, the numbers."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from genus.data.guard import LARGEST, read_up_to, refuse_bomb
from genus.errors import DataFormatError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not, in native byte order.

    Never inflates more than the header declares, nor that if it is beyond reason for the size
    of the file; a header that disagrees with the file is a `DataFormatError`.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            return _read(file, path, packed)  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error) as error:
        raise DataFormatError(f"{path}: cannot be read ({error}).") from None


def _read(file: BinaryIO, path: Path, packed: bool) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not 1 <= head[3] <= 5:
        raise DataFormatError(f"{path}: not an IDX file, its first bytes are {head.hex(' ') or 'missing'}.")
    dtype, rank = np.dtype(TYPES[head[2]]), head[3]
    axes = file.read(4 * rank)
    if len(axes) < 4 * rank:
        raise DataFormatError(f"{path}: the IDX header ends early.")
    shape = struct.unpack(f">{rank}I", axes)
    declared = math.prod(shape) * dtype.itemsize
    if declared > LARGEST:
        raise DataFormatError(f"{path}: the IDX header declares {declared} bytes, more than {LARGEST}.")
    if packed:
        refuse_bomb(declared, path.stat().st_size, str(path))
    content = read_up_to(file, declared + 1)
    if len(content) != declared:
        found = f"{len(content)}" if len(content) < declared else "more"
        raise DataFormatError(f"{path}: the IDX header declares {shape}, {declared} bytes; the file holds {found}.")
    if not declared:
        return np.zeros(shape, dtype.newbyteorder("="))
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
