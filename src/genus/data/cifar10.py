"""CIFAR-10 as JPEG pictures, from the data home: 60,000 small photographs of ten kinds of things.

JPEG is lossy (30.5 dB against the original pictures), so bits/dim on this set cannot be set beside
published ones; losses, samples and reconstructions can be looked at all the same.
"""

import io
import re

import numpy as np
import torch
from PIL import Image

from genus.data.files import data_home
from genus.data.packed import members
from genus.data.source import DataOptions, Source, TensorSplit
from genus.errors import DataFormatError
from genus.kinds import Grid, Label

ARCHIVE = "cifar10/cifar10_jpg.tar.xz"
LARGEST = 1 << 16  # bytes of a picture
SIZE = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NAME = re.compile(rf"(?:.*/)?(train|test)/({'|'.join(CLASSES)})/(\d{{4}})\.jpg")
VALIDATION = 500  # of each kind, the last of the training pictures


def open_cifar10(options: DataOptions) -> Source:
    """Pictures ``(3, 32, 32)``; of the training pictures of each kind the last 500 are for validation."""
    path = data_home() / ARCHIVE
    if not path.is_file():
        raise DataFormatError(
            f"cifar10: no file {ARCHIVE} in {data_home()}; genus cannot fetch it: pack the pictures as JPEG files "
            "train/KIND/0000.jpg and test/KIND/0000.jpg as that archive, and set GENUS_DATA to the folder around it."
        )
    parts: dict[str, list[tuple[int, int, bytes]]] = {"train": [], "test": []}
    for name, content in members(path, lambda name: NAME.fullmatch(name) is not None, largest=LARGEST):
        part, kind, number = NAME.fullmatch(name).groups()  # type: ignore[union-attr]
        parts[part].append((int(number), CLASSES.index(kind), content))
    pictures = {part: _pictures(sorted(found), f"{path}: {part}") for part, found in parts.items()}
    x, kind = pictures["train"]
    last = torch.zeros(len(x), dtype=torch.bool)
    for k in range(len(CLASSES)):
        last[(kind == k).nonzero().squeeze(1)[-VALIDATION:]] = True
    return Source(
        name="cifar10 (JPEG)",
        domain=Grid(3, (SIZE, SIZE)),
        condition=Label(CLASSES),
        train=TensorSplit(x[~last], kind[~last]),
        validation=TensorSplit(x[last], kind[last]),
        test=TensorSplit(*pictures["test"]),
        licence="none stated (Krizhevsky, University of Toronto)",
        citation="Krizhevsky (2009). Learning Multiple Layers of Features from Tiny Images.",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        notes="lossy JPEG files: do not compare bits/dim with those of the original pictures",
    )


def _pictures(found: list[tuple[int, int, bytes]], where: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures ``(N, 3, 32, 32)`` and their kinds, each kind in turn."""
    if len({kind for _, kind, _ in found}) < len(CLASSES):
        raise DataFormatError(f"{where}: expected pictures of each of {', '.join(CLASSES)}.")
    x = np.empty((len(found), SIZE, SIZE, 3), np.uint8)
    for k, (number, kind, content) in enumerate(found):
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
                if picture.size != (SIZE, SIZE):
                    raise ValueError(f"expected {SIZE} x {SIZE} pixels; got {picture.size[0]} x {picture.size[1]}")
                x[k] = np.asarray(picture.convert("RGB"))
        except Exception as error:  # decoders of foreign bytes may raise anything
            reason = str(error)[:200]
            raise DataFormatError(
                f"{where}/{CLASSES[kind]}/{number:04d}.jpg: not a picture of the set ({reason})."
            ) from None
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), torch.tensor([kind for _, kind, _ in found])
