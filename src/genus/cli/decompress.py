"""genus decompress RUN FILE"""

import dataclasses
import time
from pathlib import Path

import tyro

from genus.cli import flags
from genus.errors import SettingsError

ABOUT = """The data of a file that genus compress wrote, bit for bit, with the same run.

  genus decompress runs/nade-... pictures.npy.gnsz --out pictures-again.npy

The number of threads does not matter, and there is no batch size to choose. A file that is damaged,
or was made with another model, is refused; one that was written with another version of torch or on
another kind of processor is tried, and refused if the data do not come out as they were."""


@dataclasses.dataclass
class DecompressFlags:
    """What to decompress, and where to."""

    run: tyro.conf.Positional[Path]
    """The run folder that the file was made with."""
    file: tyro.conf.Positional[Path]
    """The file."""
    out: Path | None = None
    """An .npy file (.npz where there are labels) for the data (default: FILE.npy or FILE.npz); must not exist."""


def main(arguments: list[str]) -> int:
    """Write the data as an array."""
    chosen = flags.parse(DecompressFlags, arguments or ["--help"], "genus decompress", ABOUT)

    from genus.compress import decompress
    from genus.compress.archive import read
    from genus.compress.items import write_items
    from genus.runs import open_run

    run = open_run(chosen.run)
    ending = ".npy" if run.condition is None else ".npz"
    out = chosen.out or chosen.file.with_name(chosen.file.name + ending)
    if out.suffix != ending:
        raise SettingsError(f"--out: expected a name that ends in {ending}; got {out}.")
    if out.exists():
        raise SettingsError(f"{out} exists; name another file with --out.")
    content, before = read(chosen.file), time.perf_counter()
    with flags.warnings_told():
        x, labels = decompress(run, content, str(chosen.file))
    write_items(out, x, labels)
    print(f"{out}  {len(x):,} data in {time.perf_counter() - before:.1f} s")
    return 0
