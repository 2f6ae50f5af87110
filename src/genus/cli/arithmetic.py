"""genus arithmetic RUN"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from genus.cli import flags
from genus.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from genus.runs import Run

ABOUT = """What a group has and another has not, added to data: in the latents of a run.

examples:
  genus arithmetic runs/glow-glyphs-... --minus weight=regular --plus weight=bold
  genus arithmetic runs/vae-yalefaces-... --minus expression=neutral --plus expression=happy --to glasses=yes
  genus arithmetic runs/vae-mnist-... --minus label=3 --plus label=8 --to 4 8 15 --scale 1 2
  genus arithmetic runs/glow-glyphs-... --minus 'rotation<0' --plus 'rotation>0' --to label=A,weight=bold

result = decode(latents of an item + scale * (mean latents of PLUS - mean latents of MINUS)). The means are of
training items, what they are added to are test items. Groups are named by the label or by attributes of the data
(genus data NAME lists them), joined by commas if several must hold. Originals stand in the first row, then a row
for each scale."""


@dataclasses.dataclass
class ArithmeticFlags:
    """Which groups, and what to add their difference to."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    minus: str
    """The group to go away from: NAME=VALUE."""
    plus: str
    """The group to go towards: NAME=VALUE."""
    to: tuple[str, ...] = ()
    """Test items by number, or a group of them (default: the test items of the group MINUS)."""
    scale: tuple[float, ...] = (0.5, 1.0, 1.5)
    """How much to add; a row each."""
    count: int = 8
    """How many test items of a group."""
    seed: int = 0
    """Which random ones of the group."""
    out: Path | None = None
    """The file to write: a picture (.png), or arrays (.npz) (default: in RUN/explore)."""


def main(arguments: list[str]) -> int:
    """Write the picture and print its path."""
    chosen = flags.parse(ArithmeticFlags, arguments or ["--help"], "genus arithmetic", ABOUT)

    import torch

    from genus.cli.exploring import data, listed, opened, write
    from genus.contract import HasLatents, require
    from genus.explore import add, difference, members
    from genus.explore.moves import MOST, encode_items

    if not chosen.scale:
        raise SettingsError("--scale: expected at least one number.")
    run = opened(chosen.run, chosen.out)
    require(run.model, HasLatents, "encode")
    means = []
    for words in (chosen.minus, chosen.plus):
        group = members(words, run.source, run.source.train)
        print(f"{words}: {len(group):,} training items" + (f", the first {MOST} taken" if len(group) > MOST else ""))
        means.append(encode_items(run.model, run.source.train, group[:MOST]))
    index = _targets(run, chosen)
    x, condition = data(run, index)
    moved = add(run.model, x, difference(*means), chosen.scale, condition)
    print(f"columns: test items {listed(index)}")
    print("rows: the originals, then scales " + ", ".join(f"{scale:g}" for scale in chosen.scale))
    name = f"arithmetic-{chosen.plus}-minus-{chosen.minus}" + ("-to-" + "-".join(chosen.to[:8]) if chosen.to else "")
    write(run, torch.cat([x.unsqueeze(0), moved.cpu().transpose(0, 1)]), chosen.out, name)
    return 0


def _targets(run: "Run", chosen: ArithmeticFlags) -> "Tensor":
    """The test items that are moved."""
    from genus.cli.exploring import items
    from genus.explore import members
    from genus.prob import noise

    if chosen.to and all(word.lstrip("-").isdigit() for word in chosen.to):
        return items(run, tuple(map(int, chosen.to)), 1, 0)
    if len(chosen.to) > 1:
        raise SettingsError(f"--to: expected item numbers, or one group; got {' '.join(chosen.to)!r}.")
    if chosen.count < 1:
        raise SettingsError(f"--count: expected 1 or more; got {chosen.count}.")
    group = members(chosen.to[0] if chosen.to else chosen.minus, run.source, run.source.test, fewest=1)
    order = noise.permutation(len(group), noise.stream(chosen.seed, "explore"))
    return group[order[: chosen.count]]
