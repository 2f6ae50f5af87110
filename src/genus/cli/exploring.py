"""What the commands that explore have in common: whose items, and where the picture goes."""

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from genus.cli import flags
from genus.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from genus.kinds import Domain
    from genus.runs import Run


@dataclasses.dataclass(kw_only=True)
class Whose:
    """Which data: items of the test split, or pictures of the user's own."""

    items: tuple[int, ...] = ()
    """Test items (default: random ones)."""
    picture: tuple[Path, ...] = ()
    """Your own pictures instead: cut to the square, resized, and greyed where the run's are grey."""
    picture_label: str | None = None
    """The label of these pictures, where the run was trained with --conditional."""
    rows: int = 8
    """How many random items."""
    seed: int = 0
    """Which random items, and what else is drawn."""
    out: Path | None = None
    """The file to write: a picture (.png), or arrays (.npz) (default: in RUN/explore)."""

    def which(self) -> str:
        """For the name of a file."""
        pictures = "-".join(path.stem for path in self.picture[:8])
        return pictures or "-".join(map(str, self.items[:8])) or f"seed-{self.seed}"


def opened(folder: Path, out: Path | None) -> "Run":
    """The run of a folder; an ``--out`` that does not fit its data is refused before any work is done."""
    run = flags.opened(folder)
    if out is not None:
        flags.file_named(out, ENDINGS, str(run.domain))
    return run


ENDINGS = (".png", ".npz")
"""What the names of files may end in that hold rows of data, the usual one first."""


def chosen_data(run: "Run", whose: Whose) -> "tuple[Tensor, Tensor | None, str]":
    """The data, their labels where the run is conditional, and what they are, for a sentence."""
    if whose.picture and whose.items:
        raise SettingsError("--items are of the test split, --picture are your own: give one of them.")
    if whose.picture_label is not None and not whose.picture:
        raise SettingsError("--picture-label: expected --picture, too; test items have their own labels.")
    if not whose.picture:
        index = items(run, whose.items, whose.rows, whose.seed)
        return *data(run, index), f"test items {listed(index)}"

    from genus.explore import read_own

    x = read_own(whose.picture, run.domain)
    condition = None
    if run.condition is not None and whose.picture_label is None:
        raise SettingsError(f"--picture-label: the run was trained with labels ({run.condition}); give the pictures'.")
    if whose.picture_label is not None:
        condition = labels(run, whose.picture_label, len(x), "--picture-label")
    return x, condition, ", ".join(path.name for path in whose.picture)


def labels(run: "Run", name: str, count: int, flag: str) -> "Tensor":
    """The class of a name, ``count`` times: ``(count,)``."""
    import torch

    from genus.kinds import names_of

    names = names_of(run.condition)
    if not names:
        raise SettingsError(f"{flag}: the model knows no labels; train it with --conditional.")
    if name not in names:
        raise SettingsError(f"{flag}: expected one of {', '.join(names)}; got {name!r}.")
    return torch.full((count,), names.index(name))


def items(run: "Run", chosen: tuple[int, ...], count: int, seed: int, split: str = "test") -> "Tensor":
    """The chosen item numbers of a split; ``count`` random ones where none are."""
    import torch

    from genus.prob import noise

    size = len(run.source.splits[split])
    wrong = next((item for item in chosen if not 0 <= item < size), None)
    if wrong is not None:
        raise SettingsError(f"item {wrong}: the {split} split of {run.source.name} has items 0..{size - 1}.")
    if count < 1:
        raise SettingsError(f"--count: expected 1 or more; got {count}.")
    if not size:
        raise SettingsError(f"{run.source.name} has an empty {split} split.")
    return torch.tensor(chosen) if chosen else noise.permutation(size, noise.stream(seed, "explore"))[:count]


def data(run: "Run", index: "Tensor", split: str = "test") -> "tuple[Tensor, Tensor | None]":
    """The items of a split, and their labels where the run is conditional."""
    x, condition, _ = run.source.splits[split].batch(index)
    return x, None if run.condition is None else condition


def listed(index: "Tensor") -> str:
    """Item numbers for a sentence."""
    return ", ".join(map(str, index.tolist()))


def write(run: "Run", rows: "Tensor", out: Path | None, name: str, domain: "Domain | None" = None) -> None:
    """Write data ``(rows, columns, *shape)`` as one picture, or as arrays, as the ending of ``out`` says, and print
    its path. By default ``RUN/explore/NAME.png``.

    domain: of the rows, if not the run's own.
    """
    import numpy as np
    import torch

    from genus.explore.moves import MOST
    from genus.report.pictures import sheet

    domain = domain or run.domain
    plain = re.sub("[^A-Za-z0-9.=-]+", "-", name.replace("<", "-below-").replace(">", "-above-"))
    path = flags.file_named(out or run.path / "explore" / f"{plain}.png", ENDINGS)
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = rows.flatten(0, 1).cpu()
    if path.suffix.lower() == ".npz":
        np.savez_compressed(path, x=rows.cpu().numpy())
    else:
        some = run.source.train.first(MOST)
        real = some.batch(torch.arange(len(some))).x if domain.scattered else None
        path.write_bytes(sheet(flat, domain, columns=rows.shape[1], real=real))
    print(path)
