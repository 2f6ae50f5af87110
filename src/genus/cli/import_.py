"""genus import FOLDER"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from genus.cli import flags
from genus.errors import SettingsError

ABOUT = """A model of another library as a run, to sample, edit, score and report it as any other.

examples:
  genus import there/ddpm-cifar10 --data path/to/pictures --size 32
  genus import there --data mnist --out runs/theirs

diffusers: the folder of a DDPMPipeline. The data are what it is compared with: pictures of the size and colour that it
draws; a conditional U-Net wants as many labels as it has. Nothing is unpickled: weights must be safetensors."""


@dataclasses.dataclass
class ImportFlags:
    """Which folder, and the data that belong to it."""

    folder: tyro.conf.Positional[Path]
    """The folder."""
    data: str
    """The data that the model was trained on, or that it should be compared with: a named source, a file or folder."""
    library: Annotated[Literal["diffusers"], tyro.conf.arg(name="from")] = "diffusers"
    """The library."""
    out: Path | None = None
    """The run folder (default: runs/MODEL-DATA-HASH)."""
    size: int | None = None
    """Side of the pictures, where the data are read at another size."""
    colour: Literal["grey", "rgb"] | None = None
    """How the pictures are read (default: as they are)."""


def main(arguments: list[str]) -> int:
    """Make the run folder, and say what to do next."""
    chosen = flags.parse(ImportFlags, arguments or ["--help"], "genus import", ABOUT)

    from genus.data import data_options, open_source
    from genus.exchange import diffusers
    from genus.kinds import classes_of
    from genus.runs.config import RunConfig
    from genus.training import configure
    from genus.training.loop import adopt

    domain, classes, settings = diffusers.settings_of(chosen.folder)
    reading = {name: value for name in ("size", "colour") if (value := getattr(chosen, name)) is not None}
    source = open_source(chosen.data, data_options(**reading))
    if source.domain != domain:
        raise SettingsError(
            f"{chosen.folder} draws {domain}; {source.name} gives {source.domain}. --size and --colour say how "
            "pictures are read."
        )
    if classes is not None and classes_of(source.condition) != classes:
        raise SettingsError(f"{chosen.folder} draws {classes} classes; {source.name} has {source.condition}.")
    given = {**settings, **reading}
    config = configure("ddpm", chosen.data, conditional=classes is not None, domain=source.domain, **given)
    assert isinstance(config, RunConfig)  # of one stage
    run = adopt(config, chosen.out, lambda model: diffusers.copy_into(model, chosen.folder))
    words = ("sample", "evaluate", "report")
    Console().print(
        "\n".join([f"done: {run.path}", *(f"  genus {w} {run.path}" for w in words)]),
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0
