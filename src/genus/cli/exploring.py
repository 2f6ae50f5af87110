"""What interpolate, traverse, arithmetic and edit have in common: whose items, and where the picture goes."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from genus.domain import Domain
    from genus.training import Run

MOST = 1000  # training items that are encoded for a mean or for directions


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
    """Write data ``(rows, columns, *shape)`` as one picture, ``RUN/explore/NAME.png`` unless said
    otherwise, and print its path; where the domain has no pictures, as arrays (.npz).

    domain: of the rows, if not the run's own.
    """
    import numpy as np

    from genus.domain import Tokens, Vectors
    from genus.report.pictures import sheet

    domain = domain or run.domain
    plain = re.sub("[^A-Za-z0-9.=-]+", "-", name.replace("<", "-below-").replace(">", "-above-"))
    path = out or run.path / "explore" / f"{plain}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = rows.flatten(0, 1).cpu()
    if isinstance(domain, Tokens):
        path = path.with_suffix(".npz")
        np.savez_compressed(path, x=rows.cpu().numpy())
    else:
        real = run.source.train.x[:MOST] if isinstance(domain, Vectors) else None
        path.write_bytes(sheet(flat, domain, columns=rows.shape[1], real=real))
    print(path)
