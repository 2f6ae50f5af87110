"""Sound as pictures and files."""

import io
import math
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from genus.kinds import Waveform
from genus.kinds.waveform import spectrograms, wav
from genus.report.pictures import pairs, sheet


def tones(domain: Waveform, count: int) -> torch.Tensor:
    t = torch.arange(domain.length) / domain.rate
    return domain.codes(torch.stack([0.5 * torch.sin(2 * math.pi * 500 * (k + 1) * t) for k in range(count)]))


def test_the_brightest_line_is_the_tone() -> None:
    domain = Waveform(2000, 8000)
    figure = spectrograms(tones(domain, 3), domain)
    pictures = [axis.get_images()[0] for axis in figure.axes if axis.get_images()]
    assert len(pictures) == 3
    for k, picture in enumerate(pictures):
        row = int(np.asarray(picture.get_array()).mean(1).argmax())
        low, high = picture.get_extent()[2:]
        assert abs(row / (len(picture.get_array()) - 1) * (high - low) - 500 * (k + 1)) < 40
        start, end = picture.get_extent()[:2]
        assert start <= 0 and end >= 250  # ms
    assert [axis.get_ylabel() for axis in figure.axes].count("Hz") == 1


@pytest.mark.parametrize(("length", "count"), [(1, 1), (2, 3), (40, 9), (1024, 40)])
def test_a_sheet_of_any_sound(length: int, count: int) -> None:
    domain = Waveform(length, 8000)
    picture = Image.open(io.BytesIO(sheet(torch.full((count, length), 128, dtype=torch.uint8), domain)))
    assert picture.width > 1000 and picture.height > 100


def test_neighbours_stand_in_rows() -> None:
    domain = Waveform(64, 8000)
    x = tones(domain, 2)
    assert Image.open(io.BytesIO(pairs(x, x[:, None].expand(-1, 3, -1), domain))).width > 1000


def test_a_wav_file_holds_the_amplitudes() -> None:
    domain = Waveform(256, 11025)
    codes = torch.arange(256, dtype=torch.uint8)
    with wave.open(io.BytesIO(wav(codes, domain))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (11025, 1, 2, 256)
        stored = np.frombuffer(file.readframes(256), "<i2")
    assert np.abs(stored / 32767 - domain.amplitudes(codes).numpy()).max() < 2e-5


def test_a_wav_file_reads_back_as_the_codes_but_for_the_finest() -> None:
    """Near zero a step of the compander is finer than 16 bits: there codes may move by one."""
    pytest.importorskip("soundfile")
    from genus.data.sound import read_recording

    domain = Waveform(256, 8000)
    codes = torch.arange(256, dtype=torch.uint8)
    again = read_recording(wav(codes, domain), "file")
    assert again.rate == 8000 and (again.codes.int() - codes.int()).abs().max() <= 1
    assert torch.equal(again.codes[:100], codes[:100]) and torch.equal(again.codes[-100:], codes[-100:])
