"""A folder of pictures: PNG, JPEG or WebP, cut to the central square and resized."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from genus.errors import DataFormatError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 64_000_000
LARGEST = 256 << 20  # bytes of a picture file
USUAL_SIZE = 64


def read_pictures(paths: list[Path], size: int | None) -> torch.Tensor:
    """``(N, C, size, size)`` uint8; C = 1 if every picture is grey, else 3.

    size: side in pixels; by default that of the first picture, at most 64. Transparent
    pixels are laid on white.
    """
    if size is None:
        size = min(*_open(paths[0]).size, USUAL_SIZE)
    found = [_square(_open(path), size) for path in paths]
    channels = max(picture.shape[0] for picture in found)
    return torch.from_numpy(np.stack([np.broadcast_to(picture, (channels, size, size)) for picture in found]))


def _open(path: Path) -> Image.Image:
    """A picture as L or RGB, decoded in full and upright."""
    try:
        if path.stat().st_size > LARGEST:
            raise DataFormatError(f"{path}: larger than {LARGEST >> 20} MiB.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken metadata; what matters is checked below
            with Image.open(path, formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise DataFormatError(f"{path}: {width} x {height} is more than 64 million pixels, refused.")
                if picture.mode[0] in "IF":
                    raise DataFormatError(f"{path}: expected 8 bits a channel; got mode {picture.mode}.")
                picture.load()
                upright = ImageOps.exif_transpose(picture)
        if upright.has_transparency_data:
            layer = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            return upright.convert("L" if picture.mode in ("LA", "1", "L") else "RGB")
        return upright.convert("L" if upright.mode in ("1", "L") else "RGB")
    except DataFormatError:
        raise
    except Exception as error:  # decoders of foreign bytes may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataFormatError(f"{path}: not a readable PNG, JPEG or WebP picture ({reason}).") from None


def _square(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """``(C, size, size)``."""
    array = np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC))
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
