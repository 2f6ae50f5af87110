"""Surfaces as folded sheets, after AtlasNet: a code decides how each of several squares is bent into space.

What differs from the paper: the code is drawn from a normal distribution that the encoder gives, and held near the
standard one, so that there is something to sample from.

Promises: samples, latents, and the surface itself at any resolution.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, HasLatents, Losses, Split, batches
from genus.kinds import Domain, Points
from genus.prob import noise
from genus.prob.posterior import DiagonalNormal
from genus.recipe import Recipe


class HasSurface(ABC):
    """Promises a mesh: a role of one's own, signed beside those of the contract."""

    @abstractmethod
    def surface(self, z: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
        """Vertices ``(B, V, 3)`` and faces ``(F, 3)``, the same for all, of ``resolution`` points an edge."""


class ChartedSurface(GenerativeModel, HasLatents, HasSurface):
    """An encoder of clouds and a decoder of charts.

    Args:
        charts: Squares that are bent.
        latent_features: Numbers of a code.
        hidden: Units of every layer.
        weight: Of the code's distance from the standard normal distribution.
    """

    paper = (
        "Groueix, Fisher, Kim, Russell, Aubry (2018). A Papier-Mâché Approach to Learning 3D Surface Generation. "
        "https://arxiv.org/abs/1802.05384"
    )
    domains = (Points,)
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(learning_rate=3e-3, batch_size=16, steps=500),
        "paper": Recipe(learning_rate=1e-3, batch_size=32, schedule="steps", drops=(0.66, 0.9)),
    }
    domain: Points
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        domain: Points,
        condition: Domain | None = None,
        *,
        charts: int = 2,
        latent_features: int = 4,
        hidden: int = 16,
        weight: float = 1e-3,
    ):
        super().__init__(domain, condition)
        self.charts, self.latent_features, self.weight = charts, latent_features, weight
        self.points = nn.Sequential(nn.Linear(domain.dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.code = nn.Linear(hidden, 2 * latent_features)
        self.bend = nn.ModuleList(
            nn.Sequential(nn.Linear(2 + latent_features, hidden), nn.SiLU(), nn.Linear(hidden, domain.dim))
            for _ in range(charts)
        )
        self.register_buffer("centre", torch.zeros(domain.dim))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, hidden=8)  # type: ignore[arg-type]

    def initialise(self, split: Split) -> None:
        """Where the clouds are, and how large."""
        x = next(batches(split, 1000)).x.flatten(0, 1)
        self.centre.copy_(x.mean(0))
        self.scale.copy_((x - x.mean(0)).square().mean().sqrt())

    def bent(self, z: Tensor, places: Tensor) -> Tensor:
        """Places ``(B, charts, P, 2)`` of each chart -> points ``(B, charts * P, dim)`` in the data's units."""
        read = torch.cat([places, z[:, None, None].expand(-1, *places.shape[1:3], -1)], -1)
        points = torch.stack([bend(read[:, chart]) for chart, bend in enumerate(self.bend)], 1)
        return self.centre + self.scale * points.flatten(1, 2)

    def posterior_of(self, x: Tensor) -> DiagonalNormal:
        """q(z|x), of points in no order."""
        h = self.points((x - self.centre) / self.scale).amax(1)
        return DiagonalNormal(*self.code(h).chunk(2, 1))

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        q = self.posterior_of(batch.x)
        z = q.sample(1, generator)[0]
        each = -(-self.domain.count // self.charts)
        places = noise.uniform((len(z), self.charts, each, 2), generator, self.device)
        gap = torch.cdist(self.bent(z, places), batch.x).square() / self.scale.square()
        chamfer = gap.amin(1).mean(1) + gap.amin(2).mean(1)
        apart = 0.5 * (q.mean.square() + q.log_var.exp() - 1 - q.log_var).sum(1)
        return {"loss": chamfer + self.weight * apart, "chamfer": chamfer, "kl": apart}

    def surface(self, z: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
        if resolution < 2:
            raise ValueError(f"resolution: expected 2 or more points an edge; got {resolution}.")
        axis = torch.linspace(0, 1, resolution, device=z.device)
        places = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(1, 1, -1, 2)
        corner = torch.arange(resolution * resolution, device=z.device).view(resolution, resolution)
        a, b, c, d = (part.flatten() for part in (corner[:-1, :-1], corner[1:, :-1], corner[:-1, 1:], corner[1:, 1:]))
        square = torch.cat([torch.stack([a, b, c], 1), torch.stack([b, d, c], 1)])
        faces = torch.cat([square + chart * resolution**2 for chart in range(self.charts)])
        return self.bent(z, places.expand(len(z), self.charts, -1, -1)), faces

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.latent_features,)

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.posterior_of(x).mean

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Points on a grid over the charts, as evenly spread as their number allows."""
        resolution = 2
        while self.charts * resolution**2 < self.domain.count:
            resolution += 1
        points = self.surface(z, resolution)[0]
        chosen = torch.linspace(0, points.shape[1] - 1, self.domain.count, device=z.device).round().long()
        return points[:, chosen]

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        places = noise.uniform((count, self.charts, self.domain.count, 2), generator, self.device)
        points = self.bent(self.sample_latents(count, generator), places)
        return points.view(count, self.charts, self.domain.count, -1).flatten(1, 2)[:, :: self.charts]
