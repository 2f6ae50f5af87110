"""A folder of pictures: PNG, JPEG or WebP, cut to the central square and resized."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from genus.data.guard import Faults, refuse_stray
from genus.errors import DataFormatError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 64_000_000
MOST_DECODED = 20 * MOST_PIXELS  # pixels over all the scans of a JPEG
LARGEST = 256 << 20  # bytes of a picture file
USUAL_SIZE = 64


def read_pictures(paths: list[Path], folder: Path, size: int | None, faults: Faults) -> tuple[list[int], torch.Tensor]:
    """Which pictures could be read, and those as ``(N, C, size, size)`` uint8; C = 1 if all are grey, else 3.

    size: side in pixels; by default that of the first picture, at most 64. Transparent
    pixels are laid on white.
    """
    kept, found = [], []
    for k, path in enumerate(paths):
        try:
            refuse_stray(path, folder)
            picture = _open(path)
        except DataFormatError as error:
            faults.note(error)
            continue
        size = size or min(*picture.size, USUAL_SIZE)
        kept.append(k)
        found.append(_square(picture, size))
    channels, side = max((len(square) for square in found), default=1), size or 1
    x = np.empty((len(found), channels, side, side), np.uint8)
    for k, square in enumerate(found):
        x[k] = square
    return kept, torch.from_numpy(x)


def _open(path: Path) -> Image.Image:
    """A picture as L or RGB, decoded in full and upright."""
    try:
        if path.stat().st_size > LARGEST:
            raise DataFormatError(f"{path}: larger than {LARGEST >> 20} MiB.")
        _refuse_canvas(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken metadata; what matters is checked below
            with Image.open(path, formats=FORMATS) as picture:
                _refuse_pixels(*picture.size, path)
                if picture.mode[0] in "IF":
                    raise DataFormatError(f"{path}: expected 8 bits a channel; got mode {picture.mode}.")
                if picture.format != "PNG":
                    _refuse_scans(path, picture.size)
                picture.load()
                ImageOps.exif_transpose(picture, in_place=True)
        grey = picture.mode in ("LA", "1", "L")
        if picture.has_transparency_data:
            layer = picture if picture.mode == "RGBA" else picture.convert("RGBA")
            upright = Image.new("RGB", layer.size, "white")
            upright.paste(layer, mask=layer)
            return upright.convert("L") if grey else upright
        mode = "L" if grey else "RGB"
        return picture if picture.mode == mode else picture.convert(mode)
    except DataFormatError:
        raise
    except Exception as error:  # decoders of foreign bytes may raise anything
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise DataFormatError(f"{path}: not a readable PNG, JPEG or WebP picture ({reason}).") from None


def _refuse_pixels(width: int, height: int, path: Path) -> None:
    if width * height > MOST_PIXELS:
        raise DataFormatError(f"{path}: {width} x {height} is more than 64 million pixels, refused.")


def _refuse_canvas(path: Path) -> None:
    """The size that a WebP file declares (RFC 9649, section 2.7): its decoder takes memory as soon as it is opened."""
    with path.open("rb") as file:
        head = file.read(30)
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 30:
        width, height = (int.from_bytes(head[k : k + 3], "little") + 1 for k in (24, 27))
        _refuse_pixels(width, height, path)


def _refuse_scans(path: Path, size: tuple[int, int]) -> None:
    """A progressive JPEG is decoded once for every scan, and a scan may take a few bytes."""
    scans = path.read_bytes().count(b"\xff\xda")
    if scans * size[0] * size[1] > MOST_DECODED:
        raise DataFormatError(f"{path}: {scans} scans of {size[0]} x {size[1]} pixels, refused.")


def _square(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """``(C, size, size)``."""
    array = np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC))
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
