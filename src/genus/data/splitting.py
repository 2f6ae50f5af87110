"""How the user's own items become three disjoint splits: a function of their names or numbers alone."""

import hashlib
import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from genus.errors import DataFormatError
from genus.kinds import Label
from genus.prob import noise

PARTS = ("train", "validation", "test")
LONGEST = 200  # characters of a label
ALIASES = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


def by_number(count: int, where: str) -> list[Tensor]:
    """Item numbers of train, validation and test: a fixed order, cut 80 / 10 / 10."""
    return _cut(noise.permutation(count, noise.stream("split", count)), where)


def by_name(names: Sequence[str], where: str) -> list[Tensor]:
    """The same, ordered by a hash of the items' names, so that listing order and place do not matter."""
    keys = [hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in names]
    return _cut(torch.tensor(sorted(range(len(names)), key=keys.__getitem__), dtype=torch.int64), where)


def _cut(order: Tensor, where: str) -> list[Tensor]:
    if len(order) < 3:
        raise DataFormatError(
            f"{where}: expected at least 3 items, one for each of train, validation and test; got {len(order)}."
        )
    tenth = max(1, len(order) // 10)
    return list(order.split([len(order) - 2 * tenth, tenth, tenth]))


def labels_of(values: ArrayLike, where: str) -> tuple[Tensor, Label]:
    """Integers or strings ``(N,)`` as class numbers, and the classes in sorted order."""
    array: NDArray[np.generic] = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iubU":
        raise DataFormatError(
            f"{where}: expected labels of shape (N,), integers or text; got {array.dtype} of shape {array.shape}."
        )
    if array.dtype.kind == "U" and array.size:  # an array of text may hold numbers that are no characters
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        if native.view(np.uint32).max() > sys.maxunicode:
            raise DataFormatError(f"{where}: a label is not text.")
    classes, number = np.unique(array, return_inverse=True)
    if len(classes) > 10_000:
        raise DataFormatError(f"{where}: expected at most 10,000 different labels; got {len(classes)}.")
    names = tuple(str(name) for name in classes.tolist())
    odd = next((name for name in names if len(name) > LONGEST or not name.isprintable()), None)
    if odd is not None:
        raise DataFormatError(
            f"{where}: expected labels of at most {LONGEST} characters that can be printed; got {odd[:60]!r}."
        )
    return torch.from_numpy(number.astype(np.int64)), Label(names)


def without(splits: Sequence[Tensor], kept: Sequence[int], where: str) -> list[Tensor]:
    """Splits of all items as splits of the ``kept`` ones, which stay where they were.

    Gives places within ``kept``; a split of which nothing is left is a `DataFormatError`.
    """
    place = torch.full((sum(map(len, splits)),), -1)
    place[torch.as_tensor(kept)] = torch.arange(len(kept))
    left = [place[split][place[split] >= 0] for split in splits]
    for part, items in zip(PARTS, left, strict=True):
        if not len(items):
            raise DataFormatError(f"{where}: no item of the {part} split can be read.")
    return left
