"""What can be done with a trained model besides sampling: move in its latents, complete what is kept."""

from genus.explore.completion import complete, keep_mask
from genus.explore.directions import Directions, coordinates, directions, named, principal
from genus.explore.groups import members, sides
from genus.explore.latents import (
    add,
    decode,
    difference,
    encode,
    interpolate,
    plane,
    quantiles,
    reconstruct,
    shift,
    sweep,
    traverse,
)
from genus.explore.moves import displacement
from genus.explore.own import read_own

__all__ = [
    "Directions",
    "add",
    "complete",
    "coordinates",
    "decode",
    "difference",
    "directions",
    "displacement",
    "encode",
    "interpolate",
    "keep_mask",
    "members",
    "named",
    "plane",
    "principal",
    "quantiles",
    "read_own",
    "reconstruct",
    "shift",
    "sides",
    "sweep",
    "traverse",
]
