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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, get_args, get_origin

import torch
from torch import Tensor

from genus.errors import brief


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


def usual_axes(count: int) -> str:
    """The names of a grid's axes where nobody gives them: x; y and x; z, y and x."""
    return "vwzyx"[-count:]


@dataclass(frozen=True)
class Grid(Domain):
    """Integer values on a regular grid: pictures (2-D), voxels or clips (3-D).

    A datum has shape ``(channels, *size)`` and entries ``0 .. levels-1``, stored as
    uint8 where they fit and int64 otherwise. Binary pictures have two levels.

    ordered: whether neighbouring levels are alike, as grey values are; the codes of a codebook are not.
    axes: a letter for each axis of ``size``: ``yx`` (pictures), ``zyx`` (voxels), ``tyx`` (clips), ``x`` and so on.
    By default the last letters of ``vwzyx``.
    """

    kind: ClassVar[str] = "grid"
    plural: ClassVar[str] = "pictures and grids"

    channels: int
    size: tuple[int, ...]
    levels: int = field(default=256)  # a field may implement a property
    ordered: bool = field(default=True, repr=False)  # not shown: fingerprints hold the repr, and are older
    axes: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(s) for s in self.size))
        if not self.axes:
            object.__setattr__(self, "axes", usual_axes(len(self.size)))
        if len(self.axes) != len(self.size) or len(set(self.axes)) != len(self.axes):
            raise ValueError(f"a grid needs a letter of its own for each axis; got {self.axes!r} for {self.size}.")
        if self.channels < 1 or not self.size or min(self.size) < 1 or self.levels < 2:
            raise ValueError(f"a grid needs channels >= 1, sizes >= 1 and levels >= 2; got {self!r}.")

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return torch.uint8 if self.levels <= 256 else torch.int64

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.size)

    def to_json(self) -> dict[str, Any]:
        described = super().to_json()
        if self.ordered:
            del described["ordered"]
        if self.axes == usual_axes(len(self.size)):
            del described["axes"]
        return described

    @property
    def is_picture(self) -> bool:
        """Whether a datum is a picture: height and width."""
        return self.axes == "yx"

    @property
    def is_clip(self) -> bool:
        """Whether a datum is a clip: pictures over time."""
        return self.axes == "tyx"

    def __str__(self) -> str:
        kind = "levels" if self.ordered else "codes"
        name = "clip" if self.is_clip else "grid"
        return f"{name} {self.channels}x{'x'.join(map(str, self.size))}, {self.levels} {kind}"


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


@dataclass(frozen=True)
class Waveform(Domain):
    """Sound: ``length`` samples, ``rate`` of them a second, as codes ``0 .. levels-1`` of a mu-law
    compander (ITU-T G.711's curve; fine steps for quiet samples, coarse ones for loud).

    The codes are the data: a likelihood is of codes, and bits/dim are bits a sample.
    """

    kind: ClassVar[str] = "waveform"
    plural: ClassVar[str] = "sound"

    length: int
    rate: int
    levels: int = field(default=256)

    def __post_init__(self) -> None:
        if self.length < 1 or self.rate < 1 or self.levels < 2:
            raise ValueError(f"a waveform needs length >= 1, rate >= 1 and levels >= 2; got {self!r}.")

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return torch.uint8 if self.levels <= 256 else torch.int64

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def codes(self, amplitude: Tensor) -> Tensor:
        """Amplitudes in [-1, 1] (what lies beyond is clipped) as codes, of any shape:
        ``sign(a) ln(1 + mu |a|) / ln(1 + mu)`` with ``mu = levels - 1``, rounded."""
        mu = self.levels - 1
        a = amplitude.double().clamp(-1, 1)
        curve = a.sign() * (mu * a.abs()).log1p() / math.log1p(mu)
        return ((curve + 1) / 2 * mu).round().to(self.dtype)

    def amplitudes(self, codes: Tensor) -> Tensor:
        """Codes as amplitudes in [-1, 1], float32: the inverse of the curve."""
        mu = self.levels - 1
        curve = 2 * codes.double() / mu - 1
        return (curve.sign() * torch.expm1(curve.abs() * math.log1p(mu)) / mu).float()

    def __str__(self) -> str:
        return f"sound, {self.length} samples at {self.rate} Hz, {self.levels} levels"


