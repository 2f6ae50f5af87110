"""Recordings: what is read, how it is cut and split, and what is refused."""

import io
import lzma
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genus.data import DataOptions, open_source, sound
from genus.data.sound import read_recording, windows
from genus.errors import DataFormatError, SettingsError
from genus.kinds import Waveform

soundfile = pytest.importorskip("soundfile")
HOME = Path(os.environ.get("GENUS_DATA", "/nonexistent"))


def encoded(samples: np.ndarray, rate: int = 8000, kind: str = "WAV", subtype: str | None = "PCM_16") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, subtype, format=kind)
    return out.getvalue()


def tune(length: int, seed: int = 0) -> np.ndarray:
    return 0.6 * np.sin(np.arange(length) * (0.1 + 0.03 * seed))


def folder_of(path: Path, lengths: dict[str, int], rate: int = 8000) -> Path:
    for seed, (name, length) in enumerate(lengths.items()):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        kind = Path(name).suffix[1:].upper()
        (path / name).write_bytes(encoded(tune(length, seed), rate, kind))
    return path


@pytest.mark.parametrize(("kind", "subtype", "step"), [
    ("WAV", "PCM_16", 2**-15), ("WAV", "PCM_24", 2**-23), ("WAV", "FLOAT", 2**-23), ("WAV", "PCM_U8", 2**-7),
    ("WAVEX", "PCM_16", 2**-15), ("FLAC", "PCM_16", 2**-15), ("FLAC", "PCM_S8", 2**-7),
])  # fmt: skip
def test_every_kind_of_file_gives_the_codes_of_its_samples(kind: str, subtype: str, step: float) -> None:
    samples = tune(3000)
    found = read_recording(encoded(samples, 11025, kind, subtype), "file")
    domain = Waveform(3000, 11025)
    assert found.rate == 11025 and found.codes.dtype == torch.uint8
    stored = torch.from_numpy(samples)
    low, high = domain.codes(stored - 1.5 * step).int(), domain.codes(stored + 1.5 * step).int()
    assert ((low <= found.codes) & (found.codes <= high)).all()


def test_channels_are_averaged() -> None:
    left, right = tune(500), tune(500, 3)
    both = read_recording(encoded(np.stack([left, right], 1), subtype="FLOAT"), "file")
    one = read_recording(encoded((left + right) / 2, subtype="FLOAT"), "file")
    assert (both.codes.int() - one.codes.int()).abs().max() <= 1


def test_a_long_file_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(tune(5000))
    whole = read_recording(content, "file")
    monkeypatch.setattr(sound, "BLOCK", 77)
    assert torch.equal(read_recording(content, "file").codes, whole.codes)


BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a readable WAV"),
    "text": (b"this is no sound" * 50, "not a readable WAV"),
    "a header alone": (encoded(tune(400))[:20], "cut off"),
    "cut WAV": (encoded(tune(4000))[:-1000], "cut off"),
    "cut FLAC": (encoded(tune(40_000), kind="FLAC")[:-5000], "cut off|not a readable"),
    "zero length": (encoded(np.zeros(0)), "holds no samples"),
    "NaN": (encoded(np.array([0, np.nan, 0.5]), subtype="FLOAT"), "NaN or infinity"),
    "infinity": (encoded(np.array([0, np.inf, 0.5]), subtype="DOUBLE"), "NaN or infinity"),
    "not scaled": (encoded(1000 * tune(50), subtype="FLOAT"), "amplitudes in -1..1; got"),
    "another format": (encoded(tune(50), kind="AU"), "expected WAV or FLAC; got AU"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_refused_by_name(name: str, tmp_path: Path) -> None:
    content, reason = BROKEN[name]
    folder = folder_of(tmp_path, {f"good{k}.wav": 1200 for k in range(30)})
    (folder / "bad.wav").write_bytes(content)
    with pytest.raises(DataFormatError, match=rf"bad\.wav: .*({reason})"):
        open_source(str(folder))
    source = open_source(str(folder), DataOptions(skip_bad=True))
    assert sum(map(len, source.splits.values())) == 30 and "bad.wav" in source.skipped[1]


def test_mutated_files_are_read_or_refused() -> None:
    rng, outcomes = np.random.default_rng(0), []
    for kind in ("WAV", "FLAC"):
        good = encoded(tune(2000), kind=kind)
        for _ in range(60):
            content = bytearray(good[: rng.integers(1, len(good) + 1)] if rng.random() < 0.3 else good)
            for place in rng.integers(0, min(len(content), 200), 4):
                content[place] = rng.integers(256)
            try:
                outcomes.append(len(read_recording(bytes(content), "file", most=100_000).codes) > 0)
            except DataFormatError as error:
                assert str(error).startswith("file: ") and "\n" not in str(error)
                outcomes.append(False)
    assert 20 < sum(outcomes) < 110


def test_a_file_that_claims_hours_is_refused_before_it_is_read() -> None:
    silence = encoded(np.zeros(300_000), kind="FLAC")  # 20 kB or less
    with pytest.raises(DataFormatError, match=r"300,000 samples are more than 100,000"):
        read_recording(silence, "file", most=100_000)


def test_rates_must_agree(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {f"a{k}.wav": 1200 for k in range(4)})
    folder_of(tmp_path, {"b.wav": 1200}, rate=16000)
    with pytest.raises(DataFormatError, match=r"b\.wav: 16,000 samples a second where the files before it have 8,000"):
        open_source(str(folder))
    assert open_source(str(folder), DataOptions(skip_bad=True)).domain == Waveform(1024, 8000)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {f"a{k}.wav": 1200 for k in range(4)})
    folder_of(tmp_path, {"secret.wav": 1200})
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(DataFormatError, match=r"leads out of the folder"):
        open_source(str(folder))


