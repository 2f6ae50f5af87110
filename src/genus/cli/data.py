"""genus data [SOURCE]"""

import dataclasses
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from genus.cli import flags


@dataclasses.dataclass
class DataFlags:
    """What to look at."""

    source: tyro.conf.Positional[str | None] = None
    """A named source, the path of a file or folder, or run:PATH, the codes of a run; none lists the named sources."""
    out: Path | None = None
    """Where to write the preview picture (default NAME.png in runs/)."""


def main(arguments: list[str]) -> int:
    """List the sources, or say what genus sees in one."""
    from genus.data import DataOptions

    options = flags.optional("Data", "Options of the data source.", flags.fields_of(DataOptions), {})
    about = "What genus sees in a data source, a file or a folder."
    chosen = flags.parse(flags.joined(basic=DataFlags, data=options), arguments, "genus data", about)
    name = chosen.basic.source
    return _list() if name is None else _show(name, chosen.basic.out, flags.given(chosen.data))


def _list() -> int:
    from genus.data import list_sources

    table = Table(box=None, pad_edge=False)
    for column in ("source", "data", "what it is", "licence", "where"):
        table.add_column(column, no_wrap=column == "source")
    for entry in list_sources():
        table.add_row(entry.name, entry.domain, entry.summary, entry.licence, entry.where)
    console = Console()
    console.print(table)
    console.print("\nor the path of your own: a folder of pictures, meshes or clouds, .npy, .npz, IDX, CSV or .txt")
    console.print("or the codes of a run, run:PATH", highlight=False)
    return 0


def _show(name: str, out: Path | None, options: dict[str, Any]) -> int:
    from genus.api import open_source
    from genus.data import data_options, describe, preview

    path = flags.file_named(out or Path("runs") / f"{Path(name.removeprefix('run:')).stem}.png", (".png",))
    source = open_source(name, data_options(**options))
    console = Console()
    table = Table(box=None, pad_edge=False, show_header=False)
    for key, value in describe(source).items():
        table.add_row(f"[bold]{key}[/]", escape(value))
    console.print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    preview(source).save(path)
    console.print(f"\npreview: {path}", highlight=False, markup=False, soft_wrap=True)
    return 0
