"""genus traverse RUN"""

import dataclasses
from pathlib import Path

import tyro

from genus.cli import flags

ABOUT = """Pictures along the directions in which the latents of a run vary most.

examples:
  genus traverse runs/vae-...                            from the mean latent, the eight most active units
  genus traverse runs/vae-... --item 3                   from test item 3
  genus traverse runs/glow-... --directions 4 --reach 6  principal directions of the encoded training data

A row for each direction, the most active first: -3 to +3 standard deviations of the encoded training data.
Of latents of up to 64 numbers the directions are the numbers themselves, of larger ones principal directions."""


@dataclasses.dataclass
class TraverseFlags:
    """From where, and along what."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    item: int | None = None
    """The test item to start from (default: the mean latent of the training data)."""
    directions: int = 8
    """How many directions."""
    steps: int = 7
    """Pictures in a row; of an odd number the middle one has not moved."""
    reach: float = 3.0
    """How far to go, in standard deviations of the encoded training data."""
    out: Path | None = None
    """The picture to write (default: in RUN/explore)."""


def main(arguments: list[str]) -> int:
    """Write the picture, and print its path and the directions."""
    chosen = flags.parse(TraverseFlags, arguments or ["--help"], "genus traverse", ABOUT)

    from genus.cli.exploring import MOST, data, items, write
    from genus.contract import HasLatents, require
    from genus.explore import directions, encode, traverse
    from genus.training import Run

    run = Run(chosen.run)
    require(run.model, HasLatents, "encode")
    x, labels = data(run, items(run, (), MOST, 0, "train"), "train")
    encoded = encode(run.model, x, labels)
    along = directions(encoded, chosen.directions)
    if chosen.item is None:
        start, label = along.centre.view(encoded.shape[1:]).to(encoded.dtype), None if labels is None else labels[0]
    else:
        datum, of_datum = data(run, items(run, (chosen.item,), 1, 0))
        start, label = encode(run.model, datum, of_datum)[0], None if of_datum is None else of_datum[0]
    rows = traverse(run.model, start, along, chosen.steps, reach=chosen.reach, condition=label)
    for name, deviation in zip(along.names, along.deviations.tolist(), strict=True):
        print(f"{name}, standard deviation {deviation:.3g}")
    where = "mean" if chosen.item is None else f"item-{chosen.item}"
    write(run, rows, chosen.out, f"traverse-{where}")
    return 0
