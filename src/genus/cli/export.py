"""genus export RUN"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from genus.cli import flags

ABOUT = """Write a run's model as a folder of another library.

examples:
  genus export runs/ddpm-... --to diffusers              RUN/export/diffusers
  genus export runs/ddpm-... --to diffusers --out there

diffusers: a ddpm of pictures, for diffusers.DDPMPipeline.from_pretrained(FOLDER). From the same generator it draws the
samples that genus draws. The pipeline knows no labels; a conditional U-Net wants them as class_labels.
`genus import` makes a run of such a folder."""


@dataclasses.dataclass
class ExportFlags:
    """Of which run, to which library."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    to: Literal["diffusers"] = "diffusers"
    """The library."""
    out: Path | None = None
    """The folder to write (default: RUN/export/diffusers)."""


def main(arguments: list[str]) -> int:
    """Write the folder, and print its path."""
    chosen = flags.parse(ExportFlags, arguments or ["--help"], "genus export", ABOUT)

    from genus.exchange import diffusers
    from genus.runs import open_run

    run = open_run(chosen.run)
    out = chosen.out or run.path / "export" / chosen.to
    diffusers.write(run.model, out)
    print(out)
    return 0
