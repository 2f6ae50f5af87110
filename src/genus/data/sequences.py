"""Sequences: a text as windows of characters, and sequences of states for `genus chain`.

A text is UTF-8; its characters, in the order of their code points, are the symbols of `Tokens`.
"""

import re
from pathlib import Path

import numpy as np
import torch

from genus.data.arrays import read_npy
from genus.data.source import Source, TensorSplit, annotate
from genus.data.splitting import LONGEST, PARTS
from genus.data.tables import ENDINGS as TABLES
from genus.data.tables import header_of, rows_of
from genus.errors import DataFormatError, SettingsError, brief
from genus.kinds import Tokens

LARGEST = 256 << 20  # bytes of text
USUAL_LENGTH = 64  # characters of a window
CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")  # no text holds them; a terminal may obey them


def open_text(path: Path, length: int | None = None) -> Source:
    """A text as consecutive windows of ``length`` characters (64).

    The first 80 % of the windows train, the next 10 % validate, the last 10 % test: the splits are
    stretches of the text, so no window reaches into another split. What is left after the last whole
    window is left out. The alphabet is that of the whole text.
    """
    text, length = read_text(path), length or USUAL_LENGTH
    alphabet, windows = sorted(set(text)), len(text) // length
    if len(alphabet) < 2:
        raise DataFormatError(f"{path}: expected at least two different characters; got {alphabet[0]!r} only.")
    if windows < len(PARTS):
        raise DataFormatError(
            f"{path}: {len(text):,} characters are too few for windows of {length}: expected at least 3, one for "
            "each of train, validation and test; give a smaller length."
        )
    points = np.frombuffer(text[: windows * length].encode("utf-32-le"), np.uint32)
    domain = Tokens(length, len(alphabet), tuple(alphabet))
    code = np.zeros(ord(alphabet[-1]) + 1, np.uint8 if domain.dtype == torch.uint8 else np.int64)
    code[[ord(character) for character in alphabet]] = np.arange(len(alphabet))
    tenth = max(1, windows // 10)
    parts = torch.from_numpy(code[points]).view(windows, length).split([windows - 2 * tenth, tenth, tenth])
    train, validation, test = map(TensorSplit, parts)
    rest = len(text) - windows * length
    note = f"split 80 / 10 / 10 in the order of the text, of {len(text):,} characters"
    return Source(
        annotate(path.name, f"windows of {length}"),
        domain,
        train,
        validation,
        test,
        notes=f"{note}; the last {rest} fill no window" if rest else note,
    )


def read_text(path: Path) -> str:
    """The characters of a UTF-8 file, lines ended by a single newline. Raises a `DataFormatError` for what
    is no text, empty, or over 256 MiB."""
    try:
        if path.stat().st_size > LARGEST:
            raise DataFormatError(f"{path}: more than {LARGEST >> 20} MiB of text; cut it into parts.")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error}).") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataFormatError(
            f"{path}: not UTF-8 text (byte {content[error.start]:#04x} at {error.start}); save it as UTF-8."
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise DataFormatError(f"{path}: the text is empty.")
    if wrong := CONTROL.search(text):
        line = text.count("\n", 0, wrong.start()) + 1
        raise DataFormatError(f"{path}, line {line}: not text, it holds the control character {wrong[0]!r}.")
    return text


def read_states(path: Path, column: str | None = None, by: str | None = None) -> list[list[str]]:
    """Sequences of states in order of time: a column of a table (one sequence for each value of the
    column ``by``), the characters of a text, or integers of an .npy file (one sequence a row)."""
    if not path.is_file():
        raise DataFormatError(f"{path}: no such file.")
    name = path.name.lower()
    if name.endswith(TABLES):
        return _column(path, column, by)
    if column is not None or by is not None:
        raise SettingsError(f"{path}: the options 'column' and 'by' are for tables ({', '.join(TABLES)}).")
    if name.endswith(".txt"):
        return [list(read_text(path))]
    if name.endswith(".npy"):
        array = read_npy(path)
        if array.dtype.kind not in "biu":
            raise DataFormatError(f"{path}: expected integers; got {array.dtype} of shape {array.shape}.")
        return [
            list(map(str, row)) for row in array.reshape(len(array) if array.ndim > 1 else 1, -1).astype(int).tolist()
        ]
    raise DataFormatError(f"{path}: cannot tell what it holds; expected {', '.join(TABLES)}, .txt or .npy.")


def _column(path: Path, column: str | None, by: str | None) -> list[list[str]]:
    """The states in a column of a table, row by row."""
    names, rows = header_of(rows_of(path), path)
    rest = [name for name in names if name != by]
    column = rest[0] if column is None and len(rest) == 1 else column
    for option, name in (("column", column), ("by", by)):
        if name not in names and (name is not None or option == "column"):
            listed = ", ".join(names[:40])[:400]
            said = f"there is none called {name[:60]!r}" if name is not None else "there are several"
            raise SettingsError(
                f"{path}: say by the option {option!r} which column to read: {said}; there are {listed}."
            )
    assert column is not None
    sequences: dict[str, list[str]] = {}
    for number, cells in rows:
        if len(cells) != len(names):
            raise DataFormatError(f"{path}, row {number}: expected {len(names)} cells; got {len(cells)}.")
        state = cells[names.index(column)].strip()
        if not state or len(state) > LONGEST or not state.isprintable():
            raise DataFormatError(
                f"{path}, row {number}, column {column!r}: expected a state, text of 1 to {LONGEST} characters that "
                f"can be printed; got {brief(state)}."
            )
        sequences.setdefault("" if by is None else cells[names.index(by)].strip(), []).append(state)
    if not sequences:
        raise DataFormatError(f"{path}: a header without rows.")
    return list(sequences.values())
