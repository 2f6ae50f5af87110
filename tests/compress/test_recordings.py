"""Recordings as items to compress, and FLAC as a rival."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from genus.compress import rivals as rivals_
from genus.compress.items import read_items
from genus.compress.rivals import rivals
from genus.errors import DataFormatError
from genus.kinds import Grid, Tokens, Waveform

soundfile = pytest.importorskip("soundfile")
SOUND = Waveform(500, 8000)


def recording(path: Path, length: int = 1200, rate: int = 8000) -> Path:
    soundfile.write(path, 0.5 * np.sin(np.arange(length) / 9), rate, "PCM_16")
    return path


def test_a_recording_is_its_windows_and_what_is_left_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the last 200 samples fill no window"):
        x, labels = read_items(recording(tmp_path / "a.wav"), SOUND)
    assert labels is None and x.shape == (2, 500)
    whole, _ = read_items(recording(tmp_path / "b.flac", 1000), SOUND)
    assert (whole.int() - x.int()).abs().max() <= 1  # two encoders round a sample of 16 bits each in its way


def test_arrays_of_codes_and_tokens_are_items_too(tmp_path: Path) -> None:
    codes = np.arange(20).reshape(4, 5)
    np.save(tmp_path / "a.npy", codes)
    for domain in (Waveform(5, 8000), Tokens(5, 20)):
        x, _ = read_items(tmp_path / "a.npy", domain)
        assert x.dtype == torch.uint8 and x.tolist() == codes.tolist()
    with pytest.raises(DataFormatError, match=r"expected values 0\.\.18"):
        read_items(tmp_path / "a.npy", Tokens(5, 19))


def test_recordings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for path in (recording(tmp_path / "a.wav", 400), recording(tmp_path / "b.wav", 1000, 16000)):
        with pytest.raises(DataFormatError, match=r"samples at .* the run models sound"):
            read_items(path, SOUND)
    with pytest.raises(DataFormatError, match="the run models grid"):
        read_items(recording(tmp_path / "c.wav"), Grid(1, (5, 5)))


def test_flac_holds_the_very_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    x = SOUND.codes(0.5 * torch.sin(torch.arange(2000.0) / 9)).view(4, 500)
    written: dict[str, np.ndarray] = {}
    write = soundfile.write

    def spy(out: io.BytesIO, data: np.ndarray, *more: object, **named: object) -> None:
        write(out, data, *more, **named)
        written[str(more[1])] = soundfile.read(io.BytesIO(out.getvalue()), dtype="int16")[0]

    monkeypatch.setattr(soundfile, "write", spy)
    found = rivals(x, SOUND)
    assert list(found) == [
        "raw, 8 bits an entry", "FLAC, the codes, 8 bits", "FLAC, the amplitudes, 16 bits", "xz -9",
    ]  # fmt: skip
    assert np.array_equal((written["PCM_S8"] >> 8) + 128, x.flatten().numpy())
    amplitudes = torch.from_numpy(written["PCM_16"] / 32767)
    assert (SOUND.codes(amplitudes).int() - x.flatten().int()).abs().max() <= 1
    assert found["FLAC, the codes, 8 bits"] < found["raw, 8 bits an entry"]


def test_without_soundfile_flac_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert list(rivals_.rivals(torch.zeros(2, 500, dtype=torch.uint8), SOUND)) == ["raw, 8 bits an entry", "xz -9"]
