"""What every data source is, once opened: a domain, a condition and three disjoint splits."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Generator, Tensor

from genus.contract import Batch
from genus.errors import SettingsError
from genus.kinds import Domain
from genus.prob import noise
from genus.settings import explain


class DataOptions(BaseModel):
    """How to read a data source. An option that does not fit the source is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    size: int | None = Field(default=None, ge=1, le=4096)
    """Side of the pictures in pixels: drawn at it (glyphs), or cut to a square and resized."""
    colour: Literal["grey", "rgb"] | None = None
    """grey turns colour pictures grey; rgb draws glyphs in colour and repeats the channel of grey pictures."""
    binarize: Literal["dynamic", "threshold"] | None = None
    """Two-level pictures: dynamic draws each pixel anew with its grey value as probability, threshold cuts at half."""
    axes: str | None = Field(default=None, pattern="^[a-z]{1,8}$")
    """Letters of the axes of an array of grids: tyx for clips, which are otherwise taken for volumes (zyx)."""
    points: int | None = Field(default=None, ge=1)
    """Points of each cloud."""
    length: int | None = Field(default=None, ge=1, le=1 << 20)
    """Entries of each sequence, samples of each recording."""
    whole: bool = False
    """Recordings whole: each is one datum, cut at the length or filled up with silence, and not cut into windows."""
    condition: Literal["label", "attributes", "caption", "map", "outline", "lowres"] | None = None
    """What the faces of portraits are drawn given (label): their expression, numbers, a sentence, or pictures."""
    label: str | None = None
    """The column of a CSV file that holds the class label; it becomes the condition."""
    holdout: int | None = Field(default=None, ge=0)
    """Items at the end of the training file kept for validation (MNIST: 10000); 0 trains on all of them."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many items of each split, for quick trials."""
    skip_bad: bool = False
    """Skip files of a folder, or rows of a table, that cannot be read; they are counted and reported."""
    download: bool = False
    """Fetch a named set that is not on this machine; the files are checked against known checksums."""


def data_options(**given: Any) -> DataOptions:
    """`DataOptions` of flat settings; raises a `SettingsError` that names what does not fit."""
    try:
        return DataOptions(**given)
    except ValidationError as error:
        raise SettingsError(f"data options: {explain(error, DataOptions)}") from None


Transform = Callable[[Tensor, Generator | None], Tensor]


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """A split held in memory; implements `genus.contract.Split`.

    x: ``(N, *domain.shape)``, contiguous, in the domain's own dtype (pictures stay uint8).
    condition: ``(N, *shape)`` of the source's condition, or None. transform: drawn anew
    whenever a batch is taken, with the batch's generator; without a generator the whole
    split is transformed once with a fixed stream, so evaluation sees the same data whatever the batch size.
    attributes: what else is known of each item, name -> ``(N, ...)``.
    held_out: whether these are no training items; then batches carry no item numbers (`genus.contract.Batch`).
    """

    x: Tensor
    condition: Tensor | None = None
    transform: Transform | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    held_out: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", self.x.contiguous())
        for name, part in {"condition": self.condition, **self.attributes}.items():
            if part is not None and len(part) != len(self.x):
                raise ValueError(f"{name}: expected one value for each of {len(self.x)} items; got {len(part)}.")

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: Generator | None = None) -> Batch:
        """The items ``index`` (``(B,)`` int64, on the CPU) and their conditions; of training items, their numbers."""
        condition = None if self.condition is None else self.condition.index_select(0, index)
        if self.transform is not None and generator is not None:
            x = self.transform(self.x.index_select(0, index), generator)
        else:
            x = self._drawn_once.index_select(0, index)
        return Batch(x, condition, None if self.held_out else index)

    def first(self, count: int) -> "TensorSplit":
        """The first ``count`` items as a split of their own."""
        condition = None if self.condition is None else self.condition[:count]
        attributes = {key: values[:count] for key, values in self.attributes.items()}
        return replace(self, x=self.x[:count], condition=condition, attributes=attributes)

    @cached_property
    def _drawn_once(self) -> Tensor:
        if self.transform is None:
            return self.x
        generator = noise.stream("evaluation", len(self))
        return torch.cat([self.transform(block, generator) for block in self.x.split(4096)])


@dataclass(frozen=True, eq=False)
class Source:
    """An opened data source.

    name: what stands in a table; it tells apart everything that changes the data.
    condition: what each datum comes with, or None. paired: whether a datum is the true answer to its condition;
    of two sets that merely lie side by side (horses, zebras) it is not, and nobody measures a distance to it.
    attributes: name -> names of its integer values (empty for measured ones); the values
    are in each split's ``attributes``.
    skipped: what was left out because it could not be read: a sentence with the count, then
    one for each of the first items; empty if nothing was.
    """

    name: str
    domain: Domain
    train: TensorSplit
    validation: TensorSplit
    test: TensorSplit
    condition: Domain | None = None
    paired: bool = True
    licence: str = "not stated"
    citation: str = ""
    homepage: str = ""
    notes: str = ""
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            split = getattr(self, name)
            if not split.held_out:
                object.__setattr__(self, name, replace(split, held_out=True))

    @property
    def splits(self) -> dict[str, TensorSplit]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (64 hexadecimal digits) over the name, the domain and every array of the three splits."""
        digest = hashlib.sha256(f"{self.name}\n{self.domain!r}\n{self.condition!r}".encode())
        for name, split in self.splits.items():
            for part in (split.x, split.condition):
                if part is not None:
                    digest.update(f"\n{name} {part.dtype} {tuple(part.shape)}\n".encode())
                    digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()

    def with_splits(
        self,
        change: Callable[[TensorSplit], TensorSplit],
        note: str = "",
        domain: Domain | None = None,
        condition: Domain | None = None,
    ) -> "Source":
        """This source with every split changed, perhaps another domain and condition, and a name that says so."""
        return replace(
            self,
            name=annotate(self.name, note) if note else self.name,
            domain=domain or self.domain,
            condition=condition or self.condition,
            train=change(self.train),
            validation=change(self.validation),
            test=change(self.test),
        )


def annotate(name: str, note: str) -> str:
    """``mnist`` + ``16x16`` = ``mnist (16x16)``; a second note joins the first."""
    return f"{name[:-1]}, {note})" if name.endswith(")") else f"{name} ({note})"


def limited(name: str, counts: Iterable[int], limit: int | None) -> str:
    """The name of a source whose splits of ``counts`` items are cut to ``limit``."""
    return annotate(name, f"first {limit} of each split") if limit is not None and limit < max(counts) else name


def refuse_unused(source: Source, options: DataOptions, taken: frozenset[str]) -> None:
    """Raise a `SettingsError` for an option that would silently do nothing.

    taken: options beyond those of the domain that the reader itself has used.
    """
    fitting = source.domain.options | taken | {"limit", "download"}
    for name, value in options:
        if name == "skip_bad" and value and name not in fitting:
            raise SettingsError(
                f"{source.name}: the option 'skip_bad' does not fit: there are no files or rows to skip; "
                "it is for folders of pictures, meshes or clouds, and for tables."
            )
        if value is not None and value is not False and name not in fitting:
            raise SettingsError(
                f"{source.name}: the option {name!r} does not fit {source.domain}; "
                f"options that do: {', '.join(sorted(fitting - {'download'}))}."
            )
