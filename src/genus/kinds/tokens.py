"""Sequences of symbols: texts, codes, days of weather."""

from dataclasses import dataclass, field
from typing import ClassVar, Self

from genus.kinds._domain import Discrete, Reading


@dataclass(frozen=True)
class Tokens(Discrete):
    """Sequences of ``length`` symbols ``0 .. levels-1``: characters of a text, codes, days of weather.

    names: what the symbols stand for, one each, or none.
    """

    kind: ClassVar[str] = "tokens"
    plural: ClassVar[str] = "tokens"
    read_as: ClassVar[Reading] = "symbols"

    length: int
    levels: int = field(default=2)  # a field may implement a property
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        if self.length < 1 or self.levels < 2 or (self.names and len(self.names) != self.levels):
            raise ValueError(f"tokens need length >= 1, levels >= 2 and as many names, or none; got {self!r}.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def ordered(self) -> bool:
        return self.levels == 2  # there is only one order

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return cls(5, 2), cls(4, 3), cls(12, 300)  # 32 states; 81 states; more symbols than a byte holds

    def __str__(self) -> str:
        return f"sequences of {self.length} tokens, {self.levels} symbols"
