"""Notes that are what their labels say."""

import pytest
import torch

from genus.data import DataOptions, list_sources, open_source, tones
from genus.errors import SettingsError
from genus.kinds import Waveform
from genus.prob.spectrum import spectrogram


@pytest.fixture(scope="module")
def source():
    return open_source("tones")


def test_they_are_many_and_even(source) -> None:
    assert source.domain == Waveform(1024, 4000)
    assert [entry.domain for entry in list_sources() if entry.name == "tones"] == ["sound, 1024 samples at 4 kHz"]
    assert [len(split) for split in source.splits.values()] == [3600, 144, 360]
    assert source.condition.names == tones.NOTES and len(tones.NOTES) == 36
    assert (source.train.condition.bincount() == 100).all()
    assert len(source.train.x.unique(dim=0)) == 3600
    assert not any((source.train.x == datum).all(1).any() for datum in source.test.x[:36])
    loudest = (source.domain.amplitudes(source.train.x).abs()).amax(1)
    assert loudest.min() > 0.25 and loudest.max() < 0.85  # nothing is silent or clipped


def test_note_i_is_a_function_of_i(source) -> None:
    few = open_source("tones", DataOptions(limit=40))
    assert few.name == "tones (first 40 of each split)"
    assert torch.equal(few.train.x, source.train.x[:40])
    assert open_source("tones").fingerprint == source.fingerprint
    longer = open_source("tones", DataOptions(limit=36, length=2048))
    assert longer.domain == Waveform(2048, 4000) and longer.name.startswith("tones (2048 samples")
    with pytest.raises(SettingsError, match="at most 8,192"):
        open_source("tones", DataOptions(length=10_000))


def test_their_pitch_is_right(source) -> None:
    """By the spectrum over the whole note, 3.9 Hz a line: a line within 20 cents is the strongest below 800 Hz."""
    x = source.domain.amplitudes(source.test.x).double()
    power = torch.fft.rfft(x * torch.hann_window(1024, dtype=torch.float64), 16 * 1024).abs()[:, : 16 * 205]
    found = power.argmax(1) * 4000 / (16 * 1024)
    expected = torch.from_numpy(tones.frequency(source.test.attributes["pitch"].numpy()))
    cents = 1200 * (found / expected).log2()
    assert (cents.abs() < 25).double().mean() > 0.95


def test_timbres_differ_as_they_should(source) -> None:
    x, timbre = source.domain.amplitudes(source.train.x), source.train.attributes["timbre"]
    power = spectrogram(x, 128)
    later = power[:, :, -8:].mean((1, 2)) / power[:, :, 4:12].mean((1, 2))
    plucked, blown, struck = (later[timbre == k].median() for k in range(3))
    assert blown > 1.0 > plucked and struck < 0.8  # one swells, two die away
    quiet = power[:, 8:, 8:].quantile(0.1, 1).mean(1) / power.mean((1, 2))  # between the harmonics
    assert quiet[timbre == 1].median() > 2 * quiet[timbre == 2].median()  # breath
