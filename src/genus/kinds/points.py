"""Clouds of points in no order."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from genus.kinds._domain import Domain, Reading
from genus.prob import noise


@dataclass(frozen=True)
class Points(Domain):
    """A cloud of ``count`` points in ``dim`` dimensions; their order carries no meaning."""

    kind: ClassVar[str] = "points"
    plural: ClassVar[str] = "point clouds"
    dtype: ClassVar[torch.dtype] = torch.float32
    read_as: ClassVar[Reading] = "points"

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

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return (cls(16, 3),)

    def toy(self, label: Tensor, name: str = "toy") -> Tensor:
        normal = noise.normal((len(label), self.count, self.dim), self._toys(name))
        return 2 + (1 + 0.5 * self._wide(label)) * torch.nn.functional.normalize(normal, dim=-1)

    def __str__(self) -> str:
        return f"{self.count} points in {self.dim}-D"
