"""genus reconstruct RUN"""

import dataclasses
from pathlib import Path

import tyro

from genus.cli import flags
from genus.cli.exploring import Whose

ABOUT = """What the latents of a run keep: data above what is decoded from their latents.

examples:
  genus reconstruct runs/vae-...                        eight random test items
  genus reconstruct runs/vqvae-... --items 3 17 4       codes are latents, too
  genus reconstruct runs/vae-... --picture me.jpg       your own pictures, in the run's size and colours
  genus reconstruct runs/vae-... --rows 1000            the error of 1,000 items; 16 of them are shown

Originals stand in the first row, their reconstructions in the second. The error is of all of them."""

SHOWN = 16


@dataclasses.dataclass
class ReconstructFlags(Whose):
    """Of which data."""

    run: tyro.conf.Positional[Path]
    """The run folder."""


def main(arguments: list[str]) -> int:
    """Write the picture, and print its path and the error."""
    chosen = flags.parse(ReconstructFlags, arguments or ["--help"], "genus reconstruct", ABOUT)

    import torch

    from genus.cli.exploring import chosen_data, opened, write
    from genus.contract import HasLatents, require
    from genus.explore import reconstruct

    run = opened(chosen.run, chosen.out)
    require(run.model, HasLatents, "encode")
    x, condition, what = chosen_data(run, chosen)
    again = reconstruct(run.model, x, condition).cpu()
    print(f"columns: {what}" if len(x) <= SHOWN else f"{len(x):,} test items, the first {SHOWN} shown")
    print(run.domain.error(x, again))
    write(run, torch.stack([x[:SHOWN], again[:SHOWN]]), chosen.out, f"reconstruct-{chosen.which()}")
    return 0
