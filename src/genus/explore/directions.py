"""Directions in the latents of encoded data, and their names: ``latent-7``, ``pca-1``.

Encoded data are taken flat, ``(N, L)``, whatever their shape; everything is worked out in float64.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genus.errors import SettingsError

SMALL = 64  # latents of up to so many numbers are moved one number at a time
NAMED = re.compile(r"(latent|pca)-(\d{1,9})")


class Directions(NamedTuple):
    """Ways to move in the latents, the most active first.

    vectors: ``(k, L)``, of length 1. deviations: ``(k,)``, of encoded data along each.
    centre: ``(L,)``, the mean of encoded data. names: what each is.
    """

    vectors: Tensor
    deviations: Tensor
    centre: Tensor
    names: tuple[str, ...]


def directions(z: Tensor, count: int, *, small: int = SMALL) -> Directions:
    """The ``count`` directions in which encoded data ``(N, *latent shape)`` vary most.

    Of latents of up to ``small`` numbers, the numbers themselves (a VAE's units); of larger ones
    (a flow's), the principal directions.
    """
    if z[0].numel() > small:
        return principal(z, count)
    if count < 1:
        raise ValueError(f"expected one direction or more; got {count}.")
    active = z.flatten(1).double().std(0).argsort(descending=True, stable=True)
    return coordinates(z, active[:count].tolist())


def coordinates(z: Tensor, numbers: Sequence[int]) -> Directions:
    """The directions of single numbers of the latents, counted from 0: ``latent-7``."""
    z = _several(z)
    index = torch.tensor(numbers, device=z.device)
    vectors = torch.nn.functional.one_hot(index, z.shape[1]).to(z.dtype)
    return Directions(vectors, z.std(0)[index], z.mean(0), tuple(f"latent-{k}" for k in numbers))


def principal(z: Tensor, count: int) -> Directions:
    """The ``count`` principal directions (fewer where the data span fewer), counted from 1: ``pca-1``.

    The largest entry of each is positive.
    """
    z = _several(z)
    if count < 1:
        raise ValueError(f"expected one direction or more; got {count}.")
    centre = z.mean(0)
    away = z - centre
    count = min(count, len(z) - 1, z.shape[1])
    if len(z) < z.shape[1]:  # the left factor of the singular value decomposition, from the products of N data
        squares, mixing = (part.flip(-1)[..., :count] for part in torch.linalg.eigh(away @ away.T))
        vectors = torch.nn.functional.normalize(mixing.T @ away, dim=1)
    else:
        squares, axes = (part.flip(-1)[..., :count] for part in torch.linalg.eigh(away.T @ away))
        vectors = axes.T
    vectors = vectors * vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
    deviations = (squares.clamp(min=0) / (len(z) - 1)).sqrt()
    return Directions(vectors, deviations, centre, tuple(f"pca-{k + 1}" for k in range(count)))


def named(names: Sequence[str], z: Tensor) -> Directions:
    """The directions that ``latent-7`` (a number of the latents, from 0) and ``pca-1`` stand for, of encoded data."""
    last = {"latent": z[0].numel() - 1, "pca": min(len(z) - 1, z[0].numel())}
    found = []
    for name in names:
        matched = NAMED.fullmatch(name)
        if matched is None or not (matched[1] == "pca") <= int(matched[2]) <= last[matched[1]]:
            raise SettingsError(f"{name!r}: expected latent-0..{last['latent']} or pca-1..{last['pca']}.")
        number = int(matched[2])
        found.append(coordinates(z, [number]) if matched[1] == "latent" else principal(z, number))
    vectors, deviations = (torch.cat([part[-1:] for part in parts]) for parts in list(zip(*found, strict=True))[:2])
    return Directions(vectors, deviations, found[0].centre, tuple(names))


def _several(z: Tensor) -> Tensor:
    """Encoded data flat, ``(N, L)``, in float64; at least two."""
    if len(z) < 2:
        raise ValueError(f"expected two data or more; got {len(z)}.")
    return z.flatten(1).double()
