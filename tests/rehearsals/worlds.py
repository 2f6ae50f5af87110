"""Small worlds of their own for the rehearsals, opened as ``--data toy:NAME``."""

import math

import torch
from torch import Tensor

from genus.data import DataOptions, Source, TensorSplit
from genus.kinds import Domain, Grid, Parts, Points, Tokens, Vectors
from genus.prob import noise

SIDE, PEOPLE, PAST, FUTURE = 8, 3, 4, 3
TRAIN, HELD_OUT = 96, 24
GREY, BINARY = Grid(1, (SIDE, SIDE), 16), Grid(1, (SIDE, SIDE), 2)
PLACES = Grid(1, (PEOPLE,), 2)  # of a scene: which of them somebody is in
SCENE = Parts((("present", PLACES), ("future", Vectors(PEOPLE * FUTURE * 2))))
HISTORY = Parts((("present", PLACES), ("past", Vectors(PEOPLE * PAST * 2))))
CAPTION = Tokens(3, 6, ("small", "large", "disc", "square", "left", "right"))


def discs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Discs and squares ``(count, 1, SIDE, SIDE)`` of zeros and ones, the distance of each pixel to the edge, and what
    each is: large or not, a square or not, on the right or not, ``(count, 3)``."""
    large, square, right = (noise.integers(2, (count,), generator) for _ in range(3))
    radius = (1.5 + 1.2 * large + 0.3 * noise.uniform((count,), generator)).view(-1, 1, 1)
    middle = noise.uniform((count, 2), generator) + torch.stack([torch.full((count,), 3.0), 2 + 2.0 * right], 1)
    places = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1).float()
    offset = (places - middle[:, None, None]).abs()
    distance = torch.where(square[:, None, None] == 1, offset.amax(-1), offset.square().sum(-1).sqrt()) - radius
    return (distance < 0).long().unsqueeze(1), distance.unsqueeze(1), torch.stack([large, square, right], 1)


def shapes(count: int, generator: torch.Generator) -> tuple[Tensor, None]:
    """Binary shapes."""
    return discs(count, generator)[0].to(BINARY.dtype), None


def greys(count: int, generator: torch.Generator) -> tuple[Tensor, None]:
    """Grey shapes."""
    return (15 * torch.sigmoid(-2 * discs(count, generator)[1])).round().to(GREY.dtype), None


def unpaired(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Bright shapes on dark ground, each with a dark shape on bright ground that has nothing to do with it."""
    return greys(count, generator)[0], 15 - greys(count, generator)[0]


def sketches(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Grey shapes with their outlines."""
    distance = discs(count, generator)[1]
    grey = (15 * torch.sigmoid(-2 * distance) * (0.5 + 0.5 * noise.uniform((count, 1, 1, 1), generator))).round()
    return grey.to(GREY.dtype), (distance.abs() < 0.7).to(BINARY.dtype)


def captions(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Binary shapes with three words on each."""
    x, _, told = discs(count, generator)
    return x.to(BINARY.dtype), (told + 2 * torch.arange(3)).to(CAPTION.dtype)


def scenes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One to three people who walk on straight lines, in metres; the past of each is known."""
    present = (torch.arange(PEOPLE) <= noise.integers(PEOPLE, (count, 1), generator)).long().unsqueeze(1)
    start = 10 * noise.uniform((count, PEOPLE, 1, 2), generator)
    angle = 2 * math.pi * noise.uniform((count, PEOPLE, 1), generator)
    step = torch.stack([angle.cos(), angle.sin()], -1) + 0.1 * noise.normal((count, PEOPLE, 1, 2), generator)
    walk = start + step * torch.arange(PAST + FUTURE).view(1, 1, -1, 1)
    walk = walk * present.view(count, PEOPLE, 1, 1)
    past, future = walk[:, :, :PAST].flatten(1), walk[:, :, PAST:].flatten(1)
    return SCENE.join({"present": present, "future": future}), HISTORY.join({"present": present, "past": past})


def ellipsoids(count: int, generator: torch.Generator) -> tuple[Tensor, None]:
    """Points on ellipsoids of three axes."""
    directions = torch.nn.functional.normalize(noise.normal((count, 32, 3), generator), dim=-1)
    return directions * (0.5 + noise.uniform((count, 1, 3), generator)), None


WORLDS = {
    "shapes": (shapes, BINARY, None), "greys": (greys, GREY, None), "unpaired": (unpaired, GREY, GREY),
    "sketches": (sketches, GREY, BINARY), "captions": (captions, BINARY, CAPTION),
    "scenes": (scenes, SCENE, HISTORY), "ellipsoids": (ellipsoids, Points(32, 3), None),
}  # fmt: skip


def open_world(name: str, options: DataOptions) -> Source:
    """The world ``toy:NAME``; a function of its name alone."""
    make, domain, condition = WORLDS[name]

    def split(part: str, count: int) -> TensorSplit:
        return TensorSplit(*make(count, noise.stream("world", name, part)))

    given: Domain | None = condition
    return Source(
        f"toy:{name}", domain, split("train", TRAIN), split("validation", HELD_OUT), split("test", HELD_OUT), given
    )
