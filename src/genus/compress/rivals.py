"""What others make of the same data: raw, PNG, WebP and xz. Each rival is given its best case.

Pictures go to PNG and WebP twice: a file for each, summed, which pays for a header and an empty
dictionary each time; and all on one sheet, tiled near to a square, where the coder can look across
pictures. xz -9 gets all raw bytes as one file. Sound goes to FLAC as one file, its windows one after
the other: the same codes as samples of 8 bits, and (what FLAC is made for, though it then has to keep
more) the amplitudes that they stand for as samples of 16 bits. Two-level pictures are raw as bits, PNG of one bit
a pixel, and xz gets them as bytes and as bits; of `xz -9` and `xz -9e` the smaller counts.
"""

import io
import lzma
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from genus.kinds import Discrete, Grid, Waveform

LARGEST_SIDE = 16383  # of a WebP picture


def rivals(x: Tensor, domain: Discrete) -> dict[str, int]:
    """Bytes that others take for the same data, by name; those that cannot hold them are left out."""
    bits = max(1, (domain.levels - 1).bit_length())
    content = x.contiguous().numpy()
    packed = np.packbits(content) if domain.levels == 2 else content
    found = {f"raw, {bits} bit{'s' * (bits > 1)} an entry": math.ceil(x.numel() * bits / 8)}
    if isinstance(domain, Grid) and len(domain.size) == 2 and domain.channels in (1, 3) and domain.levels <= 256:
        pictures = np.moveaxis(content, 1, -1) * (255 if domain.levels == 2 else 1)
        for name, encode in {"PNG": _png, **({"WebP lossless": _webp} if features.check("webp") else {})}.items():
            two = domain.levels == 2
            sheet = _sheet(pictures)
            found[f"{name}, a file each"] = sum(encode(picture, two) for picture in pictures)
            if max(sheet.shape) <= LARGEST_SIDE:
                found[f"{name}, one sheet"] = encode(sheet, two)
    if isinstance(domain, Waveform) and domain.levels <= 256:
        found |= _flac(x, domain)
    presets = (9, 9 | lzma.PRESET_EXTREME)
    found["xz -9"] = min(len(lzma.compress(part.tobytes(), preset=p)) for part in (content, packed) for p in presets)
    return found


def _flac(x: Tensor, domain: Waveform) -> dict[str, int]:
    """FLAC at its highest level; nothing where soundfile is not installed."""
    try:
        import soundfile
    except (ImportError, OSError):
        return {}
    codes = x.flatten().numpy().astype(np.int16)
    samples = {
        "PCM_S8": (codes - domain.levels // 2) << 8,  # 8 bits lie in the upper half of 16
        "PCM_16": (domain.amplitudes(x.flatten()) * 32767).round().numpy().astype(np.int16),
    }
    names = {"PCM_S8": "FLAC, the codes, 8 bits", "PCM_16": "FLAC, the amplitudes, 16 bits"}
    found = {}
    for kind, data in samples.items():
        out = io.BytesIO()
        soundfile.write(out, data, domain.rate, kind, format="FLAC", compression_level=1.0)
        found[names[kind]] = len(out.getbuffer())
    return found


def _sheet(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(N, H, W, C)`` tiled into one picture near to a square, black where none is left."""
    count, height, width, channels = pictures.shape
    columns = max(1, round(math.sqrt(count * height / width)))
    rows = math.ceil(count / columns)
    tiles = np.zeros((rows * columns, height, width, channels), np.uint8)
    tiles[:count] = pictures
    tiled = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return tiled.reshape(rows * height, columns * width, channels)


def _image(picture: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def _png(picture: NDArray[np.uint8], two_levels: bool) -> int:
    out, image = io.BytesIO(), _image(picture)
    (image.convert("1") if two_levels and image.mode == "L" else image).save(out, "PNG", optimize=True)
    return len(out.getbuffer())


def _webp(picture: NDArray[np.uint8], two_levels: bool) -> int:
    out = io.BytesIO()
    _image(picture).save(out, "WEBP", lossless=True, quality=100, method=6)
    return len(out.getbuffer())
