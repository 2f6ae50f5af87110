"""Decoders and posteriors that do not keep to each other."""
# ruff: noqa: D102  a mutant's own docstring says what it breaks

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.kinds import Vectors
from genus.prob import noise
from genus.prob.posterior import DiagonalNormal
from genus.testing import checks
from genus.testing.mutants._mutant import mutant
from genus.testing.mutants._toys import Affine, Blend


class DecodesAnotherMap(Affine):
    """The inverse is not the inverse."""

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return super()._decode(1.2 * z, condition)


class ForgetsAnEntry(Blend):
    """Its distribution given z leaves out the last entry."""

    def log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        logits, flat = self.decoder(z)[:, :-1], x.flatten(1)[:, :-1].to(z.dtype)
        return -F.binary_cross_entropy_with_logits(logits, flat, reduction="none").sum(1)


class GeneratesAnotherLaw(Blend):
    """Draws given z at half the temperature."""

    def generate(self, z: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        x = noise.bernoulli((2 * self.decoder(z)).sigmoid(), generator)
        return x.view(len(z), *self.domain.shape).to(self.domain.dtype)


class MistakesItsWidth(Blend):
    """Draws latents with the variance for the standard deviation."""

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> DiagonalNormal:
        class Wide(DiagonalNormal):
            def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
                return DiagonalNormal(self.mean, 2 * self.log_var).sample(count, generator)

        q = super().posterior(x)
        return Wide(q.mean, q.log_var)


MUTANTS = (
    mutant(DecodesAnotherMap, Affine, checks.check_samples_follow_density, Vectors(2)),
    mutant(DecodesAnotherMap, Affine, checks.check_latents, Vectors(2)),
    mutant(ForgetsAnEntry, Blend, checks.check_decoder_distribution),
    mutant(GeneratesAnotherLaw, Blend, checks.check_decoder_distribution),
    mutant(MistakesItsWidth, Blend, checks.check_posterior),
)
