import math

import pytest
import torch

from genus.prob.spectrum import mel_bands, spectrogram


def test_a_sine_is_where_and_as_strong_as_it_is() -> None:
    t = torch.arange(4000) / 8000
    power = spectrogram(torch.stack([torch.sin(2 * math.pi * 1000 * t), 0.1 * torch.sin(2 * math.pi * 2000 * t)]), 256)
    assert power.shape == (2, 129, 63)
    middle = power[:, :, 30]
    assert middle.argmax(1).tolist() == [32, 64]  # k * 8000 / 256 Hz
    torch.testing.assert_close(middle.amax(1), torch.tensor([0.25, 0.0025]), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("count", "window", "rate"), [(24, 128, 4000), (24, 256, 8000), (40, 32, 8000)])
def test_bands_cover_the_spectrum(count: int, window: int, rate: float) -> None:
    bands = mel_bands(count, window, rate)
    assert bands.shape == (count, window // 2 + 1) and (bands >= 0).all()
    torch.testing.assert_close(bands.sum(1), torch.ones(count))
    centre = (bands * torch.arange(window // 2 + 1)).sum(1)
    assert (centre.diff() >= 0).all() and centre[0] < 0.1 * window / 2 and centre[-1] > 0.85 * window / 2


def test_a_sound_shorter_than_a_window_has_a_spectrum_too() -> None:
    assert spectrogram(torch.ones(1, 2), 32).isfinite().all()
