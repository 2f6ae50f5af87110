"""The chain rule driven entry by entry: to draw data, to complete them, to score them.

A *walk* (`genus.contract.HasConditionals`) yields ``(place, logits)`` of the next entry, with the logits
``(B, levels)``, and is sent that entry of every datum, ``(B,)``. What is sent decides what comes out.
"""

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from genus.prob import noise

Walk = Generator[tuple[int, Tensor], Tensor, None]


def drive(walk: Walk, choose: Callable[[int, Tensor], Tensor]) -> list[int]:
    """Send what ``choose(place, logits)`` gives, to the end of the walk; the places in the order in which they came."""
    places = []
    try:
        place, logits = next(walk)
        while True:
            places.append(place)
            place, logits = walk.send(choose(place, logits))
    except StopIteration:
        return places


def draw(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Entries ``(B,)`` int64 by their logits ``(B, levels)``."""
    if logits.shape[-1] == 2:
        return noise.bernoulli((logits[..., 1] - logits[..., 0]).sigmoid(), generator).long()
    return noise.categorical(logits, generator)


def fill(walk: Walk, x: Tensor, generator: torch.Generator | None = None, keep: Tensor | None = None) -> Tensor:
    """Draw the entries of ``x`` (B, D) that the walk comes to, in place, save where the boolean ``keep`` is True."""

    def choose(place: int, logits: Tensor) -> Tensor:
        drawn = draw(logits, generator).to(x.dtype)
        x[:, place] = drawn if keep is None else torch.where(keep[:, place], x[:, place], drawn)
        return x[:, place].long()

    drive(walk, choose)
    return x


def score(walk: Walk, x: Tensor) -> Tensor:
    """The sum of log p over the entries of ``x`` (B, D) that the walk comes to: ``(B,)``, in the logits' dtype."""
    nats = []

    def choose(place: int, logits: Tensor) -> Tensor:
        entry = x[:, place].long()
        nats.append(logits.log_softmax(-1).gather(-1, entry.unsqueeze(-1)).squeeze(-1))
        return entry

    drive(walk, choose)
    return torch.stack(nats).sum(0)
