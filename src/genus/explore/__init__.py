"""What can be done with a trained model besides sampling: move in its latents, complete what is kept."""

from genus.explore.completion import complete, keep_mask
from genus.explore.groups import members
from genus.explore.latents import Directions, add, difference, directions, encode, interpolate, traverse

__all__ = [
    "Directions",
    "add",
    "complete",
    "difference",
    "directions",
    "encode",
    "interpolate",
    "keep_mask",
    "members",
    "traverse",
]
