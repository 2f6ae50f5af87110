"""Markov mesh: every pixel given the one to its left and the one above it.

p(x) = prod p(x_rc | x_r,c-1, x_r-1,c): a chain rule in raster order whose context is a neighbourhood
in the plane, the smallest that sees both directions. Neighbours beyond the edge read as 0. With one
table per position binarized MNIST comes to 118.68 nats, 27 below the Markov chain, with a shared one
to 137.69. It has at most K^2 (K - 1) free parameters a table.

What differs from the paper: it treats binary pictures and meshes of several neighbourhoods; here
levels are any, the neighbourhood is {left, above}, each channel is a picture of its own, and of clips
and voxels each slice along the last two axes.

Promises: exact log p(x), a fit in one pass, conditional on a label.
"""

from typing import Any, Self

import torch

from genus.kinds import Discrete, Domain, Grid
from genus.models.autoregressive._counts import ChainTable, classes_of


class MarkovMesh(ChainTable):
    """A table of pixels given their left and upper neighbours.

    Args:
        shared: one table for all pixels, rather than one for each position.
        smoothing: pseudo-counts added to every level; by default 0.5 for two levels, 0.05 otherwise.
    """

    paper = (
        "Abend, Harley & Kanal (1965). Classification of Binary Random Patterns. "
        "https://doi.org/10.1109/TIT.1965.1053827"
    )
    domains = (Grid,)
    smaller = "share one table among the positions (shared=True) or use fewer levels"

    def __init__(
        self, domain: Discrete, condition: Domain | None = None, *, shared: bool = True, smoothing: float | None = None
    ):
        default = 0.5 if domain.levels == 2 else 0.05
        super().__init__(domain, condition, default if smoothing is None else smoothing)
        assert isinstance(domain, Grid)
        size, contexts, positions = domain.num_dims, domain.levels**2, 1 if shared else domain.num_dims
        self.allocate(positions * contexts, domain.levels, self.free_parameters(domain, condition, shared=shared))
        place = torch.arange(size).view(domain.shape)
        left, up = torch.full_like(place, size), torch.full_like(place, size)
        left[..., 1:], up[..., 1:, :] = place[..., :-1], place[..., :-1, :]
        self.lay_out(torch.stack([left.flatten(), up.flatten()], 1), contexts * (torch.arange(size) % positions))

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) < 2:
            return f"markov_mesh models grids of two or more axes; got {domain}."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition)  # type: ignore[arg-type]  # __init__ refuses other domains

    @classmethod
    def free_parameters(
        cls, domain: Discrete, condition: Domain | None = None, *, shared: bool = True, **others: Any
    ) -> int:
        """Where a neighbour is missing for good, the contexts that it would tell apart do not exist."""
        assert isinstance(domain, Grid)
        height, width = domain.size[-2:]
        levels, planes = domain.levels, domain.num_dims // (height * width)
        if shared:
            contexts = (levels if height > 1 else 1) * (levels if width > 1 else 1)
        else:
            contexts = planes * (1 + (height - 1) * levels) * (1 + (width - 1) * levels)
        return classes_of(condition) * contexts * (levels - 1)
