"""The floors that stand beside every score: what a model without structure reaches.

Uniform and a full-covariance Gaussian live here; `histogram` (independent entries) and
`markov` come from the registry.
"""

import math
from typing import Self

import torch
from torch import Tensor

from genus import registry
from genus.contract import Batch, FitsInClosedForm, GenerativeModel, HasLogProb, Likelihood, Losses, Split, batches
from genus.evaluate._items import DataSource, Unlabelled
from genus.kinds import Discrete, Domain, Vectors
from genus.prob import noise


class Uniform(GenerativeModel, HasLogProb):
    """Every value equally likely: exactly log2(levels) bits/dim."""

    paper = "none: the definition"
    domains = (Discrete,)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        """There is only one."""
        return cls(domain)

    @property
    def likelihood(self) -> Likelihood:
        """Exact."""
        return Likelihood.EXACT

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """-D ln(levels) for every datum, ``(B,)``."""
        value = -math.prod(self.domain.shape) * math.log(self.domain.levels or 1)
        return torch.full((len(x),), value, dtype=torch.float64)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """The negative log-likelihood, constant."""
        return {"loss": -self.log_prob(batch.x)}

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Independent uniform integers."""
        return noise.integers(self.domain.levels or 1, (count, *self.domain.shape), generator).to(self.domain.dtype)


class Gaussian(GenerativeModel, HasLogProb, FitsInClosedForm):
    """One Gaussian with a full covariance, fitted by its moments in float64."""

    paper = "none: the maximum of the likelihood in closed form"
    domains = (Vectors,)
    mean: Tensor
    root: Tensor

    def __init__(self, domain: Domain, condition: Domain | None = None):
        super().__init__(domain, condition)
        features = math.prod(domain.shape)
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("root", torch.eye(features, dtype=torch.float64))  # Cholesky factor

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        """There is only one size."""
        return cls(domain)

    @property
    def likelihood(self) -> Likelihood:
        """Exact."""
        return Likelihood.EXACT

    def fit(self, split: Split) -> None:
        """Mean and covariance of the split; a millionth of each variance is added, so that a
        feature that repeats another does not make the density infinite."""
        x = torch.cat([batch.x for batch in batches(split, 4096)]).double()
        self.mean.copy_(x.mean(0))
        covariance = (x - self.mean).T @ (x - self.mean) / len(x)
        variance = covariance.diagonal()
        ridge = 1e-6 * torch.where(variance > 0, variance, 1.0)
        self.root.copy_(torch.linalg.cholesky(covariance + ridge.diag()))

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """Log-density in nats, ``(B,)`` float64."""
        whitened = torch.linalg.solve_triangular(self.root, (x.double() - self.mean).T, upper=False)
        log_det = self.root.diagonal().log().sum()
        return -0.5 * (whitened**2).sum(0) - log_det - 0.5 * len(self.mean) * math.log(2 * math.pi)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """The negative log-likelihood."""
        return {"loss": -self.log_prob(batch.x)}

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Independent rows."""
        eps = noise.normal((count, len(self.mean)), generator, dtype=torch.float64)
        return (self.mean + eps @ self.root.T).to(self.domain.dtype)


OWN: dict[str, type[GenerativeModel]] = {"uniform": Uniform, "Gaussian": Gaussian}


def floors(source: DataSource) -> list[tuple[str, GenerativeModel]]:
    """The fitted floors of a data source, weakest first: those that its kind names and that do not refuse it."""
    found = []
    for name in source.domain.floors:
        cls = OWN.get(name) or registry.get(name)
        if cls.refuses(source.domain) is None:
            model = cls(source.domain)
            if isinstance(model, FitsInClosedForm):
                model.fit(Unlabelled(source.train))
            found.append((name, model))
    return found
