"""Tables: CSV and TSV, gzipped or not. Numeric columns are vectors; one column may be the label."""

import csv
import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from genus.data.source import Source, TensorSplit
from genus.data.splitting import by_number, labels_of
from genus.domain import Vectors
from genus.errors import DataFormatError, SettingsError

LARGEST = 1 << 30  # bytes of text
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def open_table(path: Path, label: str | None) -> Source:
    """The numeric columns of a table as vectors, with their names; ``label`` names the column of classes.

    The first row is a header unless all its cells are numbers. Every other cell must be a
    finite number; the first that is not is named by row and column.
    """
    rows = _rows(path)
    header = [] if all(_number(cell) is not None for cell in rows[0]) else [cell.strip() for cell in rows.pop(0)]
    first = 2 if header else 1  # the line number of the first row, for messages
    names = header or [f"column {k + 1}" for k in range(len(rows[0]))]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataFormatError(f"{path}: two columns are called {twice!r}.")
    if not rows:
        raise DataFormatError(f"{path}: a header without rows.")
    for k, row in enumerate(rows):
        if len(row) != len(names):
            raise DataFormatError(f"{path}, row {first + k}: expected {len(names)} cells; got {len(row)}.")
    if label is not None and label not in names:
        raise SettingsError(f"{path}: no column {label!r} for the label; the columns are {', '.join(names[:40])}.")
    kept = [k for k, name in enumerate(names) if name != label]
    if not kept:
        raise DataFormatError(f"{path}: no column is left beside the label.")

    table = np.empty((len(rows), len(kept)), np.float32)
    for i, row in enumerate(rows):
        for j, k in enumerate(kept):
            value = _number(row[k])
            if value is None or not abs(value) < 3e38:
                raise DataFormatError(
                    f"{path}, row {first + i}, column {names[k]!r}: expected a finite number; got {row[k][:40]!r}."
                    + ("" if label or value is not None else " Name a column of classes by the option 'label'.")
                )
            table[i, j] = value
    x = torch.from_numpy(table)
    y, classes = (None, None)
    if label is not None:
        y, classes = labels_of([row[names.index(label)].strip() for row in rows], f"{path}, column {label!r}")
    train, validation, test = (TensorSplit(x[i], None if y is None else y[i]) for i in by_number(len(x), str(path)))
    domain = Vectors(len(kept), tuple(names[k] for k in kept))
    name = path.name if label is None else f"{path.name} (label {label})"
    return Source(name, domain, train, validation, test, condition=classes, notes="split 80 / 10 / 10")


def _rows(path: Path) -> list[list[str]]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise DataFormatError(f"{path}: cannot be read ({error}).") from None
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{path}: not UTF-8 text at byte {error.start}.") from None
    if len(content) > LARGEST:
        raise DataFormatError(f"{path}: more than {LARGEST >> 20} MiB of text.")
    head = text[: text.find("\n") % (len(text) + 1)]
    comma = max(",;\t", key=head.count)
    try:
        rows = [row for row in csv.reader(text.splitlines(), delimiter=comma, strict=True) if row]
    except csv.Error as error:
        raise DataFormatError(f"{path}: not a table ({error}).") from None
    if not rows:
        raise DataFormatError(f"{path}: the table is empty.")
    return rows


def _number(cell: str) -> float | None:
    """The number in a cell, NaN and infinities included; None for text."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if "_" not in cell else math.nan
