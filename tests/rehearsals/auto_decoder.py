"""An auto-decoder of shapes, after DeepSDF: no encoder, but a learned code for each training item.

A network reads a code and a place and says whether the shape covers it. A new shape is encoded by descending on a code.

Promises: samples and latents.
"""

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, HasItemCodes, HasLatents, Losses, Player
from genus.kinds import Domain, Grid
from genus.nn.per_item import PerItem, descend
from genus.prob import noise
from genus.recipe import Recipe


class AutoDecoder(GenerativeModel, HasLatents, HasItemCodes):
    """A field of occupancy, decoded from a code an item.

    Args:
        code_features: Numbers of a code.
        hidden: Units of the network's two layers.
        penalty: Weight of a code's squared size.
    """

    paper = (
        "Park, Florence, Straub, Newcombe, Lovegrove (2019). DeepSDF: Learning Continuous Signed Distance Functions "
        "for Shape Representation. https://arxiv.org/abs/1901.05103"
    )
    domains = (Grid,)
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(learning_rate=3e-3, batch_size=32, steps=500),
        "paper": Recipe(learning_rate=5e-4, batch_size=64, schedule="steps", drops=(0.25, 0.5, 0.75), drop_factor=0.5),
    }
    places: Tensor

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        code_features: int = 4,
        hidden: int = 32,
        penalty: float = 1e-2,
    ):
        super().__init__(domain, condition)
        self.code_features, self.penalty = code_features, penalty
        self.codes = PerItem(code_features, std=0.1)
        self.network = nn.Sequential(
            nn.Linear(code_features + 2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        )
        axes = [torch.linspace(-1, 1, side) for side in domain.shape[1:]]
        self.register_buffer("places", torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1))

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        fits = isinstance(domain, Grid) and domain.is_picture and domain.channels == 1 and domain.levels == 2
        return super().refuses(domain) or (None if fits else f"expected binary pictures; got {domain}.")

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, code_features=2, hidden=8)

    def field(self, codes: Tensor) -> Tensor:
        """Logits of being inside, ``(B, D)``, at all places."""
        count = len(self.places)
        read = [codes.unsqueeze(1).expand(-1, count, -1), self.places.expand(len(codes), -1, -1)]
        return self.network(torch.cat(read, -1)).squeeze(-1)

    def losses_given(self, batch: Batch, codes: Tensor, generator: torch.Generator | None = None) -> Losses:
        inside = batch.x.flatten(1).float()
        error = F.binary_cross_entropy_with_logits(self.field(codes), inside, reduction="none").sum(1)
        size = codes.square().sum(1)
        return {"loss": error + self.penalty * size, "error": error, "size": size}

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return self.losses_given(batch, self.codes(batch.index), generator)

    def players(self) -> list[Player]:
        return [
            Player("network", tuple(self.network.parameters()), self.losses),
            Player("codes", tuple(self.codes.parameters()), self.losses, rate=3.0),
        ]

    def infer(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        start = self.places.new_zeros(len(batch.x), self.code_features)
        return descend(lambda codes: self.losses_given(batch, codes)["loss"], start, steps=40, rate=0.05)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.code_features,)

    def sample_latents(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Normal, with the mean and the spread of the training items' codes."""
        std, mean = torch.std_mean(self.codes.rows.detach(), 0)
        return mean + std * noise.normal((count, self.code_features), generator, self.device)

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.infer(Batch(x))

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return (self.field(z) > 0).view(len(z), *self.domain.shape).to(self.domain.dtype)

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        inside = noise.bernoulli(self.field(self.sample_latents(count, generator)).sigmoid(), generator)
        return inside.view(count, *self.domain.shape).to(self.domain.dtype)
