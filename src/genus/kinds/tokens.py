"""Sequences of symbols: texts, codes, days of weather."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from genus.kinds._domain import Domain


@dataclass(frozen=True)
class Tokens(Domain):
    """Sequences of ``length`` symbols ``0 .. levels-1``: characters of a text, codes, days of weather.

    names: what the symbols stand for, one each, or none.
    """

    kind: ClassVar[str] = "tokens"
    plural: ClassVar[str] = "tokens"

    length: int
    levels: int = field(default=2)  # a field may implement a property
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        if self.length < 1 or self.levels < 2 or (self.names and len(self.names) != self.levels):
            raise ValueError(f"tokens need length >= 1, levels >= 2 and as many names, or none; got {self!r}.")

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return torch.uint8 if self.levels <= 256 else torch.int64

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def __str__(self) -> str:
        return f"sequences of {self.length} tokens, {self.levels} symbols"
