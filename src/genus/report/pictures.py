"""Pictures of data, of whatever domain, as PNG: one function, `sheet`."""

import torch
from torch import Tensor

from genus.drawing import png
from genus.kinds import Domain, Sheet


def sheet(
    x: Tensor, domain: Domain, *, columns: int | None = None, real: Tensor | None = None, width: int = 880
) -> bytes:
    """Data ``(B, *domain.shape)`` as one PNG, about ``width`` pixels wide, as their kind is drawn (`Domain.draw`).

    Raises a ValueError for no data, data that are not of the domain, and kinds that are not drawn.
    """
    domain.check(x, "pictures")
    if not len(x):
        raise ValueError("a sheet needs at least one datum.")
    return png(domain.draw(x.detach().cpu(), Sheet(columns, width, real)))


def pairs(queries: Tensor, items: Tensor, domain: Domain, *, width: int = 480) -> bytes:
    """A row for each query ``(B, *shape)``, followed by its items ``(B, k, *shape)``."""
    rows = torch.cat([queries[:, None], items], 1)
    return sheet(rows.flatten(0, 1), domain, columns=rows.shape[1], width=width)
