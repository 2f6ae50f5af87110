"""genus traverse RUN"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from genus.cli import flags
from genus.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from genus.runs import Run

ABOUT = """Pictures along directions in the latents of a run, or on the plane of two of them.

examples:
  genus traverse runs/vae-...                            from the mean latent, the eight most active units
  genus traverse runs/vae-... --item 3                   from test item 3
  genus traverse runs/vae-... --range prior              each unit in the range of its prior
  genus traverse runs/vae-... --plane                    the plane of the two most active units
  genus traverse runs/vae-... --plane 3 7 --steps 20     the plane of latent-3 and latent-7
  genus traverse runs/glow-... --directions 4 --reach 6  principal directions of the encoded training data

A row for each direction, the most active first: -3 to +3 standard deviations of the encoded training data.
Of latents of up to 64 numbers the directions are the numbers themselves (latent-0, ...), of larger ones
principal directions (pca-1, ...); genus edit --move takes these names.

--range prior and --plane set the coordinates themselves, from the 1 % to the 99 % quantile, in steps of equal
probability: of the prior where that is standard normal (VAEs), else of the encoded training data."""

DIRECTIONS, REACH = 8, 3.0


@dataclasses.dataclass
class TraverseFlags:
    """From where, and along what."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    item: int | None = None
    """The test item to start from (default: the mean latent of the training data)."""
    plane: tuple[str, ...] | None = None
    """The plane of two latents: their numbers (from 0), or names as pca-1; without any, of the two most active ones.
    The first runs from left to right, the second from top to bottom."""
    directions: int = DIRECTIONS
    """How many directions."""
    steps: int | None = None
    """Pictures in a row (default: 7, of a plane 15); of an odd number, the middle one has not moved."""
    range: Literal["data", "prior"] = "data"
    """data goes by deviations of the encoded data, prior through the range of the prior."""
    reach: float = REACH
    """How far to go, in standard deviations of the encoded training data."""
    label: str | None = None
    """The label to decode with, of a conditional run (default: the item's own; of the mean, the first one)."""
    out: Path | None = None
    """The file to write: a picture (.png), or arrays (.npz) (default: in RUN/explore)."""


def main(arguments: list[str]) -> int:
    """Write the picture, and print its path and the directions."""
    chosen = flags.parse(TraverseFlags, arguments or ["--help"], "genus traverse", ABOUT)
    _refuse_misfits(chosen)

    from genus.cli.exploring import opened, write
    from genus.contract import HasLatents, require
    from genus.explore import directions, named, plane, quantiles, sweep, traverse
    from genus.explore.moves import encode_some

    run = opened(chosen.run, chosen.out)
    require(run.model, HasLatents, "encode")
    encoded = encode_some(run.model, run.source.train)
    if chosen.plane:
        along = named([f"latent-{name}" if name.isdigit() else name for name in chosen.plane], encoded)
    else:
        along = directions(encoded, chosen.directions if chosen.plane is None else 2)
    start, label = _start(run, chosen, encoded)
    steps = chosen.steps if chosen.steps is not None else 7 if chosen.plane is None else 15
    told, what = "", "traverse"
    if chosen.plane is None and chosen.range == "data":
        rows = traverse(run.model, start, along, steps, reach=chosen.reach, condition=label)
    else:
        to, distribution = quantiles(run.model, encoded, along, steps)
        move, what = (sweep, "traverse-prior") if chosen.plane is None else (plane, f"plane-{'-'.join(along.names)}")
        rows = move(run.model, start, along, to, condition=label)
        told = f"from the 1 % to the 99 % quantile of {distribution}, in steps of equal probability"
    for name, deviation in zip(along.names, along.deviations.tolist(), strict=True):
        print(f"{name}, standard deviation {deviation:.3g}")
    if told:
        print(told)
    where = "mean" if chosen.item is None else f"item-{chosen.item}"
    write(run, rows, chosen.out, f"{what}-{where}" + (f"-{chosen.label}" if chosen.label else ""))
    return 0


def _refuse_misfits(chosen: TraverseFlags) -> None:
    """Flags that another one leaves without a meaning."""
    if chosen.plane is not None and len(chosen.plane) not in (0, 2):
        raise SettingsError(f"--plane: expected two latents, or none for the most active; got {len(chosen.plane)}.")
    if chosen.plane is not None and chosen.directions != DIRECTIONS:
        raise SettingsError("--directions counts rows, and a plane has two directions: leave one of them out.")
    if chosen.reach != REACH and (chosen.plane is not None or chosen.range == "prior"):
        raise SettingsError("--reach counts deviations, --plane and --range prior go by quantiles: give one of them.")


def _start(run: "Run", chosen: TraverseFlags, encoded: "Tensor") -> "tuple[Tensor, Tensor | None]":
    """The latent from which to go, of an item or the mean of the data, and the label with which to decode."""
    from genus.cli.exploring import data, items, labels
    from genus.explore import encode
    from genus.kinds import names_of

    label = labels(run, chosen.label, 1, "--label")[0] if chosen.label else None
    if chosen.item is not None:
        datum, own = data(run, items(run, (chosen.item,), 1, 0))
        return encode(run.model, datum, own)[0], own[0] if label is None and own is not None else label
    if label is None and names_of(run.condition):
        label = labels(run, names_of(run.condition)[0], 1, "--label")[0]
    return encoded.double().mean(0).to(encoded.dtype), label
