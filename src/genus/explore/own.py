"""The user's own pictures in a run's terms: cut to the square, resized, greyed, in as many levels."""

from pathlib import Path

import torch
from torch import Tensor

from genus.data.guard import Faults
from genus.data.pictures import read_pictures
from genus.data.source import with_channels
from genus.errors import DataFormatError
from genus.kinds import Domain, Grid


def read_own(paths: tuple[Path, ...], domain: Domain) -> Tensor:
    """Pictures as data of ``domain``, ``(N, *domain.shape)``, each read as one of a folder would be.

    Grey values are rounded to the nearest of the domain's levels: of two levels, at half.
    """
    if not isinstance(domain, Grid) or len(domain.size) != 2 or domain.channels not in (1, 3) or not domain.ordered:
        raise DataFormatError(f"pictures are read in grey or colour; the run models {domain}.")
    if domain.size[0] != domain.size[1]:
        raise DataFormatError(f"pictures are cut to squares; the run models {domain}.")
    x = torch.cat([_read(path, domain) for path in paths])
    return (x.double() * ((domain.levels - 1) / 255)).round().to(domain.dtype)


def _read(path: Path, domain: Grid) -> Tensor:
    """``(1, *domain.shape)`` of bytes."""
    if not path.is_file():
        raise DataFormatError(f"{path}: no such file.")
    whole = path.resolve()
    _, x = read_pictures([whole], whole.parent, domain.size[0], Faults())
    return with_channels(x, domain.channels)
