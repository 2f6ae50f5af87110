"""Integers on a regular grid: pictures, voxels, clips, codes."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from genus.kinds._domain import Discrete, Domain, Reading


def usual_axes(count: int) -> str:
    """The names of a grid's axes where nobody gives them: x; y and x; z, y and x."""
    return "abcdefghijklmnopqrstuvwzyx"[-count:]


@dataclass(frozen=True)
class Grid(Discrete):
    """Integer values on a regular grid: pictures (2-D), voxels or clips (3-D).

    A datum has shape ``(channels, *size)`` and entries ``0 .. levels-1``, stored as
    uint8 where they fit and int64 otherwise. Binary pictures have two levels.

    ordered: whether neighbouring levels are alike, as grey values are; the codes of a codebook are not.
    axes: a letter for each axis of ``size``: ``yx`` (pictures), ``zyx`` (voxels), ``tyx`` (clips), ``x`` and so on.
    By default the last letters of ``...wzyx``.
    """

    kind: ClassVar[str] = "grid"
    plural: ClassVar[str] = "pictures and grids"
    read_as: ClassVar[Reading] = "planes"
    on_grid: ClassVar[bool] = True

    channels: int
    size: tuple[int, ...]
    levels: int = field(default=256)  # a field may implement a property
    ordered: bool = field(default=True, repr=False)  # not shown: fingerprints hold the repr, and are older
    axes: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(s) for s in self.size))
        if not self.axes:
            object.__setattr__(self, "axes", usual_axes(len(self.size)))
        if len(self.axes) != len(self.size) or len(set(self.axes)) != len(self.axes):
            raise ValueError(f"a grid needs a letter of its own for each axis; got {self.axes!r} for {self.size}.")
        if self.channels < 1 or not self.size or min(self.size) < 1 or self.levels < 2:
            raise ValueError(f"a grid needs channels >= 1, sizes >= 1 and levels >= 2; got {self!r}.")

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return (
            cls(1, (2, 2), 2),  # 16 states: small enough for sums over all of them
            cls(1, (1, 2), 5),  # 25 states
            cls(1, (8, 8), 256),
            cls(3, (5, 7), 4),  # channels and odd sizes
            cls(1, (4, 4, 4), 2),  # voxels
            cls(1, (3, 4, 4), 5, axes="tyx"),  # a clip
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.size)

    def to_json(self) -> dict[str, Any]:
        described = super().to_json()
        if self.ordered:
            del described["ordered"]
        if self.axes == usual_axes(len(self.size)):
            del described["axes"]
        return described

    @property
    def is_picture(self) -> bool:
        return self.axes == "yx"

    @property
    def is_clip(self) -> bool:
        return self.axes == "tyx"

    @property
    def sort(self) -> str:
        return self.kind if self.ordered else "codes"

    def __str__(self) -> str:
        kind = "levels" if self.ordered else "codes"
        name = "clip" if self.is_clip else "grid"
        return f"{name} {self.channels}x{'x'.join(map(str, self.size))}, {self.levels} {kind}"


def picture_of(domain: Domain, *channels: int) -> Grid | None:
    """The grid of a domain of pictures (of so many channels, if any are given); None for all others."""
    is_one = isinstance(domain, Grid) and domain.is_picture and (not channels or domain.channels in channels)
    return domain if is_one else None  # type: ignore[return-value]