def test_windows_are_consecutive_and_the_rest_is_left_out() -> None:
    x, of = windows([torch.arange(10), torch.arange(3), torch.arange(100, 108)], 4)
    assert x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [100, 101, 102, 103], [104, 105, 106, 107]]
    assert of.tolist() == [0, 0, 2, 2]


def test_splits_are_by_recording_and_folders_are_labels(tmp_path: Path) -> None:
    lengths = {f"{'dog' if k % 2 else 'cat'}/{k}.{'flac' if k % 3 else 'wav'}": 250 + 100 * (k % 2) for k in range(30)}
    lengths["cat/short.wav"] = 99
    source = open_source(str(folder_of(tmp_path / "pets", lengths)), DataOptions(length=100))
    assert source.domain == Waveform(100, 8000) and source.name == "pets (windows of 100)"
    assert source.condition is not None and source.condition.names == ("cat", "dog")
    assert "31 recordings" in source.notes and "1 are shorter" in source.notes
    assert sum(map(len, source.splits.values())) == 15 * 2 + 15 * 3
    kinds = [(n, Path(name).suffix[1:].upper()) for name, n in lengths.items()]
    whole = {k: read_recording(encoded(tune(n, k), kind=kind), "file").codes for k, (n, kind) in enumerate(kinds)}
    home: dict[int, set[str]] = {}
    for part, split in source.splits.items():
        for datum in split.x:
            [k] = [k for k, codes in whole.items() if any((codes[s : s + 100] == datum).all() for s in (0, 100, 200)
                                                          if len(codes) >= s + 100)]  # fmt: skip
            home.setdefault(k, set()).add(part)
    assert len(home) == 30 and all(len(parts) == 1 for parts in home.values())


def test_given_splits_are_obeyed(tmp_path: Path) -> None:
    lengths = {f"{part}/{k}.wav": 300 for part in ("train", "val", "test") for k in range(2)}
    source = open_source(str(folder_of(tmp_path, lengths)), DataOptions(length=300))
    assert [len(split) for split in source.splits.values()] == [2, 2, 2]


def test_options_and_mixtures_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {f"{k}.wav": 300 for k in range(4)})
    with pytest.raises(DataFormatError, match=r"no recording of 1,024 samples \(its longest has 300\).*--length"):
        open_source(str(folder))
    with pytest.raises(SettingsError, match=r"'size' does not fit sound"):
        open_source(str(folder), DataOptions(length=100, size=8))
    with pytest.raises(SettingsError, match=r"'length' does not fit"):
        open_source("digits", DataOptions(length=100))
    (folder / "cover.png").write_bytes(b"")
    with pytest.raises(DataFormatError, match=r"both recordings .* and cover.png"):
        open_source(str(folder))


def test_without_soundfile_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(SettingsError, match=r"pip install genus\[audio\]"):
        read_recording(b"", "file")


