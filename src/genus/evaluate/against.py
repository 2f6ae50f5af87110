"""Samples from anywhere against real data: folders of pictures, meshes or clouds, and array files.

They are read by the readers of genus, all of them as samples, brought to the terms of the real
data where that is harmless (and said), and refused with the remedy where it is not.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from genus.data import DataOptions, Source, TensorSplit, open_source
from genus.data.tables import ENDINGS as TABLES
from genus.errors import DataFormatError, SettingsError
from genus.evaluate._items import choose, gather
from genus.evaluate.features import Features
from genus.evaluate.floors import floors
from genus.evaluate.score import Row, Scorecard
from genus.evaluate.scorecard import CLOUDS, ITEMS, Comparison, draw, real_rows
from genus.geometry.clouds import in_order, reduce_points
from genus.kinds import Domain, Grid, Points, Vectors
from genus.prob import noise

FEWEST = 6  # items on each side: coverage looks at the fifth neighbour


@dataclass(frozen=True, eq=False)
class Opened:
    """Samples ``(N, *source.domain.shape)`` beside the real data in the same terms, with notes for
    people on what was done to bring them together."""

    samples: Tensor
    source: Source
    notes: tuple[str, ...]


def open_against(path: Path, real: str, options: DataOptions | None = None) -> Opened:
    """Read samples and the data that they are compared with.

    path: a folder of pictures, meshes or clouds, or a file that `genus.data.open_source` reads;
    every item in it is a sample. real: a named source, a folder or a file. options: how both are
    read; what only concerns the real data (holdout, binarize, limit) does not reach the samples.

    Pictures in files have 256 levels: they are rounded to the levels of the real data. Arrays are
    taken as they are, in the real data's own terms. Clouds in files may lie in any frame: on both
    sides each cloud is put in the unit sphere, and the larger clouds are reduced by lot.

    Raises a `SettingsError` that names the remedy where sizes, channels or kinds differ, and a
    `DataFormatError` for what cannot be read.
    """
    options = options or DataOptions()
    if not path.exists():
        raise DataFormatError(f"{path}: no such file or folder.")
    skips = [file.is_dir() or file.name.lower().endswith(TABLES) for file in (path, Path(real).expanduser())]
    theirs = {} if skips[1] or not skips[0] else {"skip_bad": False}
    own = {"binarize": None, "holdout": None, "limit": None, "download": False}
    own |= {} if path.name.lower().endswith(TABLES) else {"label": None}
    own |= {} if skips[0] else {"skip_bad": False}
    source = open_source(real, options.model_copy(update=theirs))
    read = open_source(str(path.resolve()), options.model_copy(update=own))
    x = torch.cat([split.batch(torch.arange(len(split))).x for split in read.splits.values()])
    notes = [f"samples: {len(x):,} items of {path} ({read.domain})", *(f"         {line}" for line in read.skipped)]
    if isinstance(read.domain, Points) and isinstance(source.domain, Points):
        x, source, more = _clouds(x, source, str(path), in_any_frame=path.is_dir())
    else:
        x, more = _same_terms(x, read.domain, source, path)
    source.domain.check(x, str(path))
    counts = ", ".join(f"{len(split):,} {name}" for name, split in source.splits.items())
    notes += [*more, f"real:    {source.name} ({source.domain}; {counts})", *(f"         {s}" for s in source.skipped)]
    return Opened(x, source, tuple(notes))


def score_samples(
    opened: Opened,
    *,
    name: str = "samples",
    split: Literal["validation", "test"] = "test",
    count: int | None = None,
    seed: int = 0,
    features: Features | None = None,
    references: bool = True,
) -> Scorecard:
    """Sample metrics and memorisation of samples from anywhere; no likelihood, as there is no model.

    As many samples as real items are compared: all of the smaller side, no more than 1000 (100
    clouds) unless ``count`` says otherwise, chosen by lot. With ``references`` also training items,
    validation items and the floors that can be sampled, on the same features.

    Raises a `SettingsError` where either side has fewer than 6 items.
    """
    samples, source = opened.samples, opened.source
    held_out = source.splits[split]
    wanted = compared(opened, split, count)
    if wanted < FEWEST:
        raise SettingsError(
            f"expected at least {FEWEST} samples, {split} items and training items to compare; "
            f"got {len(samples)}, {len(held_out)} and {len(source.train)}{f', with count {count}' if count else ''}."
        )
    real = gather(held_out, choose(len(held_out), wanted, seed), seed)
    compare = Comparison(source, real.x, seed, features)
    rows = [Row(name, "model", tuple(compare(samples[choose(len(samples), wanted, seed)])))]
    if references:
        rows += real_rows(compare, validation=split == "test")
        for floor, model in floors(source):
            rows.append(Row(floor, "floor", tuple(compare(draw(model, wanted, None, seed)))))
    return Scorecard(source.name, split, tuple(rows))


def compared(opened: Opened, split: str = "test", count: int | None = None) -> int:
    """How many items of each side are compared."""
    ceiling = CLOUDS if isinstance(opened.source.domain, Points) else ITEMS
    sizes = len(opened.samples), len(opened.source.splits[split]), len(opened.source.train)
    return min(count or ceiling, *sizes)


def _same_terms(x: Tensor, domain: Domain, source: Source, path: Path) -> tuple[Tensor, list[str]]:
    """Samples in the terms of the real data, with notes; or the sentence that says why not."""
    real = source.domain
    both = f"{path} holds {domain}; {source.name} holds {real}"
    if isinstance(domain, Vectors) and isinstance(real, Vectors):
        named = [names for names in (domain.names, real.names) if names and names[0] != "column 1"]
        if domain.features != real.features or (len(named) == 2 and named[0] != named[1]):
            raise SettingsError(
                f"{both}: expected the same columns in the same order ({', '.join(real.names) or real.features})."
            )
        return x, []
    if not isinstance(domain, Grid) or not isinstance(real, Grid) or len(domain.size) != len(real.size):
        raise SettingsError(f"{both}: expected samples and real data of one kind.")
    if domain.size != real.size:
        square = len(real.size) == 2 and len(set(real.size)) == 1
        remedy = f"give --size {real.size[0]} (any size, for both sides)" if square else "resize the samples first"
        raise SettingsError(f"{both}: their sizes differ; {remedy}.")
    if domain.channels != real.channels:
        remedy = "--colour grey turns both sides grey, --colour rgb repeats the channel of grey ones"
        raise SettingsError(f"{both}: their channels differ; {remedy}.")
    if domain.levels == real.levels or not path.is_dir():
        return x, []  # arrays are in the real data's own terms; `Domain.check` sees where they are not
    note = f"         rounded from {domain.levels} to the {real.levels} levels of {source.name}"
    return _rounded(x, domain.levels, real), [note]


def in_levels(source: Source, domain: Domain) -> Source:
    """A source of grids rounded to the levels of ``domain``; as it is where nothing else is to be done."""
    own = source.domain
    if not isinstance(own, Grid) or not isinstance(domain, Grid) or own == domain:
        return source
    grid, levels = replace(own, levels=domain.levels), own.levels
    if grid != domain:
        return source
    return source.with_splits(
        lambda split: TensorSplit(
            _rounded(split.batch(torch.arange(len(split))).x, levels, grid), split.condition, None, split.attributes
        ),
        f"{grid.levels} levels", grid,
    )  # fmt: skip


def _rounded(x: Tensor, levels: int, grid: Grid) -> Tensor:
    """Values 0 .. levels-1 to the nearest of the grid's levels."""
    return (x.float() * ((grid.levels - 1) / (levels - 1))).round().to(grid.dtype)


