"""What all flows do alike: the density of the noise, plus the log-determinant of getting there."""

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from genus.contract import (
    Batch,
    GenerativeModel,
    HasLatents,
    HasLogProb,
    IsConditional,
    Likelihood,
    Losses,
    Split,
    Symptom,
    name_of,
    spread,
    weakest,
)
from genus.kinds import Domain, Grid
from genus.models.flow import _symptoms
from genus.models.flow._dequantization import UniformDequantization
from genus.nn.condition import CONDITIONS, Conditioned, Encoded
from genus.nn.standardise import Standardise
from genus.prob import gaussian, noise
from genus.prob.reduce import logmeanexp

LOOKED_AT = 16  # validation data that are sent to and fro in search of symptoms


class Bijection(Protocol):
    """Unbounded data ``(B, ...)`` <-> latents ``(B, D)``, with the condition read on the way."""

    standardise: Standardise
    likelihood: Likelihood

    def __call__(self, x: Tensor, given: Encoded | None) -> tuple[Tensor, Tensor]:
        """x -> z and log |det dz/dx|, ``(B,)``."""
        ...

    def inverse(self, z: Tensor, given: Encoded | None) -> Tensor:
        """z -> x."""
        ...


class Flow(Conditioned, GenerativeModel, HasLogProb, HasLatents, IsConditional):
    """A model that is a bijection to standard normal noise, after dequantization where data are integers.

    log p(x) = log N(f(y); 0, I) + log |det df/dy| + log |dy/du|,   y = x itself or x + u, stretched

    Subclasses set ``flow`` and, for grids, ``dequantization`` (else None).
    """

    conditions = CONDITIONS
    needs_ordered_levels = True  # dequantization spreads a level over its neighbourhood
    keeps_places: ClassVar[bool] = False  # whether networks see pictures as such, and so the maps of a condition
    flow: Bijection
    dequantization: UniformDequantization | None
    cure = "Try a lower --learning-rate or a smaller --clip-norm."

    def __init__(self, domain: Domain, condition: Domain | None = None):
        super().__init__(domain, condition)
        places = domain.size if self.keeps_places and isinstance(domain, Grid) else None
        self.context = self.condition_on(condition, places)

    @property
    def likelihood(self) -> Likelihood:
        return weakest(part.likelihood for part in (self.dequantization, self.flow) if part is not None)

    @property
    def protocol(self) -> dict[str, str]:
        return {} if self.dequantization is None else {"dequantization": self.dequantization.name}

    @torch.no_grad()
    def initialise(self, split: Split) -> None:
        """Standardise to (at most 4,096) training data and conditions."""
        batch, generator = self.some(split)
        self.flow.standardise.fit(self.continuous(batch.x, generator)[0])
        self.fit_condition(batch.condition)

    def some(self, split: Split, count: int = 4096) -> tuple[Batch, torch.Generator]:
        """``count`` items from all over a split, and the generator for their noise."""
        generator = noise.stream(name_of(self), "initialise")
        return spread(split, count, generator).to(self.device), generator

    def continuous(
        self, x: Tensor, generator: torch.Generator | None = None, u: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Data as the flow sees them, with the log-determinant of getting there.

        u: the uniform numbers in [0, 1) of the dequantization; drawn unless given.
        """
        dtype = self.flow.standardise.mean.dtype
        if self.dequantization is None:
            return x.to(dtype), torch.zeros(len(x), dtype=dtype, device=x.device)
        if u is None:
            u = self.dequantization.draw(x, generator)
        return self.dequantization(x, u.to(dtype))

    def terms(self, x: Tensor, given: Encoded | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """log N(z; 0, I) and the log-determinant of the whole map, ``(B,)`` each, at one draw of the noise."""
        y, dequantized = self.continuous(x, generator)
        z, log_det = self.flow(y, given)
        return gaussian.log_prob(z, z.new_zeros(()), z.new_zeros(())).sum(1), dequantized + log_det

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        prior, log_det = self.terms(batch.x, self.read_condition(batch.condition), generator)
        return {"loss": -prior - log_det, "prior": -prior, "log_det": log_det}

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        given = self.read_condition(None if batch.condition is None else batch.condition[:LOOKED_AT])
        y, _ = self.continuous(batch.x[:LOOKED_AT], generator)
        back = self.flow.inverse(self.flow(y, given)[0], given)
        cure = self.cure
        if self.dequantization is None:
            cure += " A column that follows from others stretches a flow without end: drop it or add noise to it."
        return _symptoms.lost_invertibility(y, back, self.flow.standardise.std, cure)

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        draws = num_samples if self.dequantization is not None else 1  # an exact density has nothing to average
        given = self.read_condition(condition)
        log_w = torch.stack([torch.add(*self.terms(x, given, generator)) for _ in range(draws)])
        return logmeanexp(log_w).to(log_w.dtype)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.domain.num_dims,)

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Latents ``(B, D)``; integers are taken at the middle of their cells."""
        y, _ = self.continuous(x, u=torch.full(tuple(x.shape), 0.5, device=x.device))
        return self.flow(y, self.read_condition(condition))[0]

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Data from latents ``(B, D)``; integers are the cells in which the flow ends."""
        y = self.flow.inverse(z.to(self.flow.standardise.mean.dtype), self.read_condition(condition))
        return y if self.dequantization is None else self.dequantization.inverse(y).to(self.domain.dtype)

    def _sample(
        self, count: int, condition: Tensor | None, generator: torch.Generator | None, *, temperature: float = 1.0
    ) -> Tensor:
        """Draw latents and decode them.

        Args:
            temperature: factor on the latent noise, >= 0; below 1 gives likelier, less varied data.
        """
        if temperature < 0:
            raise ValueError(f"temperature: expected a number >= 0; got {temperature}.")
        z = noise.normal((count, self.domain.num_dims), generator, self.device)
        return self.decode(temperature * z, condition=condition)
