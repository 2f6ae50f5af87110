"""What one sees while a model trains: one live line, or a line now and then in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Shows loss terms, speed and the time left; silent when told so."""

    def __init__(self, console: Console, total: int, quiet: bool):
        self.console = console
        self.total = total
        self.quiet = quiet
        self.live = console.is_terminal and not quiet
        self._next = time.monotonic() + 10
        self._began, self._first = time.monotonic(), 0
        if self.live:
            self._bar = Progress(
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[terms]}"),
                console=console,
            )
            self._task = self._bar.add_task("train", total=total, speed="", terms="")

    def begin(self, step: int) -> None:
        """Training starts, or starts again, at ``step``: the speed counts from here."""
        self._began, self._first = time.monotonic(), step

    def show(self, step: int, terms: dict[str, float], batch_size: int) -> None:
        """Called at every log point with the latest loss terms."""
        now = time.monotonic()
        speed = f"{(step - self._first) * batch_size / max(now - self._began, 1e-9):,.0f} data/s"
        text = "  ".join(f"{name.removeprefix('train/')} {value:.4g}" for name, value in terms.items())
        if self.live:
            self._bar.update(self._task, completed=step, speed=speed, terms=text)
        elif not self.quiet and (now >= self._next or step == self.total):
            self._next = now + 10
            self.console.print(f"step {step}/{self.total}  {speed}  {text}", highlight=False, soft_wrap=True)

    def say(self, sentence: str) -> None:
        """A sentence that stays, above the live line."""
        if not self.quiet:
            self.console.print(sentence, highlight=False, soft_wrap=True, markup=False)

    def say_if(self, sentence: str | None) -> None:
        """`say`, if there is something to say."""
        if sentence:
            self.say(sentence)


@contextmanager
def display(total: int, quiet: bool = False) -> Iterator[Display]:
    """A `Display` that is live inside the block."""
    shown = Display(Console(stderr=True), total, quiet)
    if shown.live:
        with shown._bar:
            yield shown
    else:
        yield shown
