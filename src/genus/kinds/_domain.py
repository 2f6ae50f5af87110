"""What one datum is: the meeting point of data and models.

A *domain* says which shape a datum has and which values it may take. Data sources
yield a domain, models are built for one, and neither knows more of the other. Models
take and give data in the domain's own terms ("raw in, raw out"): integers
``0 .. levels-1`` for grids, tokens and sound, the table's own units for vectors, the shape's own
coordinates for points.

A *condition* (what a datum may come with) is described just as a domain is.

The domain of a kind is also where everything else that sets the kind apart is said: how its data are drawn,
written, compared and scored. The rest of genus asks the domain, and does not know which kinds there are.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from genus.prob import noise

if TYPE_CHECKING:
    import PIL.Image

Reading = Literal["label", "numbers", "symbols", "planes", "points"]


@dataclass(frozen=True)
class Domain(ABC):
    """What one datum is. Subclasses are frozen dataclasses, so equality is by value."""

    kind: ClassVar[str]
    plural: ClassVar[str]  # what many are called in a sentence
    dtype: ClassVar[torch.dtype]
    read_as: ClassVar[Reading] = "numbers"  # how a network reads it as a condition (`genus.nn.condition`)
    scattered: ClassVar[bool] = False  # whether data are drawn as dots of one picture, which holds very many
    on_grid: ClassVar[bool] = False  # whether entries have places, ``(channels, *size)``, and are shown as pixels

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

    @property
    def states(self) -> float:
        """How many different data there are; infinity for continuous ones."""
        return math.inf if self.levels is None else self.levels**self.num_dims

    @property
    def ordered(self) -> bool:
        """Whether neighbouring levels are alike, as grey values are."""
        return True

    @property
    def is_picture(self) -> bool:
        """Whether a datum is a picture: height and width."""
        return False

    @property
    def is_clip(self) -> bool:
        """Whether a datum is a clip: pictures over time."""
        return False

    @property
    def turns(self) -> bool:
        """Whether a page shows data as clouds ``(N, points, 3)`` that people turn."""
        return False

    @property
    def sort(self) -> str:
        """The kind in a word, finer where models have other recipes for a sort of it (``codes``)."""
        return self.kind

    @property
    def members(self) -> "tuple[tuple[str, Domain], ...]":
        """The names and domains of what a datum is made of: of most kinds, itself."""
        return (("all", self),)

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Data ``(B, *shape)`` as those of the `members`, by name: each ``(B, *its shape)``."""
        return {"all": x}

    def of(self, x: Tensor) -> Self:
        """The domain of data ``(B, ...)`` that differ from this one in what may differ: the number of points."""
        return self

    @classmethod
    def tiny(cls) -> tuple[Self, ...]:
        """Small examples, on which models are checked: among them, of integers, some of at most 100 `states`."""
        return ()

    def toy(self, label: Tensor, name: str = "toy") -> Tensor:
        """A datum for each class ``(B,)``, ``(B, *shape)``, with structure to learn: one pattern a class, in odd units.

        A function of the domain, the labels and ``name``.
        """
        unit = 3.0 / (1 + torch.arange(self.num_dims)).view(self.shape)
        return 5 + unit * (self._wide(label) + 0.3 * noise.normal((len(label), *self.shape), self._toys(name)))

    def draw(
        self,
        x: Tensor,
        *,
        columns: int | None = None,
        width: int = 880,
        real: Tensor | None = None,
        captions: Sequence[str] = (),
    ) -> "PIL.Image.Image":
        """A picture of data ``(B, *shape)`` on the CPU, B >= 1, about ``width`` pixels wide.

        real: others, drawn under them where a kind is `scattered`. captions: a word for each datum, such as its class.
        Raises a ValueError for kinds that are not drawn.
        """
        raise ValueError(f"there is no picture of {self}.")

    def write(self, x: Tensor, place: Path) -> list[Path]:
        """Write data ``(B, *shape)`` as files that other programs open, if there are such: ``place.ENDING``, or files
        in the folder ``place``. Returns their paths."""
        return []

    def facts(self, x: Tensor) -> dict[str, str]:
        """What there is to say of training data ``(N, *shape)``, as rows of a table: what -> words."""
        return {"values in train": f"{x.min():g} to {x.max():g}, mean {x.float().mean():.4g}"}

    def error(self, x: Tensor, again: Tensor) -> str:
        """How far ``again`` is from ``x``, both ``(N, *shape)``, as a sentence that says what is measured."""
        return root_mean_square(x, again)

    def rivals(self, x: Tensor) -> dict[str, int]:
        """Bytes that formats made for such data take for ``x`` without loss, by name; none that is not installed."""
        return {}

    def _wide(self, label: Tensor) -> Tensor:
        """Labels ``(B,)`` as ``(B, 1, ..)``, to go with data."""
        return label.view(-1, *[1] * len(self.shape))

    def _toys(self, name: str) -> torch.Generator:
        return noise.stream(name, str(self))

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


def root_mean_square(x: Tensor, again: Tensor, unit: str = "") -> str:
    """The error of an entry, as a sentence."""
    rmse = float((x.double() - again.double()).square().mean().sqrt())
    return f"root mean square error of an entry: {rmse:.4g}{unit}"


@dataclass(frozen=True)
class Discrete(Domain):
    """A domain of integers ``0 .. levels-1``, stored as uint8 where they fit and int64 otherwise."""

    @property
    @abstractmethod
    def levels(self) -> int: ...

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return torch.uint8 if self.levels <= 256 else torch.int64

    def toy(self, label: Tensor, name: str = "toy") -> Tensor:
        wide, generator, shape = self._wide(label), self._toys(name), (len(label), *self.shape)
        pattern = (torch.arange(self.num_dims).view(self.shape) * (wide + 1) + wide) % self.levels
        anything = noise.integers(self.levels, shape, generator)
        return torch.where(noise.uniform(shape, generator) < 0.7, pattern, anything).to(self.dtype)

    def error(self, x: Tensor, again: Tensor) -> str:
        return f"entries that differ: {float((x != again).double().mean()):.2%}"