def _clouds(x: Tensor, source: Source, name: str, in_any_frame: bool) -> tuple[Tensor, Source, list[str]]:
    """Clouds of as many points on both sides and, where they come from files, in one frame."""
    real = source.domain
    assert isinstance(real, Points)
    if x.shape[2] != real.dim:
        raise SettingsError(f"{name} holds clouds in {x.shape[2]}-D; {source.name} holds {real}.")
    count, notes = min(x.shape[1], real.count), []
    if x.shape[1] != real.count:
        notes.append(f"         {count} points of each cloud, by lot, as the smaller side has")

    def change(clouds: Tensor) -> Tensor:
        fewer = reduce_points(clouds, count, noise.stream("against", clouds.shape[1], count))
        return in_order(_unit_sphere(fewer) if in_any_frame else fewer)

    if in_any_frame:
        notes.append("         on both sides each cloud is put in the unit sphere, as files may have any frame")
    told = [f"{count} points"] * (count != real.count) + ["each cloud in the unit sphere"] * in_any_frame
    source = source.with_splits(
        lambda split: replace(split, x=change(split.x)), ", ".join(told), replace(real, count=count)
    )
    return change(x), source, notes


def _unit_sphere(clouds: Tensor) -> Tensor:
    """`genus.geometry.mesh.normalise` by each cloud's own points, ``(N, P, dim)``."""
    x = clouds.double()
    x = x - (x.amin(1, keepdim=True) + x.amax(1, keepdim=True)) / 2
    farthest = x.norm(dim=2).amax(1)
    if not (farthest > 0).all():
        raise DataFormatError(f"cloud {int((farthest <= 0).int().argmax())}: all points are the same.")
    return (x / farthest[:, None, None]).to(clouds.dtype)
