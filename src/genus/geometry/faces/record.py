"""What a face is before it is drawn: a record of its causes, drawn from one uniform number each."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXPRESSIONS = ("neutral", "smile", "sad", "surprised")
HAIR = ("bald", "short", "spiky", "curly", "bun", "straight", "wavy")
HAIR_COLOURS = ("black", "brown", "red", "blond", "grey")
GLASSES = ("none", "round", "square", "sunglasses")
HATS = ("none", "cap", "beanie", "brimmed")
HAT_COLOURS = ("red", "blue", "green", "yellow", "black")
BEARDS = ("none", "moustache", "full")
EYE_COLOURS = ("brown", "blue", "green", "grey")
STYLES = ("shaded", "drawn")
BACKGROUNDS = ("blue", "green", "yellow", "pink", "purple", "grey", "orange", "white")
PATTERNS = ("plain", "gradient", "glow", "stripes", "dots")
BALD, SHORT, SPIKY, CURLY, BUN, STRAIGHT, WAVY = range(len(HAIR))
_, ROUND, SQUARE, SUNGLASSES = range(len(GLASSES))
BLACK = HAT_COLOURS.index("black")

MOODS = ("mouth", "bow", "upper", "lower", "ring", "lids", "lift", "worry")  # the fields that an expression sets
MOOD = np.array([
    # mouth bow    upper  lower  ring lids  lift   worry
    [0.145, 0.015, 0.000, 0.000, 0.0, 1.00, 0.000, 0.00],
    [0.200, 0.110, 0.000, 0.100, 0.2, 0.90, 0.010, 0.00],
    [0.150, -0.10, 0.000, 0.000, 0.0, 0.80, 0.000, 0.09],
    [0.090, 0.000, 0.070, 0.100, 1.0, 1.30, 0.080, 0.00],
])  # fmt: skip


Law = Callable[[Floats], NDArray[Any]]


def choice(*weights: float) -> Law:
    """Uniform numbers as 0, 1, ..., as often as the weights say."""
    edges = np.cumsum(weights)[:-1] / sum(weights)
    return lambda u: np.searchsorted(edges, u, side="right")


def between(low: float, high: float) -> Law:
    """Uniform numbers on an interval."""
    return lambda u: low + (high - low) * u


@dataclass(frozen=True)
class Faces:
    """N faces; every field is an array ``(N,)``, or ``(N, 1, 1)`` while they are painted.

    Choices are numbers of the tuples above. turn: to the left (-1) and the right (1) of the picture, 26 degrees each
    (clips go to 2); tilt: the head leans to the left and right, 12 degrees each; light: where the light comes from.
    skin: 0 light to 1 dark. Lengths are such that the sides of the picture are 2; uniform numbers in [0, 1) choose
    among shades and details. The last eight are set by the expression, and are between two of them in clips.
    """

    expression: Annotated[Ints, choice(1, 1, 1, 1)]
    hair: Annotated[Ints, choice(1, 2, 1, 1.5, 1, 1.5, 1.5)]
    hair_colour: Annotated[Ints, choice(1.3, 1.3, 1, 1.2, 0.8)]
    glasses: Annotated[Ints, choice(5, 2, 2, 1.5)]
    hat: Annotated[Ints, choice(6, 1.5, 1.5, 1.2)]
    hat_colour: Annotated[Ints, choice(1, 1, 1, 1, 1)]
    beard: Annotated[Ints, choice(6, 1.5, 2.5)]
    eye_colour: Annotated[Ints, choice(2, 1.3, 1, 1)]
    closed: Annotated[Ints, choice(9, 1)]
    style: Annotated[Ints, choice(7, 3)]
    background: Annotated[Ints, choice(1, 1, 1, 1, 1, 1, 1, 1)]
    pattern: Annotated[Ints, choice(1, 1, 1, 1, 1)]
    fringe: Annotated[Ints, choice(1, 1, 1)]
    collar: Annotated[Ints, choice(1, 1, 1)]
    turn: Annotated[Floats, between(-1, 1)]
    tilt: Annotated[Floats, between(-1, 1)]
    nod: Annotated[Floats, between(-1, 1)]
    light: Annotated[Floats, between(-1, 1)]
    strength: Annotated[Floats, between(0, 1)]
    skin: Annotated[Floats, between(0, 1)]
    width: Annotated[Floats, between(0.43, 0.49)]
    height: Annotated[Floats, between(0.56, 0.63)]
    jaw: Annotated[Floats, between(0.0, 0.24)]
    square: Annotated[Floats, between(0.0, 0.7)]
    zoom: Annotated[Floats, between(1.0, 1.14)]
    left: Annotated[Floats, between(-0.05, 0.05)]
    top: Annotated[Floats, between(-0.03, 0.03)]
    apart: Annotated[Floats, between(0.175, 0.205)]
    eye: Annotated[Floats, between(0.9, 1.15)]
    gaze: Annotated[Floats, between(-1, 1)]
    nose: Annotated[Floats, between(0.8, 1.25)]
    thick: Annotated[Floats, between(0.016, 0.032)]
    volume: Annotated[Floats, between(0.05, 0.09)]
    parting: Annotated[Floats, between(-1, 1)]
    blush: Annotated[Floats, between(0, 1)]
    shade: Annotated[Floats, between(0, 1)]
    tone: Annotated[Floats, between(0, 1)]
    cloth: Annotated[Floats, between(0, 1)]
    frame: Annotated[Floats, between(0, 1)]
    detail: Annotated[Floats, between(0, 1)]
    vigour: Annotated[Floats, between(0.9, 1.1)]
    mouth: Floats
    bow: Floats
    upper: Floats
    lower: Floats
    ring: Floats
    lids: Floats
    lift: Floats
    worry: Floats

    @classmethod
    def drawn(cls, u: Floats) -> Self:
        """The faces of uniform numbers ``(N, NUMBERS)`` in [0, 1), one column a field.

        What could not be seen is not there: spikes and buns of hair under a hat are short hair, and eyes behind
        sunglasses are open.
        """
        drawn: dict[str, Any] = {name: law(u[:, k]) for k, (name, law) in enumerate(LAWS.items())}
        hidden = (drawn["hat"] > 0) & np.isin(drawn["hair"], (SPIKY, BUN))
        drawn["hair"] = np.where(hidden, SHORT, drawn["hair"])
        drawn["closed"] = np.where(drawn["glasses"] == SUNGLASSES, 0, drawn["closed"])
        mood = MOOD[drawn["expression"]] * drawn["vigour"][:, None]
        drawn |= dict(zip(MOODS, mood.T.copy(), strict=True))
        drawn["lids"] = np.where(drawn["closed"] == 1, 0.0, drawn["lids"])
        return cls(**drawn)

    def __len__(self) -> int:
        return len(self.turn)

    def map(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Self:
        """The faces with every field changed in the same way."""
        return replace(self, **{cause.name: change(getattr(self, cause.name)) for cause in fields(self)})

    def at(self, index: Any) -> Self:
        """Some of the faces, in this order."""
        return self.map(lambda values: values[index])


LAWS: dict[str, Law] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Faces, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
NUMBERS = len(LAWS)
"""Uniform numbers that a face takes."""
