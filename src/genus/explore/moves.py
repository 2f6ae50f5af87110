"""Moves in latents that have names: ``expression=happy``, ``label=9-7:0.5``, ``pca-1:2``, ``latent-7:-3``.

The directions are found from training data: a group's mean less another's, a number of the latents, or a
principal direction. Several moves add up.
"""

import torch
from torch import Tensor

from genus.contract import GenerativeModel
from genus.data import Source, TensorSplit
from genus.errors import SettingsError
from genus.explore.directions import NAMED, named
from genus.explore.groups import sides
from genus.explore.latents import difference, encode
from genus.prob import noise

MOST = 1000  # training items that are encoded for a mean or for directions


def encode_items(model: GenerativeModel, split: TensorSplit, index: Tensor) -> Tensor:
    """The latents of items of a split, each encoded with its own label where the model has labels."""
    x, condition, _ = split.batch(index)
    return encode(model, x, None if model.condition is None else condition)


def encode_some(model: GenerativeModel, split: TensorSplit) -> Tensor:
    """The latents of a thousand random items, always the same: what directions are found from."""
    return encode_items(model, split, noise.permutation(len(split), noise.stream(0, "explore"))[:MOST])


def displacement(moves: tuple[str, ...], model: GenerativeModel, source: Source) -> tuple[Tensor, tuple[str, ...]]:
    """What moves add to latents, ``(*latent shape)`` in float64, and a sentence on each.

    moves: NAME[:SCALE]. A group of `members` goes from the mean of all others to its own, NAME=ONE-OTHER from the
    mean of OTHER to that of ONE; latent-K and pca-K go one standard deviation of the encoded training data.
    """
    if not moves:
        raise SettingsError("expected at least one move.")
    some: Tensor | None = None  # is encoded once, and only where directions are asked for
    total, said = torch.zeros(()), []
    for words in moves:
        name, scale = with_scale(words)
        if NAMED.fullmatch(name):
            some = encode_some(model, source.train) if some is None else some
            along = named((name,), some)
            step = (along.deviations[0] * along.vectors[0]).view(some.shape[1:])
            said.append(f"{name}: {scale:g} standard deviations of {float(along.deviations[0]):.3g}")
        else:
            plus, minus = sides(name, source, source.train)
            step = difference(*(encode_items(model, source.train, group[:MOST]) for group in (minus, plus)))
            said.append(
                f"{name}: {scale:g} times the difference of means, {len(plus):,} and {len(minus):,} training items"
            )
        total = total.to(step) + scale * step
    return total, tuple(said)


def with_scale(words: str) -> tuple[str, float]:
    """The name of a move, and how far to go: what stands behind the last colon, 1 where there is none."""
    name, colon, end = words.rpartition(":")
    if not colon:
        return words, 1.0
    try:
        scale = float(end)
    except ValueError:
        scale = float("nan")
    if not abs(scale) < float("inf"):
        raise SettingsError(f"{words!r}: expected NAME:SCALE with a finite number behind the colon; got {end!r}.")
    return name, scale
