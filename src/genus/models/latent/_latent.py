"""What all models of the family do alike: bounds by weighted draws, samples from the prior, codes."""

from typing import Literal

import torch
from torch import Tensor

from genus.contract import (
    GenerativeModel,
    HasLogProb,
    HasPosterior,
    IsConditional,
    Likelihood,
    name_of,
    weakest,
)
from genus.errors import CapabilityError
from genus.kinds import Vectors
from genus.models.latent._decoder import Distribution
from genus.nn.condition import Given
from genus.prob import gaussian, noise
from genus.prob.reduce import logmeanexp

AT_ONCE = 8192  # latents that are decoded together


class ThroughLatents(GenerativeModel, HasPosterior):
    """What every model does with its three parts, whatever its latents are."""

    def _sample(
        self,
        count: int,
        condition: Tensor | None,
        generator: torch.Generator | None,
        *,
        pixels: Literal["draw", "mode"] = "draw",
    ) -> Tensor:
        """Draw z from the prior, then x from p(x|z).

        Args:
            pixels: draw takes each entry from its distribution, as the model means it; mode takes its
                likeliest value (the mean of a normal distribution), as papers show it.
        """
        z = self.sample_prior(count, condition, generator)
        if pixels == "mode":
            return self.decode(z, condition=condition)
        return self.generate(z, condition, generator)

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.posterior(x, condition).mean


class Decoding(ThroughLatents, IsConditional):
    """Latents ``(B, L)`` with a standard normal prior, and a distribution p(x|z) of each entry.

    Subclasses set ``distribution`` and ``latent_features``, and give `posterior` and `parameters_given`.
    """

    distribution: Distribution
    latent_features: int

    def parameters_given(self, z: Tensor, condition: Given) -> Tensor:
        """What the distribution p(x|z) needs: ``(B, outputs, *domain.shape)``."""
        raise NotImplementedError

    @property
    def latent_domain(self) -> Vectors:
        return Vectors(self.latent_features)

    @property
    def decoder_likelihood(self) -> Likelihood:
        return self.distribution.likelihood

    @property
    def standard_prior(self) -> bool:
        return True

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return standard_normal(z)

    def sample_prior(
        self, count: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        dtype = next(self.parameters()).dtype
        return noise.normal((count, self.latent_features), generator, self.device, dtype)

    def log_likelihood(self, x: Tensor, z: Tensor, condition: Given = None) -> Tensor:
        return self.distribution.total(x, self.parameters_given(z, condition))

    def log_levels(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.distribution.log_levels(self.parameters_given(z, condition)).flatten(1, -2)

    @torch.no_grad()
    def generate(self, z: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self.distribution.draw(self.parameters_given(z, condition), generator)

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return self.distribution.mode(self.parameters_given(z, condition))


class LatentModel(Decoding, HasLogProb):
    """With a posterior that has a density: weighted draws from it bound log p(x)."""

    @property
    def likelihood(self) -> Likelihood:
        return weakest([Likelihood.BOUND, self.distribution.likelihood])

    @torch.no_grad()
    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """The importance-weighted bound: log mean_k p(x|z_k) p(z_k) / q(z_k|x) <= log p(x).

        Its mean rises with ``num_samples`` to log p(x) (Burda et al. 2016, theorem 1,
        https://arxiv.org/abs/1509.00519); one sample gives (a draw of) the ELBO. Float64 means.
        """
        if self.likelihood is Likelihood.NONE:
            raise CapabilityError(
                f"this {name_of(self)} has no log_prob: {getattr(self.distribution, 'reason', 'no distribution')}."
            )
        log_w = self.log_weights(x, num_samples, condition=condition, generator=generator)
        return logmeanexp(log_w).to(next(self.parameters()).dtype)

    @torch.no_grad()
    def log_weights(
        self,
        x: Tensor,
        num_samples: int,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`log_weight` at ``num_samples`` draws from q for each datum, some at a time: ``(num_samples, B)`` float64."""
        if num_samples < 1:
            raise ValueError(f"expected num_samples >= 1; got {num_samples}.")
        q, at_once = self.posterior(x, condition), max(1, AT_ONCE // max(1, len(x)))
        counts = [min(at_once, num_samples - start) for start in range(0, num_samples, at_once)]
        return torch.cat([self.log_weight(x, q.sample(k, generator), q, condition).double() for k in counts])


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I), ``(B,)``."""
    return gaussian.log_prob(z, z.new_zeros(()), z.new_zeros(())).sum(1)
