"""Tables: CSV and TSV, gzipped or not. Numeric columns are vectors; one column may be the label."""

import csv
import gzip
import io
import itertools
import math
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from genus.data.guard import Faults, refuse_bomb, told
from genus.data.source import Source, TensorSplit, annotate
from genus.data.splitting import LONGEST as LONGEST_LABEL
from genus.data.splitting import by_number, labels_of, without
from genus.errors import DataFormatError, SettingsError
from genus.kinds import Vectors

LARGEST = 256 << 20  # characters of text
LONGEST = 1 << 20  # characters of a line
MOST_LABELS = 10_000
BOMBS = ((4 << 20, 20),)  # text takes more time for a byte than arrays do
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")

Row = tuple[int, list[str]]  # its number in the file, its cells


def open_table(path: Path, label: str | None, skip_bad: bool = False) -> Source:
    """The numeric columns of a table as vectors, with their names; ``label`` names the column of classes.

    The first row is a header unless all its cells are numbers. Every other cell must be a
    finite number; the first that is not is named by row and column. skip_bad: rows with such a
    cell, or with more or fewer cells, are left out, counted and reported; the others stay in the
    splits that they would have been in.
    """
    rows = rows_of(path)
    names, rows = header_of(rows, path)
    if label is not None and label not in names:
        raise SettingsError(
            f"{path}: no column {label[:60]!r} for the label; the columns are {', '.join(names[:40])[:400]}."
        )
    labelled = names.index(label) if label is not None else -1
    if len(names) == (label is not None):
        raise DataFormatError(f"{path}: no column is left beside the label.")

    faults, total = Faults(skip_bad), 0
    kept, values, codes = array("q"), array("f"), array("q")
    known: dict[str, int] = {}
    for number, cells in rows:
        total += 1
        try:
            numbers = _numbers(cells, names, labelled, f"{path}, row {number}")
        except DataFormatError as error:
            faults.note(error)
            continue
        kept.append(total - 1)
        values.extend(numbers)
        if label is not None:
            codes.append(known.setdefault(cells[labelled].strip(), len(known)))
            if len(known) > MOST_LABELS:
                raise DataFormatError(f"{path}, column {label!r}: expected at most {MOST_LABELS:,} different labels.")
    if not total:
        raise DataFormatError(f"{path}: a header without rows.")
    if not kept:
        raise DataFormatError(f"{path}: none of its {total} rows can be read; the first: {faults.reasons[0]}")

    x = torch.from_numpy(np.asarray(values).reshape(len(kept), -1))
    y, classes = None, None
    if label is not None:
        order, classes = labels_of(list(known), f"{path}, column {label!r}")
        y = order[torch.from_numpy(np.asarray(codes))]
    splits = without(by_number(total, str(path)), kept, str(path))
    train, validation, test = (TensorSplit(x[i], None if y is None else y[i]) for i in splits)
    note = ", ".join(filter(None, (label and f"label {label}", faults.summary(total, "rows"))))
    skipped = faults.report(total, "rows")
    return Source(
        annotate(path.name, note) if note else path.name,
        Vectors(x.shape[1], tuple(name for k, name in enumerate(names) if k != labelled)),
        train,
        validation,
        test,
        condition=classes,
        notes=told("split 80 / 10 / 10", skipped),
        skipped=skipped,
    )


def header_of(rows: Iterator[Row], path: Path) -> tuple[list[str], Iterator[Row]]:
    """The names of the columns, and the rows below them."""
    number, top = next(rows, (0, []))
    if not top:
        raise DataFormatError(f"{path}: the table is empty.")
    if all(_number(cell) is not None for cell in top):
        return [f"column {k + 1}" for k in range(len(top))], itertools.chain([(number, top)], rows)
    names = [cell.strip() for cell in top]
    odd = next((name for name in names if len(name) > LONGEST_LABEL or not name.isprintable()), None)
    if odd is not None:
        raise DataFormatError(
            f"{path}, row {number}: expected names of at most {LONGEST_LABEL} characters that can be printed; "
            f"got {odd[:60]!r}."
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataFormatError(f"{path}: two columns are called {twice!r}.")
    return names, rows


def _numbers(cells: list[str], names: list[str], labelled: int, where: str) -> list[float]:
    """The cells of a row as finite numbers, that of the label left out."""
    if len(cells) != len(names):
        raise DataFormatError(f"{where}: expected {len(names)} cells; got {len(cells)}.")
    if labelled >= 0 and len(cells[labelled]) > LONGEST_LABEL:
        raise DataFormatError(
            f"{where}: a label of {len(cells[labelled])} characters; expected at most {LONGEST_LABEL}."
        )
    kept = cells if labelled < 0 else cells[:labelled] + cells[labelled + 1 :]
    numbers = [_number(cell) for cell in kept]
    if all(value is not None and -3e38 < value < 3e38 for value in numbers):
        return numbers  # type: ignore[return-value]
    wrong = next(k for k, value in enumerate(numbers) if value is None or not abs(value) < 3e38)
    name = [name for k, name in enumerate(names) if k != labelled][wrong]
    hint = " Name a column of classes by the option 'label'." if labelled < 0 and numbers[wrong] is None else ""
    raise DataFormatError(f"{where}, column {name!r}: expected a finite number; got {kept[wrong][:40]!r}.{hint}")


def rows_of(path: Path) -> Iterator[Row]:
    """The rows that are not blank, as they are read."""
    lines = _lines(path)
    head = next(lines, "")
    table = csv.reader(itertools.chain([head], lines), delimiter=max(",;\t", key=head.count), strict=True)
    try:
        yield from ((table.line_num, row) for row in table if row)
    except csv.Error as error:
        raise DataFormatError(f"{path}, row {table.line_num}: not a table ({error}).") from None


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text, inflated no further than they are asked for."""
    number, total = 0, 0
    try:
        packed = path.suffix.lower() == ".gz"
        with (
            path.open("rb") as file,
            gzip.GzipFile(fileobj=file) if packed else file as raw,
            io.TextIOWrapper(raw, "utf-8-sig") as text,
        ):
            while line := text.readline(LONGEST + 1):
                number, total = number + 1, total + len(line)
                if len(line) > LONGEST:
                    raise DataFormatError(f"{path}, row {number}: longer than {LONGEST} characters.")
                if total > LARGEST:
                    raise DataFormatError(f"{path}: more than {LARGEST >> 20} MiB of text; make it an .npy file.")
                if packed and total > BOMBS[0][0]:
                    refuse_bomb(total, file.tell(), str(path), BOMBS)  # of what has been unpacked so far
                yield line
    except UnicodeDecodeError:
        raise DataFormatError(f"{path}: not UTF-8 text after row {number}.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataFormatError(f"{path}: cannot be read ({error}).") from None


def _number(cell: str) -> float | None:
    """The number in a cell, NaN and infinities included; None for text."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if "_" not in cell else math.nan
