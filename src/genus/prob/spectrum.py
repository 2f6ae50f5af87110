"""How strong each frequency is in a sound, over time."""

import math

import torch
from torch import Tensor


def spectrogram(sound: Tensor, window: int) -> Tensor:
    """Power ``(B, window // 2 + 1, frames)`` of sounds ``(B, T)`` under a Hann window, a quarter of it on
    with each frame. A sine of amplitude 1 peaks at 0.25. Row k is k / window cycles a sample; frames are
    centred at 0, window / 4, window / 2, ... samples; beyond its ends a sound is mirrored (silent where
    it is shorter than that takes)."""
    hann = torch.hann_window(window, dtype=sound.dtype, device=sound.device)
    beyond = "reflect" if sound.shape[-1] > window // 2 else "constant"
    found = torch.stft(sound, window, max(1, window // 4), window=hann, pad_mode=beyond, return_complex=True)
    return (found.abs() / hann.sum()).square()


def mel_bands(count: int, window: int, rate: float) -> Tensor:
    """Triangles ``(count, window // 2 + 1)`` over the rows of a spectrogram, even on the mel scale
    ``2595 log10(1 + f / 700)`` from 0 to half of the rate; each sums to 1."""
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, highest, count + 2, dtype=torch.float64) / 2595) - 1)
    hertz = torch.arange(window // 2 + 1, dtype=torch.float64) * rate / window
    low, middle, high = (corners[k : k + count, None] for k in range(3))
    rise, fall = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    # narrow bands may lie between two rows: each takes at least its share of the nearest
    nearest = (hertz - middle).abs().argmin(1, keepdim=True)
    bands = torch.minimum(rise, fall).clamp(min=0).scatter_add(1, nearest, torch.full_like(middle, 1e-3))
    return (bands / bands.sum(1, keepdim=True)).float()


def mel_decibels(sound: Tensor, bands: int, rate: float) -> Tensor:
    """How loud sounds ``(B, T)`` are in each band of the mel scale, over time: ``(B, bands, frames)``, in
    decibels with a floor of -80; windows of about 30 ms."""
    window = 2 ** min(max(round(math.log2(rate * 0.03)), 4), 11)
    return 10 * (mel_bands(bands, window, rate) @ spectrogram(sound, window) + 1e-8).log10()
