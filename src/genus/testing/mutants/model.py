"""Broken promises of any model."""
# ruff: noqa: D102  a mutant's own docstring says what it breaks

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.kinds import Grid, Label, Vectors
from genus.prob import noise
from genus.testing import checks
from genus.testing.mutants._mutant import mutant
from genus.testing.mutants._toys import Affine, Chain, FadesIn, Toy


class GlobalNoise(Chain):
    """Draws from torch's global generator."""

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.where(keep, x, (torch.rand(x.shape) < 0.5).to(x.dtype))  # genus: allow-global-noise


class FixedSeed(Chain):
    """Always the same samples."""

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return super()._sample(count, condition, noise.stream("fixed"))


class FloatSamples(Chain):
    """Gives samples as floats."""

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return super()._sample(count, condition, generator).float()


class ClosedMind(Chain):
    """Scores whatever it is given, wrong shapes and types too."""

    def log_prob(self, x: Tensor, **options: object) -> Tensor:
        flat = x.flatten(1).long().clamp(0, self.domain.levels - 1)
        whole = F.pad(flat, (0, self.domain.num_dims - flat.shape[1])).view(-1, *self.domain.shape)
        return super().log_prob(whole, **options)  # type: ignore[arg-type]


class Undocumented(Chain):
    """A setting without a word on it."""

    def __init__(self, domain: Grid, condition: Label | None = None, *, secret: int = 3):
        super().__init__(domain, condition)


class ForgetsItsScale(Affine):
    """Keeps the data's scale where no checkpoint sees it."""

    def __init__(self, domain: Vectors, condition: Label | None = None):
        super().__init__(domain, condition)
        del self.data_scale
        self.data_scale = torch.ones(domain.features)


class ClaimsWithoutSigning(Toy):
    """Offers a log_prob that no role promises."""

    domains = (Grid,)

    def __init__(self, domain: Grid, condition: Label | None = None):
        super().__init__(domain, condition)
        self.bias = nn.Parameter(torch.zeros(domain.shape))

    def log_prob(self, x: Tensor, **options: object) -> Tensor:
        """Unpromised."""
        return -F.binary_cross_entropy_with_logits(self.bias.expand(x.shape), x.float(), reduction="none").sum(
            (1, 2, 3)
        )

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return noise.bernoulli(self.bias.sigmoid().expand(count, *self.domain.shape), generator).to(self.domain.dtype)


class ForgetsItsStage(FadesIn):
    """Keeps how far it has come where no checkpoint sees it."""

    def progress(self, fraction: float) -> None:
        self.late_by = fraction

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return Chain.logits(self, x, condition) + getattr(self, "late_by", 1.0) * self.late


MUTANTS = (
    mutant(ForgetsItsStage, FadesIn, checks.check_save_and_load),
    mutant(ForgetsItsScale, Affine, checks.check_save_and_load, Vectors(2)),
    mutant(GlobalNoise, Chain, checks.check_same_generator_same_samples),
    mutant(FixedSeed, Chain, checks.check_same_generator_same_samples),
    mutant(FloatSamples, Chain, checks.check_samples),
    mutant(ClosedMind, Chain, checks.check_wrong_data),
    mutant(Undocumented, Chain, checks.check_card),
    mutant(ClaimsWithoutSigning, Chain, checks.check_refusals),
)
