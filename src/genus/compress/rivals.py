"""What others make of the same data: raw, xz, and the formats made for such data. Each rival is given its best case.

xz -9 gets all raw bytes as one file. Data of two levels are raw as bits, and xz gets them as bytes and as bits; of
`xz -9` and `xz -9e` the smaller counts. Which formats are made for a kind, its domain knows (`Domain.rivals`).
"""

import lzma
import math

import numpy as np
from torch import Tensor

from genus.kinds import Domain


def rivals(x: Tensor, domain: Domain) -> dict[str, int]:
    """Bytes that others take for the same integers, by name; those that cannot hold them are left out."""
    bits = max(1, ((domain.levels or 1) - 1).bit_length())
    content = x.contiguous().numpy()
    packed = np.packbits(content) if domain.levels == 2 else content
    found = {f"raw, {bits} bit{'s' * (bits > 1)} an entry": math.ceil(x.numel() * bits / 8), **domain.rivals(x)}
    presets = (9, 9 | lzma.PRESET_EXTREME)
    found["xz -9"] = min(len(lzma.compress(part.tobytes(), preset=p)) for part in (content, packed) for p in presets)
    return found
