"""Sound, as the codes of a mu-law compander."""

import io
import math
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from genus.kinds._domain import Discrete, Reading


@dataclass(frozen=True)
class Waveform(Discrete):
    """Sound: ``length`` samples, ``rate`` of them a second, as codes ``0 .. levels-1`` of a mu-law
    compander (ITU-T G.711's curve; fine steps for quiet samples, coarse ones for loud).

    The codes are the data: a likelihood is of codes, and bits/dim are bits a sample.
    """

    kind: ClassVar[str] = "waveform"
    plural: ClassVar[str] = "sound"
    read_as: ClassVar[Reading] = "planes"

    length: int
    rate: int
    levels: int = field(default=256)

    def __post_init__(self) -> None:
        if self.length < 1 or self.rate < 1 or self.levels < 2:
            raise ValueError(f"a waveform needs length >= 1, rate >= 1 and levels >= 2; got {self!r}.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def codes(self, amplitude: Tensor) -> Tensor:
        """Amplitudes in [-1, 1] (what lies beyond is clipped) as codes, of any shape:
        ``sign(a) ln(1 + mu |a|) / ln(1 + mu)`` with ``mu = levels - 1``, rounded."""
        mu = self.levels - 1
        a = amplitude.double().clamp(-1, 1)
        curve = a.sign() * (mu * a.abs()).log1p() / math.log1p(mu)
        return ((curve + 1) / 2 * mu).round().to(self.dtype)

    def amplitudes(self, codes: Tensor) -> Tensor:
        """Codes as amplitudes in [-1, 1], float32: the inverse of the curve."""
        mu = self.levels - 1
        curve = 2 * codes.double() / mu - 1
        return (curve.sign() * torch.expm1(curve.abs() * math.log1p(mu)) / mu).float()

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return cls(2, 8000, 6), cls(40, 8000)  # the first has 36 states

    def rivals(self, x: Tensor) -> dict[str, int]:
        """FLAC at its highest level as one file, the sounds one after the other: the same codes as samples of 8 bits,
        and (what FLAC is made for, though it then has to keep more) the amplitudes that they stand for, of 16 bits."""
        if self.levels > 256:
            return {}
        try:
            import soundfile
        except (ImportError, OSError):
            return {}
        codes = x.flatten().numpy().astype(np.int16)
        samples = {
            "PCM_S8": (codes - self.levels // 2) << 8,  # 8 bits lie in the upper half of 16
            "PCM_16": (self.amplitudes(x.flatten()) * 32767).round().numpy().astype(np.int16),
        }
        names = {"PCM_S8": "FLAC, the codes, 8 bits", "PCM_16": "FLAC, the amplitudes, 16 bits"}
        found = {}
        for kind, data in samples.items():
            out = io.BytesIO()
            soundfile.write(out, data, self.rate, kind, format="FLAC", compression_level=1.0)
            found[names[kind]] = len(out.getbuffer())
        return found

    def __str__(self) -> str:
        return f"sound, {self.length} samples at {self.rate} Hz, {self.levels} levels"
