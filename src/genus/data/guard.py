"""What foreign files may not do: inflate beyond reason, lead out of their folder, stop everything unasked."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from genus.errors import DataFormatError

LARGEST = 4 << 30  # bytes that an array may take
BOMBS = ((32 << 20, 200), (512 << 20, 20))  # more bytes than this, at more than this ratio, is taken for a bomb
BLOCK = 1 << 20
REASONS = 20  # skipped items that are named one by one


def refuse_bomb(unpacked: int, packed: int, where: str, bombs: tuple[tuple[int, int], ...] = BOMBS) -> None:
    """Raise a `DataFormatError` if ``packed`` bytes of a file would inflate to ``unpacked`` bytes beyond reason."""
    if unpacked > LARGEST or any(unpacked > size and unpacked > ratio * packed for size, ratio in bombs):
        raise DataFormatError(f"{where}: {packed} bytes would inflate to {unpacked} or more, refused; "
                              "unpack it yourself if you trust it.")  # fmt: skip


def read_up_to(file: BinaryIO, count: int) -> bytearray:
    """At most ``count`` bytes, read in blocks: memory grows with what is there, not with what is declared."""
    content = bytearray()
    while len(content) < count and (block := file.read(min(BLOCK, count - len(content)))):
        content += block
    return content


def regular_files(folder: Path) -> Iterator[Path]:
    """Every file below ``folder``, and every link to one, in the order of their names.

    Hidden ones, pipes and devices are left out. Links to folders are refused: what they lead to
    may lie anywhere, or be read twice.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = next((Path(place, name) for name in folders if Path(place, name).is_symlink()), None)
        if linked:
            raise DataFormatError(f"{linked}: a link to a folder; such links are not followed, remove it.")
        paths = [Path(place, name) for name in files if not name.startswith(".")]
        found += [path for path in paths if path.is_symlink() or path.is_file()]
    yield from sorted(found)


def refuse_stray(path: Path, folder: Path) -> None:
    """Raise a `DataFormatError` for a link that leads out of ``folder`` (which is resolved), or to no file;
    also for a name that would harm a terminal."""
    name = path.relative_to(folder).as_posix()
    if not name.isprintable():
        raise DataFormatError(f"{folder}: the file name {name[:60]!r} cannot be printed; rename it.")
    if path.is_symlink():
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: links in a ring
            raise DataFormatError(f"{path}: a link that leads nowhere.") from None
        if not target.is_relative_to(folder):
            raise DataFormatError(f"{path}: a link that leads out of the folder {folder}; it is not followed.")
        if not target.is_file():
            raise DataFormatError(f"{path}: a link to what is not a file.")


def told(notes: str, skipped: tuple[str, ...]) -> str:
    """The notes of a source, with what was skipped and the first three reasons."""
    return " ".join((f"{notes}.", *skipped[:4])) if skipped else notes


@dataclass
class Faults:
    """Items that cannot be read. The first is raised; with ``skip`` they are left out, counted and reported."""

    skip: bool = False
    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def note(self, error: DataFormatError) -> None:
        """Take note of an item left out for ``error``, or raise that."""
        if not self.skip:
            raise error
        self.count += 1
        if len(self.reasons) < REASONS:
            self.reasons.append(str(error))

    def summary(self, total: int, unit: str) -> str:
        """``3 of 1000 files skipped``; empty if there was none."""
        return f"{self.count} of {total} {unit} skipped" if self.count else ""

    def report(self, total: int, unit: str) -> tuple[str, ...]:
        """One sentence with the count, then one for each of the first items; empty if there was none."""
        return (f"{self.summary(total, unit)}.", *self.reasons) if self.count else ()
