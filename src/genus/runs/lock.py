"""One writer a run folder."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from genus.errors import CheckpointError

FILES = {".lock", ".holder.json"}
"""What a lock leaves in a folder. The lock itself belongs to the process: a kill frees it."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the run folder for the block; raises a `CheckpointError` that names who holds it."""
    lock = filelock.FileLock(folder / ".lock")
    holder = folder / ".holder.json"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise CheckpointError(f"{folder}: {_who(holder)} is training in this run folder; give another --out.") from None
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be locked for writing ({error.strerror}).") from None
    try:
        began = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # on a full disk the lock holds without its name plate
            holder.write_text(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": began}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    try:
        told = json.loads(holder.read_text())
        return f"process {told['pid']} on {told['host']} (since {told['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
