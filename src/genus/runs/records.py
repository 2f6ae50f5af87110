"""metrics.jsonl: one line a record, complete even where the disk was full for a while."""

import errno
import json
import os
from itertools import takewhile
from pathlib import Path
from typing import Any

from genus.runs.documents import read_jsonl


class Records:
    """Lines that are on disk, and lines that could not be written yet.

    Opening cuts the file after the last record of ``step``: later ones belong to steps that
    will be taken again. A cut needs no space, so a full disk does not hinder it.
    """

    def __init__(self, path: Path, step: int):
        self.path = path
        self.kept, self._end = _until(path, step)
        self._waiting = ""
        with path.open("a") as file:
            file.truncate(self._end)

    def write(self, record: dict[str, Any]) -> None:
        """Append a record; raises an OSError where the disk refuses, and tries again next time."""
        self._waiting += json.dumps(record) + "\n"
        self.flush()

    def flush(self) -> None:
        """Write what waits, whole lines only."""
        if not self._waiting:
            return
        content = self._waiting.encode()
        with self.path.open("r+b", buffering=0) as file:
            file.seek(self._end)
            try:
                if file.write(content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            except OSError:
                file.truncate(self._end)
                raise
        self._end += len(content)
        self._waiting = ""

    def sync(self) -> None:
        """Everything on the disk, so that a checkpoint may rely on it; raises an OSError otherwise."""
        self.flush()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


def _until(path: Path, step: int) -> tuple[list[dict[str, Any]], int]:
    """The records up to a step, and the byte at which they end."""
    records = list(takewhile(lambda record: record["step"] <= step, read_jsonl(path, numbers=("step",))))
    lines = path.read_bytes().splitlines(keepends=True) if records else []
    return records, sum(map(len, lines[: len(records)]))
