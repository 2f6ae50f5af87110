"""Several data at once, each with a name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from genus.kinds._domain import Domain
from genus.kinds.label import Label
from genus.kinds.vectors import Vectors


@dataclass(frozen=True)
class Parts(Domain):
    """Several data at once, each with a name: a label map and a style, a partial shape and its class.

    A datum is its parts one after the other, flat, in float32 (which holds whole numbers up to 2**24 exactly);
    `split` and `join` go from one form to the other.
    """

    kind: ClassVar[str] = "parts"
    plural: ClassVar[str] = "named parts"
    dtype: ClassVar[torch.dtype] = torch.float32

    parts: tuple[tuple[str, Domain], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple((str(name), domain) for name, domain in self.parts))
        names = [name for name, _ in self.parts]
        if not names or len(set(names)) != len(names) or not all(name.isidentifier() for name in names):
            raise ValueError(f"parts need a name each, a plain word of its own; got {', '.join(names) or 'none'}.")
        if any(isinstance(domain, Parts) for _, domain in self.parts):
            raise ValueError("parts do not hold parts; name them all on one level.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(domain.num_dims for _, domain in self.parts),)

    @property
    def levels(self) -> None:
        return None

    @property
    def members(self) -> tuple[tuple[str, Domain], ...]:
        return self.parts

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        return (cls((("style", Vectors(2)), ("class_", Label(("first", "second"))))),)

    def toy(self, label: Tensor, name: str = "toy") -> Tensor:
        return self.join({key: domain.toy(label, f"{name} {key}") for key, domain in self.parts})

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Data ``(B, num_dims)`` as their parts by name, each ``(B, *shape)`` in its own dtype."""
        pieces = x.split([domain.num_dims for _, domain in self.parts], 1)
        return {
            name: piece.reshape(len(x), *domain.shape).to(domain.dtype)
            for (name, domain), piece in zip(self.parts, pieces, strict=True)
        }

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `split`. Raises a ValueError where parts are missing or unknown."""
        names = [name for name, _ in self.parts]
        if set(parts) != set(names):
            raise ValueError(f"expected the parts {', '.join(names)}; got {', '.join(parts) or 'none'}.")
        return torch.cat([parts[name].reshape(len(parts[name]), -1).to(self.dtype) for name in names], 1)

    def check(self, x: Tensor, name: str = "x") -> None:
        super().check(x, name)
        for part, (key, domain) in zip(self.split(x).values(), self.parts, strict=True):
            domain.check(part, f"{name}, part {key!r}")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "parts": [[name, domain.to_json()] for name, domain in self.parts]}

    def __str__(self) -> str:
        return "; ".join(f"{name}: {domain}" for name, domain in self.parts)
