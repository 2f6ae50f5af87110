"""Recordings: folders of WAV and FLAC files, and the Free Spoken Digit set, cut into windows.

A recording is mixed down to one channel and companded (`genus.kinds.Waveform`); then it is cut
into consecutive windows of equal length. What is left at its end is left out: padding would add
silence that nobody recorded, which is easy to predict and flatters a likelihood.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genus.data.files import data_home
from genus.data.guard import Faults, refuse_stray
from genus.data.packed import members
from genus.data.source import DataOptions, Source, TensorSplit, annotate
from genus.errors import DataFormatError, SettingsError
from genus.kinds import Label, Waveform

ENDINGS = (".wav", ".flac")
FORMATS = ("WAV", "WAVEX", "FLAC")
LARGEST = 128 << 20  # bytes of a file
MOST_SAMPLES = 1 << 27  # of a source, a byte each: 4.6 hours at 8 kHz, 50 minutes at 44.1 kHz
BLOCK = 1 << 16  # samples decoded at once
LOUDEST = 2.0  # amplitudes of a file of floats are within -1..1, but for a few peaks
USUAL_LENGTH = 1024


@dataclass(frozen=True)
class Recording:
    """The codes of a recording, ``(T,)``, and its samples a second."""

    codes: Tensor
    rate: int


def soundfile() -> Any:
    """The package that decodes WAV and FLAC, or a sentence on how to get it."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: its library of C is not there
        raise SettingsError(
            "WAV and FLAC files are read with the package soundfile; pip install genus[audio]."
        ) from None
    return soundfile


def read_recording(content: bytes, where: str, most: int = MOST_SAMPLES) -> Recording:
    """A WAV or FLAC file of any number of channels, which are averaged.

    most: samples that it may have. Raises a `DataFormatError` that begins with ``where``.
    """
    decoder = soundfile()
    _refuse_cut(content, where)
    try:
        with decoder.SoundFile(io.BytesIO(content)) as file:
            if file.format not in FORMATS:
                raise DataFormatError(f"{where}: expected WAV or FLAC; got {file.format}.")
            if file.frames > most:
                raise DataFormatError(f"{where}: {file.frames:,} samples are more than {most:,}; cut it into parts.")
            codes = list(_codes(file, where))
            rate, missing = file.samplerate, file.frames - sum(map(len, codes))
    except (decoder.LibsndfileError, RuntimeError, ValueError) as error:
        if isinstance(error, DataFormatError):
            raise
        reason = str(error).split("\n")[0][-200:]
        raise DataFormatError(f"{where}: not a readable WAV or FLAC file ({reason}).") from None
    if missing:
        raise DataFormatError(f"{where}: {missing:,} samples are missing at the end; the file is cut off.")
    if not codes:
        raise DataFormatError(f"{where}: holds no samples.")
    return Recording(torch.cat(codes), rate)


