"""What one datum is: the meeting point of data and models.

A *domain* says which shape a datum has and which values it may take. Data sources
yield a domain, models are built for one, and neither knows more of the other. Models
take and give data in the domain's own terms ("raw in, raw out"): integers
``0 .. levels-1`` for grids, tokens and sound, the table's own units for vectors, the shape's own
coordinates for points.

A *condition* (what a datum may come with) is described just as a domain is.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Domain(ABC):
    """What one datum is. Subclasses are frozen dataclasses, so equality is by value."""

    kind: ClassVar[str]
    plural: ClassVar[str]  # what many are called in a sentence
    dtype: ClassVar[torch.dtype]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one datum, without the batch axis."""

    @property
    @abstractmethod
    def levels(self) -> int | None:
        """Number of values an entry can take; None for continuous data."""

    @property
    def discrete(self) -> bool:
        """Whether a likelihood is a probability (True) or a density (False)."""
        return self.levels is not None

    @property
    def num_dims(self) -> int:
        """Number of scalar entries of one datum: the D of bits/dim."""
        return math.prod(self.shape)

    def check(self, x: Tensor, name: str = "x") -> None:
        """Raise a ValueError unless ``x`` is a batch ``(B, *shape)`` of this domain."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"{name}: expected shape (B, {', '.join(map(str, self.shape))}) for {self}; got {tuple(x.shape)}."
            )
        if self.levels is not None:
            if x.is_floating_point():
                raise ValueError(f"{name}: expected integers 0..{self.levels - 1} for {self}; got dtype {x.dtype}.")
            if x.numel() and (int(x.min()) < 0 or int(x.max()) >= self.levels):
                raise ValueError(
                    f"{name}: expected values 0..{self.levels - 1} for {self}; got {int(x.min())}..{int(x.max())}."
                )
        elif not torch.isfinite(x).all():
            raise ValueError(f"{name}: expected finite numbers for {self}; got NaN or infinity.")

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description; `from_json` reads it back."""
        return {"kind": self.kind, **asdict(self)}
