"""The user's own pictures in a run's terms: cut to the square, resized, greyed, in as many levels."""

from pathlib import Path

import torch
from torch import Tensor

from genus.data.guard import Faults
from genus.data.pictures import read_pictures
from genus.data.transforms import with_channels
from genus.errors import DataFormatError
from genus.kinds import Domain, Grid, picture_of


def read_own(paths: tuple[Path, ...], domain: Domain) -> Tensor:
    """Pictures as data of ``domain``, ``(N, *domain.shape)``, each read as one of a folder would be.

    Grey values are rounded to the nearest of the domain's levels: of two levels, at half.
    """
    grid = picture_of(domain, 1, 3)
    if grid is None or not grid.ordered:
        raise DataFormatError(f"pictures are read in grey or colour; the run models {domain}.")
    if grid.size[0] != grid.size[1]:
        raise DataFormatError(f"pictures are cut to squares; the run models {domain}.")
    x = torch.cat([_read(path, grid) for path in paths])
    return (x.double() * ((grid.levels - 1) / 255)).round().to(grid.dtype)


def _read(path: Path, domain: Grid) -> Tensor:
    """``(1, *domain.shape)`` of bytes."""
    if not path.is_file():
        raise DataFormatError(f"{path}: no such file.")
    whole = path.resolve()
    _, x = read_pictures([whole], whole.parent, domain.size[0], Faults())
    return with_channels(x, domain.channels)