# --- fsdd -------------------------------------------------------------------------------------


def packed(path: Path, files: dict[str, bytes]) -> Path:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as folder:
        for name, content in files.items():
            member = tarfile.TarInfo(f"recordings/{name}")
            member.size = len(content)
            folder.addfile(member, io.BytesIO(content))
    (path / "fsdd").mkdir(exist_ok=True)
    (path / sound.FSDD_PACKED).write_bytes(lzma.compress(out.getvalue()))
    return path


def few() -> dict[str, bytes]:
    return {
        f"{d}_{s}_{i}.wav": encoded(tune(1100, d + i)) for d in (3, 7) for s in ("ann", "bob") for i in (1, 6, 20, 21)
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    return tmp_path


def test_fsdd_is_split_by_the_number_of_the_recording(home: Path) -> None:
    packed(home, {**few(), "README.md": b"no sound", "../../out.wav": b"no member of the set"})
    source = open_source("fsdd", DataOptions(length=500))
    assert [len(split) for split in source.splits.values()] == [16, 8, 8]
    numbers = {part: split.attributes["recording"].unique().tolist() for part, split in source.splits.items()}
    assert numbers == {"train": [20, 21], "validation": [6], "test": [1]}
    assert source.attributes["speaker"] == ("ann", "bob")
    assert source.test.condition is not None and source.test.condition.tolist() == [3] * 4 + [7] * 4
    assert source.test.attributes["speaker"].tolist() == [0, 0, 1, 1] * 2
    (home / "fsdd" / "recordings").mkdir()
    for name, content in few().items():
        (home / "fsdd" / "recordings" / name).write_bytes(content)
    (home / sound.FSDD_PACKED).unlink()
    assert open_source("fsdd", DataOptions(length=500)).fingerprint == source.fingerprint  # a clone serves as well


def test_fsdd_that_is_missing_damaged_or_a_bomb_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataFormatError, match=r"fsdd: neither .* put a copy"):
        open_source("fsdd")
    path = packed(home, few()) / sound.FSDD_PACKED
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(DataFormatError, match=r"not a readable tar\.xz archive"):
        open_source("fsdd")
    path.write_bytes(lzma.compress(bytes(40 << 20), preset=0))
    with pytest.raises(DataFormatError, match=r"inflate"):
        open_source("fsdd")
    packed(home, {**few(), "5_ann_1.wav": encoded(tune(1100), 16000)})
    with pytest.raises(DataFormatError, match=r"5_ann_1\.wav: expected 8,000 samples a second; got 16,000"):
        open_source("fsdd")
    monkeypatch.setattr(sound, "FSDD_MEMBER", 1000)
    with pytest.raises(DataFormatError, match=r"\.wav is larger than"):
        open_source("fsdd")


@pytest.mark.skipif(not (HOME / "fsdd").is_dir(), reason="needs $GENUS_DATA/fsdd")
@pytest.mark.slow
def test_fsdd_is_fsdd() -> None:
    source: Any = open_source("fsdd", DataOptions(length=1000))
    assert "3,000 recordings" in source.notes and "0 are shorter" in source.notes
    assert set(source.attributes["speaker"]) == {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}
    assert (source.train.condition.bincount() > 400).all() and source.domain == Waveform(1000, 8000)


def test_whole_recordings_are_cut_or_filled_with_silence(home: Path) -> None:
    packed(home, few())
    source = open_source("fsdd", DataOptions(length=1500, whole=True))
    assert source.name == "fsdd (whole, 1500)"
    assert [len(split) for split in source.splits.values()] == [8, 4, 4]  # one datum a recording
    silence = Waveform(1500, 8000).codes(torch.zeros(()))
    assert (source.train.x[:, 1100:] == silence).all() and not (source.train.x[:, :1100] == silence).all()
    windows = open_source("fsdd", DataOptions(length=500))
    cut = open_source("fsdd", DataOptions(length=500, whole=True))
    assert torch.equal(cut.train.x, windows.train.x[::2])  # the first of two windows each
    with pytest.raises(SettingsError, match="'whole' does not fit"):
        open_source("tones", DataOptions(whole=True))
    with pytest.raises(SettingsError, match="'whole' does not fit"):
        open_source("digits", DataOptions(whole=True))
