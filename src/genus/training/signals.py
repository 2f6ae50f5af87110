"""Signals become a question that the loop asks after every step."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genus.errors import GenusError

CAUGHT = ("SIGINT", "SIGTERM", "SIGUSR1")  # Ctrl-C; kill, torchrun, Slurm; Slurm's early warning


class Interrupted(GenusError):
    """A signal asked training to stop; the state was saved and the same command resumes.

    The exit code is 128 + the signal's number, as shells have it.
    """

    def __init__(self, name: str, step: int, steps: int, folder: Path):
        super().__init__(f"{name} at step {step} of {steps}; saved in {folder}. The same command resumes.")
        self.exit_code = 128 + signal.Signals[name]


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], str | None]]:
    """Inside, the function that is given names the signal that came, if any. A second one ends
    the process at once; the last checkpoint stays whole."""
    caught: list[str] = []

    def note(number: int, _frame: Any) -> None:
        if caught:
            os._exit(128 + number)
        caught.append(signal.Signals(number).name)

    before = {}
    for name in CAUGHT:
        if hasattr(signal, name):
            try:
                before[name] = signal.signal(getattr(signal, name), note)
            except ValueError:  # not the main thread: signals are somebody else's
                break
    try:
        yield lambda: caught[0] if caught else None
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
