"""Class labels."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from genus.kinds._domain import Domain, Reading


@dataclass(frozen=True)
class Label(Domain):
    """A class label: one integer ``0 .. len(names)-1``. The first kind of condition."""

    kind: ClassVar[str] = "label"
    plural: ClassVar[str] = "labels"
    dtype: ClassVar[torch.dtype] = torch.int64
    read_as: ClassVar[Reading] = "label"

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        if not self.names:
            raise ValueError("a label needs at least one class name.")

    @property
    def count(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def levels(self) -> int:
        return len(self.names)

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return (cls(("first", "second", "third")),)

    def toy(self, label: Tensor, name: str = "toy") -> Tensor:
        return label % self.levels

    def __str__(self) -> str:
        shown = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
        return f"{len(self.names)} labels ({shown})"


def classes_of(condition: Domain | None) -> int:
    """The number of classes of a label; 0 for any other condition, or none."""
    return condition.count if isinstance(condition, Label) else 0


def names_of(condition: Domain | None) -> tuple[str, ...]:
    """The names of the classes of a label; none for any other condition."""
    return condition.names if isinstance(condition, Label) else ()
