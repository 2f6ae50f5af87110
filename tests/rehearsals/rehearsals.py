"""The rehearsals by name, with the worlds that they live in; run as a program, `genus` that knows them."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from auto_decoder import AutoDecoder
from captioned import Captioned
from charted_surface import ChartedSurface
from crowd import Crowd
from growing_gan import GrowingGAN
from sketch_to_picture import SketchToPicture
from unpaired_game import UnpairedGame
from worlds import HISTORY, SCENE, open_world

from genus.contract import GenerativeModel
from genus.data import named
from genus.testing import Subject, registered


@dataclass(frozen=True)
class Rehearsal:
    """A species of a later issue, in small: its model, its data, how it is trained here."""

    model: type[GenerativeModel]
    name: str
    family: str
    world: str
    settings: dict[str, Any] = field(default_factory=dict)
    subjects: tuple[Subject, ...] = ()  # where none of the tiny domains fits

    @property
    def training(self) -> dict[str, Any]:
        """Keyword arguments of `genus.train`."""
        return {"data": f"toy:{self.world}", "steps": 24, "batch_size": 8, "checkpoint_seconds": 0, **self.settings}


REHEARSALS = {
    rehearsal.name: rehearsal
    for rehearsal in (
        Rehearsal(AutoDecoder, "auto_decoder", "latent", "shapes", {"hidden": 8}),
        Rehearsal(GrowingGAN, "growing_gan", "adversarial", "greys", {"criterion": "frechet"}),
        Rehearsal(
            UnpairedGame, "unpaired_game", "adversarial", "unpaired", {"conditional": True, "width": 4, "pool": 20}
        ),
        Rehearsal(Crowd, "crowd", "adversarial", "scenes", {"conditional": True}, (Subject(Crowd, SCENE, HISTORY),)),
        Rehearsal(ChartedSurface, "charted_surface", "latent", "ellipsoids"),
    )
}
ADDED = {
    rehearsal.name: rehearsal
    for rehearsal in (
        Rehearsal(SketchToPicture, "sketch_to_picture", "adversarial", "sketches", {"conditional": True, "width": 4}),
        Rehearsal(Captioned, "captioned", "autoregressive", "captions", {"conditional": True}),
    )
}
EVERY = REHEARSALS | ADDED


@contextmanager
def known() -> Iterator[None]:
    """Inside, genus knows all of these models, and ``toy:NAME`` for data."""
    with ExitStack() as stack:
        for rehearsal in EVERY.values():
            stack.enter_context(registered(rehearsal.model, family=rehearsal.family))
        named.SCHEMES["toy:"] = open_world
        stack.callback(named.SCHEMES.pop, "toy:")
        yield


if __name__ == "__main__":
    from genus.cli.__main__ import main

    with known():
        sys.exit(main(sys.argv[1:]))
