"""Codes on grids of several resolutions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from genus.kinds._domain import SHEET, Discrete, Domain, Sheet
from genus.kinds.grid import Grid

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True)
class Pyramid(Discrete):
    """Codes on grids of ``scales`` resolutions, each half as fine as the next; the finest has ``size``.

    A datum ``(num_dims,)`` is the grids one after the other, the coarsest first. Codes have no order.
    """

    kind: ClassVar[str] = "pyramid"
    plural: ClassVar[str] = "pyramids of codes"

    size: tuple[int, ...]
    scales: int
    levels: int = field(default=512)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(s) for s in self.size))
        if not self.size or min(self.size) < 1 or self.scales < 1 or self.levels < 2:
            raise ValueError(f"a pyramid needs sizes >= 1, scales >= 1 and levels >= 2; got {self!r}.")

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """The size of each grid, the coarsest first; halves round up."""
        return tuple(tuple(-(-s // 2**k) for s in self.size) for k in reversed(range(self.scales)))

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(map(math.prod, self.sizes)),)

    def grids(self, x: Tensor) -> list[Tensor]:
        """Data ``(B, num_dims)`` as their grids, ``(B, *size)`` each, the coarsest first."""
        parts = x.split([math.prod(size) for size in self.sizes], 1)
        return [part.unflatten(1, size) for part, size in zip(parts, self.sizes, strict=True)]

    def join(self, grids: Sequence[Tensor]) -> Tensor:
        """The inverse of `grids`."""
        return torch.cat([grid.flatten(1) for grid in grids], 1)

    @property
    def ordered(self) -> bool:
        return False

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return (cls((2, 2), 2, 2),)  # 32 states

    @property
    def members(self) -> tuple[tuple[str, Domain], ...]:
        names = ["x".join(map(str, size)) for size in self.sizes]  # grids of one cell may come twice
        return tuple((name + "'" * names[:n].count(name), Grid(1, size, self.levels, ordered=False))
                     for n, (name, size) in enumerate(zip(names, self.sizes, strict=True)))  # fmt: skip

    def split(self, x: Tensor) -> dict[str, Tensor]:
        return {name: grid.unsqueeze(1) for (name, _), grid in zip(self.members, self.grids(x), strict=True)}

    def draw(self, x: Tensor, sheet: Sheet = SHEET) -> "PIL.Image.Image":
        """Its grids side by side, each as large as the finest."""
        grids = [interpolate(grid.float(), self.size, mode="nearest-exact") for grid in self.split(x).values()]
        whole = torch.cat(grids, -1).to(self.dtype)
        return Grid(1, tuple(whole.shape[2:]), self.levels).draw(whole, sheet)

    def __str__(self) -> str:
        return f"codes on grids {', '.join('x'.join(map(str, size)) for size in self.sizes)}, {self.levels} codes"
