"""genus interpolate RUN"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from genus.cli import flags
from genus.errors import SettingsError

ABOUT = """Pictures from one datum to another, through the latents of a run.

examples:
  genus interpolate runs/glow-...                        eight pairs of random test items
  genus interpolate runs/glow-... --items 3 17           from test item 3 to test item 17
  genus interpolate runs/vae-... --items 3 17 4 8 --method linear --steps 12

A row for each pair. Its ends are the data themselves, what lies between is decoded. Any model with latents
can do it: vae, glow, realnvp, ... docs/editing.md says what spherical and linear do to the latents' length."""


@dataclasses.dataclass
class InterpolateFlags:
    """Between what, and how."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    items: tuple[int, ...] = ()
    """Test items, two for each row: from, to, from, to, ... (default: random ones)."""
    count: int = 8
    """How many rows, if no items are given."""
    steps: int = 9
    """Pictures in a row, the two ends among them."""
    method: Literal["spherical", "linear"] = "spherical"
    """spherical keeps the latents as long as they are; linear takes the straight line, which is shorter half way."""
    seed: int = 0
    """Which random items."""
    out: Path | None = None
    """The file to write: a picture (.png), or arrays (.npz) (default: in RUN/explore)."""


def main(arguments: list[str]) -> int:
    """Write the picture and print its path."""
    chosen = flags.parse(InterpolateFlags, arguments or ["--help"], "genus interpolate", ABOUT)

    from genus.cli.exploring import data, items, opened, write
    from genus.contract import HasLatents, require
    from genus.explore import interpolate

    if len(chosen.items) % 2:
        raise SettingsError(f"--items: expected two for each row, from and to; got {len(chosen.items)}.")
    run = opened(chosen.run, chosen.out)
    require(run.model, HasLatents, "encode")
    index = items(run, chosen.items, 2 * chosen.count, chosen.seed)
    index = index[: len(index) // 2 * 2].view(-1, 2)
    (a, of_a), (b, of_b) = (data(run, column) for column in index.T)
    conditions = None if of_a is None or of_b is None else (of_a, of_b)
    rows = interpolate(run.model, a, b, chosen.steps, method=chosen.method, conditions=conditions)
    rows[:, 0], rows[:, -1] = a, b
    print("rows: " + ", ".join(f"{one} to {other}" for one, other in index.tolist()))
    which = "-".join(map(str, chosen.items[:8])) or f"seed-{chosen.seed}"
    write(run, rows, chosen.out, f"interpolate-{chosen.method}-{which}")
    return 0
