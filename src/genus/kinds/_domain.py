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
from collections.abc import Callable, Sequence
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
class Sheet:
    """How data are laid out in a picture.

    columns: None for what suits their number. width: in pixels, about. real: others, drawn under them where a kind is
    `Domain.scattered`. captions: a word for each datum, such as its class, or none.
    """

    columns: int | None = None
    width: int = 880
    real: Tensor | None = None
    captions: Sequence[str] = ()


SHEET = Sheet()


@dataclass(frozen=True)
class Meeting:
    """What brings samples and real data of one kind to common terms.

    domain: of both, then. samples, real: what is done to the data ``(N, *shape)`` of each side, if anything. notes: on
    that, for people. marks: what the name of the real data says of it.
    """

    domain: "Domain"
    samples: Callable[[Tensor], Tensor] | None = None
    real: Callable[[Tensor], Tensor] | None = None
    notes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """How far data are from each other, by default by the root mean square difference of entries.

    name: what is measured. prepare: data ``(N, *shape)`` on the CPU as what is compared, ``(N, ...)``. between: every
    a to every b, ``(S, R)``, fast. exact: of pairs, ``(B,)``, exactly 0 for the same datum twice. power: 2 for squared
    distances.
    """

    name: str
    prepare: Callable[[Tensor], Tensor]
    between: Callable[[Tensor, Tensor], Tensor] = lambda a, b: torch.cdist(a, b) / math.sqrt(a.shape[1])
    exact: Callable[[Tensor, Tensor], Tensor] = lambda a, b: (a - b).double().square().mean(-1).sqrt().float()
    power: int = 1


@dataclass(frozen=True)
class Domain(ABC):
    """What one datum is. Subclasses are frozen dataclasses, so equality is by value."""

    kind: ClassVar[str]
    plural: ClassVar[str]  # what many are called in a sentence
    dtype: ClassVar[torch.dtype]
    read_as: ClassVar[Reading] = "numbers"  # how a network reads it as a condition (`genus.nn.condition`)
    endings: ClassVar[tuple[str, ...]] = ()  # of the files that `read` reads
    options: ClassVar[frozenset[str]] = frozenset()  # of `genus.data.DataOptions` that fit the kind
    floors: ClassVar[tuple[str, ...]] = ("Gaussian",)  # models that stand beside every score, the weakest first
    compared: ClassVar[int] = 1000  # samples and real items that scores take, unless told otherwise
    compared_by: ClassVar[Literal["features", "classifier", "distances"]] = "features"
    """Where samples and real data are compared: in principal components of what `describe` says; in what a classifier
    sees, where there are classes; or by distances between data alone, as clouds are."""
    features_name: ClassVar[str] = ""  # of `describe`, in a protocol
    one_unit: ClassVar[bool] = False  # whether the numbers of `describe` share a unit, and so a scale
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
    def read(cls, path: Path) -> tuple[Tensor, Self]:
        """The data of a file with one of the `endings`, ``(N, *shape)``, and their domain. Raises a ValueError that
        says what is wrong with the file. Files that several kinds share have their readers in `genus.data`."""
        raise ValueError(f"{cls.plural} have no files of their own")

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

    def draw(self, x: Tensor, sheet: Sheet = SHEET) -> "PIL.Image.Image":
        """A picture of data ``(B, *shape)`` on the CPU, B >= 1. Raises a ValueError for kinds that are not drawn."""
        raise ValueError(f"there is no picture of {self}.")

    def ending(self, count: int) -> str:
        """What the name of one file ends in that other programs open and that holds ``count`` data; empty where there
        is none."""
        return ""

    def file(self, x: Tensor, labels: Sequence[str] = ()) -> bytes:
        """Data ``(B, *shape)`` as such a file. labels: a word for each, written beside it where the format can.

        Raises a ValueError for kinds that have none.
        """
        raise ValueError(f"there is no file of {self} that other programs open.")

    def facts(self, x: Tensor) -> dict[str, str]:
        """What there is to say of training data ``(N, *shape)``, as rows of a table: what -> words."""
        return {"values in train": f"{x.min():g} to {x.max():g}, mean {x.float().mean():.4g}"}

    def error(self, x: Tensor, again: Tensor) -> str:
        """How far ``again`` is from ``x``, both ``(N, *shape)``, as a sentence that says what is measured."""
        return root_mean_square(x, again)

    def describe(self, x: Tensor) -> Tensor:
        """Data ``(N, *shape)`` as numbers ``(N, D)`` in float64 by which they are compared; their entries."""
        return x.flatten(1).double()

    def metric(self, some: Callable[[], Tensor], seed: int) -> Metric:
        """How near data are to each other. some: gives training data ``(N, *shape)``, for their scale."""
        mean, scale = self.scale(self.describe(some()))
        name = f"root mean square difference of {'' if self.one_unit else 'standardised '}features"
        return Metric(name, lambda x: ((self.describe(x) - mean) / scale).float())

    def scale(self, described: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale, ``(D,)``, of what `describe` says: of each number by itself, or one for all of `one_unit`.
        What does not vary but for rounding keeps its unit."""
        mean = described.mean(0)
        each = described.std(0, correction=0)
        scale = each.square().mean().sqrt().expand_as(mean) if self.one_unit else each
        return mean, torch.where(scale > 1e-12 * mean.abs(), scale, 1.0)

    @property
    def planes(self) -> tuple[int, tuple[int, ...]] | None:
        """Channels and size of what convolutions see of a datum (`as_planes`); None where they see nothing."""
        return None

    def as_planes(self, x: Tensor) -> Tensor:
        """Data ``(B, *shape)`` as ``(B, channels, *size)`` of about unit scale."""
        raise ValueError(f"convolutions do not read {self}.")

    def meet(self, samples: "Domain", in_files: bool) -> Meeting:
        """How samples of another domain are compared with real data of this one. in_files: whether they come from files
        of other programs, such as pictures. Raises a ValueError that says what differs, and the remedy."""
        if samples != self:
            raise ValueError("expected samples and real data of one kind")
        return Meeting(self)

    def rounding(self, other: "Domain") -> Callable[[Tensor], Tensor] | None:
        """What rounds data of another domain to the levels of this one, if these are all that differs; else None."""
        return None

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

    endings: ClassVar[tuple[str, ...]] = ()  # of the files that `read` reads
    options: ClassVar[frozenset[str]] = frozenset()  # of `genus.data.DataOptions` that fit the kind
    floors: ClassVar[tuple[str, ...]] = ("uniform", "histogram", "markov")
    one_unit: ClassVar[bool] = True

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

    def metric(self, some: Callable[[], Tensor], seed: int) -> Metric:
        name = "root mean square difference, levels scaled to 0..1"
        return Metric(name, lambda x: x.float().flatten(1) / (self.levels - 1))

    def error(self, x: Tensor, again: Tensor) -> str:
        return f"entries that differ: {float((x != again).double().mean()):.2%}"
