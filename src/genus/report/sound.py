"""Sound as one can look at it, and as a file that one can listen to."""

import io
import math
import wave

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from genus.kinds import Waveform
from genus.prob.spectrum import spectrogram

COLOURS, INK = "magma", "#1d2433"
RANGE = 70  # dB from the loudest of a picture to black
MOST = 16  # sounds of a picture, unless it is asked to have so many columns


def spectrograms(x: Tensor, domain: Waveform, columns: int | None = None) -> Figure:
    """Sounds ``(B, T)``: of each the waveform, and below it how strong each frequency is."""
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
        half = window / 8 / domain.rate * scale  # frames are centred on their times
        picture.imshow(
            decibels[n].numpy(), COLOURS, vmin=top - RANGE, vmax=top, origin="lower", aspect="auto",
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
