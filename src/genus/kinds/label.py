"""Class labels."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from genus.kinds._domain import Domain


@dataclass(frozen=True)
class Label(Domain):
    """A class label: one integer ``0 .. len(names)-1``. The first kind of condition."""

    kind: ClassVar[str] = "label"
    plural: ClassVar[str] = "labels"
    dtype: ClassVar[torch.dtype] = torch.int64

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

    def __str__(self) -> str:
        shown = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
        return f"{len(self.names)} labels ({shown})"


def classes_of(condition: Domain | None) -> int:
    """The number of classes of a label; 0 for any other condition, or none."""
    return condition.count if isinstance(condition, Label) else 0
