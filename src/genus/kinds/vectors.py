"""Rows of numbers in the units of a table."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from genus.kinds._domain import Domain


@dataclass(frozen=True)
class Vectors(Domain):
    """Rows of a table: ``features`` real numbers in the table's own units."""

    kind: ClassVar[str] = "vectors"
    plural: ClassVar[str] = "vectors"
    dtype: ClassVar[torch.dtype] = torch.float32

    features: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if self.features < 1 or (self.names and len(self.names) != self.features):
            raise ValueError(f"vectors need features >= 1 and as many names, or none; got {self!r}.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.features,)

    @property
    def levels(self) -> None:
        return None

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return (cls(2),)

    def __str__(self) -> str:
        return f"vectors of {self.features} features"
