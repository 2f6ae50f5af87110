"""Clouds of points in no order."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from genus.kinds._domain import Domain


@dataclass(frozen=True)
class Points(Domain):
    """A cloud of ``count`` points in ``dim`` dimensions; their order carries no meaning."""

    kind: ClassVar[str] = "points"
    plural: ClassVar[str] = "point clouds"
    dtype: ClassVar[torch.dtype] = torch.float32

    count: int
    dim: int = 3

    def __post_init__(self) -> None:
        if self.count < 1 or self.dim < 1:
            raise ValueError(f"points need count >= 1 and dim >= 1; got {self!r}.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, self.dim)

    @property
    def levels(self) -> None:
        return None

    def __str__(self) -> str:
        return f"{self.count} points in {self.dim}-D"
