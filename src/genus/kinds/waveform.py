"""Sound, as the codes of a mu-law compander."""

import io
import math
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from genus.kinds._domain import SHEET, Discrete, Reading, Sheet, root_mean_square
from genus.prob.spectrum import mel_decibels, spectrogram

if TYPE_CHECKING:
    import PIL.Image
    from matplotlib.figure import Figure

SEEN = 32, 32  # bands and times by which a classifier judges a sound
HEARD = 24, 4  # bands of the mel scale and parts of the time by which sounds are compared
RANGE = 70  # dB from the loudest of a picture to black
MOST = 16  # sounds of a picture, unless it is asked to have so many columns


@dataclass(frozen=True)
class Waveform(Discrete):
    """Sound: ``length`` samples, ``rate`` of them a second, as codes ``0 .. levels-1`` of a mu-law
    compander (ITU-T G.711's curve; fine steps for quiet samples, coarse ones for loud).

    The codes are the data: a likelihood is of codes, and bits/dim are bits a sample.
    """

    kind: ClassVar[str] = "waveform"
    plural: ClassVar[str] = "sound"
    options = frozenset({"length"})
    read_as: ClassVar[Reading] = "planes"
    features_name = "log-mel-"
    one_unit = False

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

    def draw(self, x: Tensor, sheet: Sheet = SHEET) -> "PIL.Image.Image":
        """Of each sound its wave, and below it its spectrum over time."""
        from genus.drawing import rendered

        return rendered(spectrograms(x, self, sheet.columns, sheet.captions))

    @property
    def planes(self) -> tuple[int, tuple[int, ...]]:
        return 1, SEEN

    def as_planes(self, x: Tensor) -> Tensor:
        """As pictures: decibels over -50, in units of 20, in bands of the mel scale over time."""
        decibels = mel_decibels(self.amplitudes(x), SEEN[0], self.rate)
        return (adaptive_avg_pool2d(decibels, SEEN).unsqueeze(1) + 50) / 20

    def describe(self, x: Tensor) -> Tensor:
        """What a sound is like: decibels in bands of the mel scale, their mean in each of some parts of the time, and
        their deviation over the whole of it."""
        found, (bands, times) = [], HEARD
        for part in x.split(256):
            decibels = mel_decibels(self.amplitudes(part), bands, self.rate)
            means = adaptive_avg_pool1d(decibels, times)
            found.append(torch.cat([means.flatten(1), decibels.std(-1, correction=0)], 1).double())
        return torch.cat(found)

    def ending(self, count: int) -> str:
        return ".wav" if count == 1 else ""

    def file(self, x: Tensor, labels: Sequence[str] = ()) -> bytes:
        return wav(x[0], self)

    def error(self, x: Tensor, again: Tensor) -> str:
        return root_mean_square(self.amplitudes(x), self.amplitudes(again), " of an amplitude of 1")

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


def spectrograms(x: Tensor, domain: Waveform, columns: int | None = None, captions: Sequence[str] = ()) -> "Figure":
    """Sounds ``(B, T)``: of each the waveform, and below it how strong each frequency is."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from genus.drawing import INK, escape

    shown = domain.amplitudes(x[: MOST if columns is None else 40].cpu())
    columns = min(columns or 4, len(shown))
    rows = math.ceil(len(shown) / columns)
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, hspace=0.02, wspace=0.02)
    figure = Figure((8.8, 1.55 * rows + 0.45), layout=tight)
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[1, 2] * rows)
    window = window_of(domain.length)
    seconds, high = domain.length / domain.rate, domain.rate / 2
    power = spectrogram(shown, window)
    decibels = 10 * (power + 1e-10).log10()
    top = float(decibels.max())
    unit, scale = ("s", 1.0) if seconds >= 2 else ("ms", 1000.0)
    for axis in axes.ravel():
        axis.tick_params(labelsize=6, colors="#5b6577", length=2, pad=1)
        for spine in axis.spines.values():
            spine.set_visible(False)
    for n in range(rows * columns):
        wavy, picture = axes[2 * (n // columns), n % columns], axes[2 * (n // columns) + 1, n % columns]
        if n >= len(shown):
            wavy.set_axis_off()
            picture.set_axis_off()
            continue
        time = np.arange(domain.length) / domain.rate * scale
        wavy.plot(time, shown[n].numpy(), color=INK, linewidth=0.4)
        wavy.set(xlim=(0, seconds * scale), ylim=(-1, 1), xticks=[], yticks=[])
        if captions:
            wavy.set_title(escape(captions[n]), fontsize=7, color=INK, pad=1)
        half = window / 8 / domain.rate * scale  # frames are centred on their times
        picture.imshow(
            decibels[n].numpy(), "magma", vmin=top - RANGE, vmax=top, origin="lower", aspect="auto",
            extent=(-half, (power.shape[-1] - 1) * 2 * half + half, 0, high), interpolation="nearest",
        )  # fmt: skip
        picture.set_xlim(0, seconds * scale)
        last, first = n + columns >= len(shown), n % columns == 0
        if not last:
            picture.set_xticks([])
        if not first:
            picture.set_yticks([])
        if first:
            picture.set_ylabel("Hz", fontsize=6, color="#5b6577", labelpad=1)
        if last:
            picture.set_xlabel(unit, fontsize=6, color="#5b6577", labelpad=1)
    return figure


def window_of(length: int) -> int:
    """A power of two of samples, from 32 to 512: about a sixteenth of the sound, so that both axes have detail."""
    return 2 ** min(max(round(math.log2(max(length, 1) / 8)), 5), 9)


def wav(codes: Tensor, domain: Waveform) -> bytes:
    """A sound ``(T,)`` as a WAV file of 16 bits a sample."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(domain.rate)
        file.writeframes(
            (domain.amplitudes(codes.cpu()) * 32767).round().to(torch.int16).numpy().astype("<i2").tobytes()
        )
    return out.getvalue()