def _codes(file: Any, where: str) -> Iterator[Tensor]:
    """Block by block, so that memory grows with what is there, not with what is declared."""
    compander = Waveform(1, 1)
    while len(block := file.read(max(1, BLOCK // file.channels), dtype="float32", always_2d=True)):
        if not np.isfinite(block).all():
            raise DataFormatError(f"{where}: holds NaN or infinity.")
        if np.abs(block).max() > LOUDEST:
            raise DataFormatError(f"{where}: expected amplitudes in -1..1; got {np.abs(block).max():.6g}.")
        yield compander.codes(torch.from_numpy(block).mean(1))


def _refuse_cut(content: bytes, where: str) -> None:
    """The decoder reads what there is of a cut WAV file; the sizes of its chunks tell what there was."""
    if content[:4] != b"RIFF":
        return
    place = 12
    while place + 8 <= len(content):
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        if place + 8 + size > len(content):
            raise DataFormatError(
                f"{where}: declares {size:,} bytes where {len(content) - place - 8:,} are left; the file is cut off."
            )
        if content[place : place + 4] == b"data":
            return
        place += 8 + size + size % 2


def read_recordings(paths: Sequence[Path], folder: Path, faults: Faults) -> tuple[list[int], list[Tensor], int]:
    """Which files could be read, their codes, and the rate that all share: that of the first."""
    kept: list[int] = []
    found: list[Tensor] = []
    rate, room = 0, MOST_SAMPLES
    for k, path in enumerate(paths):
        try:
            refuse_stray(path, folder)
            if path.stat().st_size > LARGEST:
                raise DataFormatError(f"{path}: larger than {LARGEST >> 20} MiB.")
            recording = read_recording(path.read_bytes(), str(path))
            if rate and recording.rate != rate:
                raise DataFormatError(
                    f"{path}: {recording.rate:,} samples a second where the files before it have {rate:,}; "
                    "convert them to one rate."
                )
        except DataFormatError as error:
            faults.note(error)
            continue
        rate, room = recording.rate, room - len(recording.codes)
        if room < 0:
            raise DataFormatError(f"{folder}: more than {MOST_SAMPLES:,} samples; take a part of the recordings.")
        kept.append(k)
        found.append(recording.codes)
    return kept, found, rate


def windows(codes: Sequence[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Consecutive windows ``(N, length)`` of recordings, and which recording each is of."""
    counts = torch.tensor([len(part) // length for part in codes], dtype=torch.int64)
    cut = [part[: count * length].view(-1, length) for part, count in zip(codes, counts.tolist(), strict=True)]
    return torch.cat(cut), torch.arange(len(codes)).repeat_interleave(counts)


def wholes(codes: Sequence[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Recordings ``(N, length)``, cut there or filled up with silence, and which recording each is."""
    silence = Waveform(1, 1).codes(torch.zeros(()))
    x = silence.expand(len(codes), length).clone()
    for row, part in zip(x, codes, strict=True):
        row[: len(part)] = part[:length]
    return x, torch.arange(len(codes))


def told_of_wholes(codes: Sequence[Tensor], length: int) -> str:
    """What cutting at ``length`` leaves out, as a sentence for the notes."""
    longer = sum(len(part) > length for part in codes)
    return f"{len(codes):,} recordings, one datum each; {longer:,} are cut at {length:,} samples; mu-law codes"


def told_of_windows(codes: Sequence[Tensor], length: int) -> str:
    """What cutting into windows leaves out, as a sentence for the notes."""
    short = sum(len(part) < length for part in codes)
    total = sum(map(len, codes))
    left = sum(len(part) % length for part in codes) / max(total, 1)
    return (
        f"{len(codes):,} recordings cut into windows of {length:,} samples; {short:,} are shorter and left out; "
        f"with the ends of the others that is {left:.1%} of all samples; mu-law codes"
    )


def open_recordings(
    name: str,
    codes: Sequence[Tensor],
    rate: int,
    splits: Sequence[Tensor],
    length: int,
    labels: tuple[Tensor, Label] | None,
    known: dict[str, Tensor],
    *,
    whole: bool = False,
    **about: Any,
) -> Source:
    """A source of windows of recordings, or of ``whole`` ones; ``splits``, labels and what else is ``known``
    are by recording.

    Raises a `DataFormatError` where all recordings of a split are shorter than a window.
    """

    def split(index: Tensor) -> TensorSplit:
        own = [codes[k] for k in index.tolist()]
        x, of = wholes(own, length) if whole else windows(own, length)
        if not len(x):
            longest = max(map(len, own), default=0)
            raise DataFormatError(
                f"{name}: a split has no recording of {length:,} samples (its longest has {longest:,}); "
                "ask for shorter windows with --length."
            )
        told = {key: values[index][of] for key, values in known.items()}
        return TensorSplit(x, None if labels is None else labels[0][index][of], attributes=told)

    train, validation, test = map(split, splits)
    notes, told = about.pop("notes", ""), (told_of_wholes if whole else told_of_windows)(codes, length)
    return Source(
        name, Waveform(length, rate), train, validation, test, condition=None if labels is None else labels[1],
        notes=f"{notes}; {told}" if notes else told, **about,
    )  # fmt: skip


# --- the Free Spoken Digit set ----------------------------------------------------------------

FSDD_PACKED, FSDD_FOLDER = "fsdd/fsdd_recordings.tar.xz", "fsdd/recordings"
FSDD_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
FSDD_HOMEPAGE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
FSDD_MEMBER = 4 << 20  # of one recording


def open_fsdd(options: DataOptions) -> Source:
    """Spoken digits 0 to 9 at 8 kHz. As its authors say, recordings 0 to 4 of each speaker and digit are
    the test split; 5 and 6 are for validation. The digit is the label, the speaker an attribute."""
    codes, about = [], []
    for name, content, where in _fsdd_files():
        digit, speaker, number = FSDD_NAME.fullmatch(name).groups()  # type: ignore[union-attr]
        recording = read_recording(content, where)
        if recording.rate != 8000:
            raise DataFormatError(f"{where}: expected 8,000 samples a second; got {recording.rate:,}.")
        codes.append(recording.codes)
        about.append((int(digit), speaker, int(number)))
    speakers = tuple(sorted({speaker for _, speaker, _ in about}))
    digit, speaker, number = (
        torch.tensor(column) for column in zip(*((d, speakers.index(s), n) for d, s, n in about), strict=True)
    )
    length = options.length or USUAL_LENGTH
    name = (
        annotate("fsdd", f"whole, {length}")
        if options.whole
        else ("fsdd" if length == USUAL_LENGTH else annotate("fsdd", f"windows of {length}"))
    )
    parts = [number >= 7, (number >= 5) & (number < 7), number < 5]
    return open_recordings(
        name,
        codes, 8000, [part.nonzero().squeeze(1) for part in parts], length,
        (digit, Label(tuple("0123456789"))), {"speaker": speaker, "recording": number},
        whole=options.whole,
        attributes={"speaker": speakers, "recording": ()},
        licence="CC BY-SA 4.0",
        citation="Jackson (2016). Free Spoken Digit Dataset.",
        homepage=FSDD_HOMEPAGE,
        notes="recordings 0-4 of each speaker and digit are test, 5 and 6 validation",
    )  # fmt: skip


def _is_recording(inside: str) -> bool:
    return FSDD_NAME.fullmatch(inside.rpartition("/")[2]) is not None


def _fsdd_files() -> Iterator[tuple[str, bytes, str]]:
    """Name, content and place of every recording, in the order of their names; nothing is unpacked to disk."""
    packed, folder = data_home() / FSDD_PACKED, data_home() / FSDD_FOLDER
    if packed.is_file():
        for inside, content in sorted(members(packed, _is_recording, largest=FSDD_MEMBER)):
            name = inside.rpartition("/")[2]
            yield name, content, f"{packed}: {name}"
    elif folder.is_dir():
        for path in sorted(folder.glob("*.wav")):
            if FSDD_NAME.fullmatch(path.name) and path.stat().st_size <= FSDD_MEMBER:
                yield path.name, path.read_bytes(), str(path)
    else:
        raise DataFormatError(
            f"fsdd: neither {FSDD_PACKED} nor the folder {FSDD_FOLDER} in {data_home()}; "
            f"put a copy of {FSDD_HOMEPAGE} there as fsdd, or set GENUS_DATA."
        )
