"""JSON that may come from a stranger: plain files only, bounded in size, depth and number.

What Python's parser lets through and this does not: NaN and Infinity, numbers that overflow
to them, a key given twice, lone surrogates, and nesting that exhausts the stack.
"""

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from genus.errors import CheckpointError, brief

MAX_DOCUMENT = 4 * 2**20  # bytes of one JSON document
MAX_BRACKETS = 10_000  # of one: a million empty lists take the parser 5 s and 200 MB
MAX_LINES = 64 * 2**20  # bytes of a JSONL file
MAX_LINE = 2**20  # bytes of one of its lines
MAX_VALUES = 1_000_000  # numbers, strings and brackets of a JSONL file
MAX_DEPTH = 32


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading if it is a regular file and no symbolic link.

    A link in a stranger's folder may lead out of it, and a pipe or device may never end.
    Raises `CheckpointError`; a file that is not there stays a FileNotFoundError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        refuse_link(path)
        raise CheckpointError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path}: not a regular file; refused.")
    return os.fdopen(descriptor, "rb")


def refuse_link(path: Path) -> None:
    """Raise a `CheckpointError` for a symbolic link: nothing below a run folder is followed elsewhere."""
    if path.is_symlink():
        raise CheckpointError(f"{path}: a symbolic link; a run folder holds its own files. Put the file itself there.")


def read_document(path: Path, *, finite: bool = True) -> dict[str, Any]:
    """The JSON object in a file of at most 4 MB and 32 levels.

    finite: refuse NaN and Infinity. Raises `CheckpointError` naming the file and what is
    wrong with it; a file that is not there stays a FileNotFoundError.
    """
    with open_plain(path) as file:
        content = _read(file, path, MAX_DOCUMENT)
    return _parse(content, str(path), finite)[0]


def read_jsonl(path: Path, numbers: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The complete lines of a JSONL file; a line cut off by a kill is left out.

    numbers: keys that every record must have as a finite number. NaN and Infinity elsewhere
    are kept, as a loss may have been either. Raises `CheckpointError` naming file and line.
    """
    records: list[dict[str, Any]] = []
    total = values = 0
    try:
        file = open_plain(path)
    except FileNotFoundError:
        return []
    with file:
        while (line := _read_line(file, path)).endswith(b"\n"):
            where = f"{path}, line {len(records) + 1}"
            record, count = _parse(line, where, finite=False)
            for key in numbers:
                number(record, key, where)
            records.append(record)
            total, values = total + len(line), values + count
            if total > MAX_LINES or values > MAX_VALUES:
                raise CheckpointError(f"{where}: over {MAX_LINES:,} bytes or {MAX_VALUES:,} values so far; refused.")
    return records


def number(record: Mapping[str, Any], key: str, where: str) -> float:
    """``record[key]`` if it is a finite number; a `CheckpointError` naming ``where`` and the key otherwise."""
    value = record.get(key)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value
    except OverflowError:
        pass
    raise CheckpointError(f"{where}: {key!r} should be a number; got {brief(value)}.")


def _read(file: BinaryIO, path: Path, limit: int) -> bytes:
    try:
        content = file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from None
    if len(content) > limit:
        raise CheckpointError(f"{path}: over {limit:,} bytes; refused.")
    return content


def _read_line(file: BinaryIO, path: Path) -> bytes:
    try:
        line = file.readline(MAX_LINE + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from None
    if len(line) > MAX_LINE:
        raise CheckpointError(f"{path}: a line of over {MAX_LINE:,} bytes; refused.")
    return line


def _parse(content: bytes, where: str, finite: bool) -> tuple[dict[str, Any], int]:
    """A JSON object and the number of values in it."""
    try:
        if content.count(b"[") + content.count(b"{") > MAX_BRACKETS:
            raise ValueError(f"over {MAX_BRACKETS:,} brackets")
        options: dict[str, Any] = {"parse_constant": _refuse, "parse_float": _finite} if finite else {}
        parsed = json.loads(content.decode(), object_pairs_hook=_unique, **options)
        if not isinstance(parsed, dict):
            raise ValueError(f"expected an object {{...}}; got {brief(parsed)}")
        count = _count(parsed)
        json.dumps(parsed, ensure_ascii=False).encode()  # a lone surrogate could not be printed
    except RecursionError:
        raise CheckpointError(f"{where}: nested over {MAX_DEPTH} levels deep; refused.") from None
    except ValueError as error:
        raise CheckpointError(f"{where}: not the JSON that belongs here ({brief(str(error), 200)[1:-1]}).") from None
    return parsed, count


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {brief(key)} is given twice")
        content[key] = value
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"the number {constant} is not finite")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {brief(text)} is not finite")
    return value


def _count(content: Any) -> int:
    """How many values there are, level by level; a RecursionError below the deepest level allowed."""
    level, count = [content], 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return count
    raise RecursionError


def write_document(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    temporary = path.with_suffix(f".tmp-{os.getpid()}")
    temporary.unlink(missing_ok=True)  # never write through what somebody put there
    with temporary.open("x", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    temporary.replace(path)