@dataclass(frozen=True)
class Pyramid(Domain):
    """Codes on grids of ``scales`` resolutions, each half as fine as the next; the finest has ``size``.

    A datum ``(num_dims,)`` is the grids one after the other, the coarsest first. Codes have no order.
    """

    kind: ClassVar[str] = "pyramid"
    plural: ClassVar[str] = "pyramids of codes"

    size: tuple[int, ...]
    scales: int
    levels: int = field(default=512)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(s) for s in self.size))
        if not self.size or min(self.size) < 1 or self.scales < 1 or self.levels < 2:
            raise ValueError(f"a pyramid needs sizes >= 1, scales >= 1 and levels >= 2; got {self!r}.")

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """The size of each grid, the coarsest first; halves round up."""
        return tuple(tuple(-(-s // 2**k) for s in self.size) for k in reversed(range(self.scales)))

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return torch.uint8 if self.levels <= 256 else torch.int64

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(map(math.prod, self.sizes)),)

    def grids(self, x: Tensor) -> list[Tensor]:
        """Data ``(B, num_dims)`` as their grids, ``(B, *size)`` each, the coarsest first."""
        parts = x.split([math.prod(size) for size in self.sizes], 1)
        return [part.unflatten(1, size) for part, size in zip(parts, self.sizes, strict=True)]

    def join(self, grids: Sequence[Tensor]) -> Tensor:
        """The inverse of `grids`."""
        return torch.cat([grid.flatten(1) for grid in grids], 1)

    def __str__(self) -> str:
        return f"codes on grids {', '.join('x'.join(map(str, size)) for size in self.sizes)}, {self.levels} codes"


Discrete = Grid | Tokens | Waveform | Pyramid
"""The domains of integers."""


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

    def __str__(self) -> str:
        return f"vectors of {self.features} features"


@dataclass(frozen=True)
class Points(Domain):
    """A cloud of ``count`` points in ``dim`` dimensions; their order carries no meaning."""

    kind: ClassVar[str] = "points"
    plural: ClassVar[str] = "point clouds"
    dtype: ClassVar[torch.dtype] = torch.float32

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

    def __str__(self) -> str:
        return f"{self.count} points in {self.dim}-D"


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


DOMAINS: dict[str, type[Domain]] = {
    cls.kind: cls for cls in (Grid, Tokens, Waveform, Pyramid, Vectors, Points, Label, Parts)
}


MAX_AXES, MAX_ENTRIES, MAX_LEVELS, MAX_PARTS = 8, 2**26, 2**24, 64  # of a domain that is read from a file


def from_json(description: dict[str, Any]) -> Domain:
    """Read what `Domain.to_json` wrote; only kinds of the closed table `DOMAINS` exist.

    Raises ValueError for another kind, a field that is missing, unknown or of another type,
    and a datum of over 8 axes, 2**26 entries or 2**24 levels.
    """
    if not isinstance(description, dict):
        raise ValueError(f"a domain is described by an object with a 'kind'; got {brief(description)}.")
    given = dict(description)
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in DOMAINS:
        raise ValueError(f"unknown domain kind {brief(kind)}; expected one of {', '.join(DOMAINS)}.")
    if kind == "parts":
        given["parts"] = _parts(given.get("parts"))
    for known in fields(DOMAINS[kind]) if kind != "parts" else ():
        if known.name in given and not _is(given[known.name], known.type):
            raise ValueError(f"{kind}: {known.name!r} has another type; got {brief(given[known.name])}.")
    try:
        domain = DOMAINS[kind](**given)
    except TypeError:
        expected = ", ".join(known.name for known in fields(DOMAINS[kind]))
        raise ValueError(f"{kind} is described by {expected}; got {brief(sorted(given))}.") from None
    if len(domain.shape) > MAX_AXES or domain.num_dims > MAX_ENTRIES or (domain.levels or 0) > MAX_LEVELS:
        raise ValueError(
            f"{kind}: expected at most {MAX_AXES} axes, {MAX_ENTRIES:,} entries and {MAX_LEVELS:,} levels; "
            f"got {brief(description)}."
        )
    return domain


def _parts(described: Any) -> tuple[tuple[str, Domain], ...]:
    if not isinstance(described, list) or len(described) > MAX_PARTS:
        raise ValueError(f"parts: expected a list of up to {MAX_PARTS} pairs; got {brief(described)}.")
    found = []
    for pair in described:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], dict)):
            raise ValueError(f"parts: expected pairs of a name and a domain; got {brief(pair)}.")
        if pair[1].get("kind") == "parts":
            raise ValueError("parts do not hold parts; name them all on one level.")
        found.append((pair[0], from_json(pair[1])))
    return tuple(found)


def _is(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a field's type: int, or a tuple of one type."""
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(type(item) is get_args(kind)[0] for item in value)
    return type(value) is kind
