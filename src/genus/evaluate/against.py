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
from genus.evaluate.scorecard import Comparison, draw, real_rows
from genus.kinds import Domain

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
    try:
        meeting = source.domain.meet(read.domain, in_files=path.is_dir())
    except ValueError as error:
        both = f"{path} holds {read.domain}; {source.name} holds {source.domain}"
        raise SettingsError(f"{both}: {error}.") from None
    x, change = meeting.samples(x) if meeting.samples else x, meeting.real
    if change:
        source = source.with_splits(
            lambda split: replace(split, x=change(split.x)), ", ".join(meeting.marks), meeting.domain
        )
    source.domain.check(x, str(path))
    counts = ", ".join(f"{len(split):,} {name}" for name, split in source.splits.items())
    notes += [
        *(f"         {note}" for note in meeting.notes),
        f"real:    {source.name} ({source.domain}; {counts})",
        *(f"         {s}" for s in source.skipped),
    ]
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
    sizes = len(opened.samples), len(opened.source.splits[split]), len(opened.source.train)
    return min(count or opened.source.domain.compared, *sizes)


def in_levels(source: Source, domain: Domain) -> Source:
    """A source rounded to the levels of ``domain``; as it is where nothing else is to be done."""
    change = domain.rounding(source.domain)
    if change is None:
        return source
    return source.with_splits(
        lambda split: TensorSplit(
            change(split.batch(torch.arange(len(split))).x), split.condition, None, split.attributes
        ),
        f"{domain.levels} levels", domain,
    )  # fmt: skip
