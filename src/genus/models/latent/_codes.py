"""What models with discrete codes do alike: data to codes, codes to a distribution, the bound that follows.

The posterior is certain: q(z|x) = 1 for the codes z(x). With a uniform prior over all grids of codes,

    log p(x) = log sum_z p(z) p(x|z) >= log p(z(x)) + log p(x|z(x)) = -n log K + log p(x|z(x)).

A prior that is learned on the codes takes the place of -n log K (two stages).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from genus.contract import (
    Batch,
    HasLogProb,
    Likelihood,
    Losses,
    Split,
    Symptom,
    check_condition,
    name_of,
    weakest,
)
from genus.errors import CapabilityError
from genus.kinds import Discrete, Domain, Grid, Tokens
from genus.models.latent import _decoder
from genus.models.latent._codebook import Codebook, Quantised
from genus.models.latent._decoder import Distribution, Scale, size_of
from genus.models.latent._latent import ThroughLatents
from genus.models.latent._mean_square import MeanSquare
from genus.models.latent._vq_networks import Bottleneck, Writer
from genus.prob import noise
from genus.prob.posterior import Certain

Decoding = Literal["auto", "bernoulli", "categorical", "discretized_logistic", "grey_bce", "mse"]
ENOUGH = 1024  # data that scales and biases are taken from
COLLAPSED = 0.1  # of the codes in use


class CodeModel(ThroughLatents, HasLogProb):
    """Codes in place of a datum, and a distribution p(x|codes) of its entries.

    Samples are of uniform codes, which look like nothing: a prior that is learned on the codes makes samples
    (``genus train vqvae+gated_pixelcnn``).

    Subclasses set ``code_domain`` and ``bottlenecks`` (coarsest first), and give `quantise`, `parameters_of`,
    `grids` and `join`.
    """

    domain: Discrete
    code_domain: Discrete
    bottlenecks: nn.ModuleList

    def __init__(self, domain: Discrete, condition: Domain | None, decoder: Decoding, scale: Scale, commitment: float):
        super().__init__(domain, condition)
        if commitment < 0:
            raise ValueError(f"commitment: expected 0 or more; got {commitment}.")
        self.commitment = commitment
        if decoder == "mse" and scale != "entry":
            raise ValueError(f"decoder='mse' has one scale already; leave out scale={scale!r}.")
        self.distribution: Distribution = (
            MeanSquare(domain) if decoder == "mse" else _decoder.choose(decoder, domain, scale)
        )
        self.writer = Writer(domain, self.distribution)

    def quantise(self, x: Tensor, generator: torch.Generator | None = None) -> list[Quantised]:
        """What each bottleneck makes of raw data, the coarsest first."""
        raise NotImplementedError

    def parameters_of(self, vectors: list[Tensor]) -> Tensor:
        """What the distribution needs, from the vectors of each codebook: ``(B, outputs, *domain.shape)``."""
        raise NotImplementedError

    def grids(self, codes: Tensor) -> list[Tensor]:
        """Latents ``(B, *latent shape)`` as the grid of each codebook, ``(B, *size)``, the coarsest first."""
        raise NotImplementedError

    def join(self, grids: list[Tensor]) -> Tensor:
        """The inverse of `grids`."""
        raise NotImplementedError

    def read(self, x: Tensor) -> Tensor:
        """Raw data as the maps that an encoder reads, ``(B, planes, *size)``."""
        u = self.distribution.normalise(x, self.writer.bias.dtype)
        return u.reshape(len(x), self.distribution.planes, *size_of(self.domain))

    @property
    def codebooks(self) -> list[Codebook]:
        """One for each grid of codes."""
        return [neck.codebook for neck in self.bottlenecks if isinstance(neck, Bottleneck)]

    # -- training -----------------------------------------------------------------------

    @torch.no_grad()
    def initialise(self, split: Split) -> None:
        """Scales and biases from the data, then codes among the outputs of the untrained encoder."""
        index = torch.linspace(0, len(split) - 1, min(len(split), ENOUGH)).long()
        x = split.batch(index, noise.stream("codes", "initialise")).x
        self.writer.fit(x, self.distribution)
        wanted = -(-8 * self.latent_domain.levels // self.latent_domain.num_dims)
        training = self.training
        self.eval()  # nothing of this is a step of training
        for neck in self.bottlenecks:
            neck.fresh = True  # type: ignore[assignment]
        self.quantise(x[: max(128, wanted)].to(self.device))
        self.train(training)

    def progress(self, fraction: float) -> None:
        """The codebooks take in what the last step has seen."""
        for codebook in self.codebooks:
            codebook.advance()

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Equation 3 in nats a datum: -log p(x|codes), and the codebook's terms as means over its entries,
        weighed by the number of entries of a datum.

        In training the codebooks remember what they see; `progress` lets them move.
        """
        check_condition(self, batch.condition, len(batch.x))
        found = self.quantise(batch.x, generator)
        reconstruction = -self.distribution.total(batch.x, self.parameters_of([q.vectors for q in found]))
        commitment, pull = sum(q.commitment for q in found), sum(q.pull for q in found)
        loss = reconstruction + self.domain.num_dims * (self.commitment * commitment + pull)
        shown = {"reconstruction": reconstruction, "commitment": commitment}
        for k, codebook in enumerate(self.codebooks):
            mark = f"_{k}" if len(self.codebooks) > 1 else ""  # 0 is the coarsest
            shown[f"perplexity{mark}"] = codebook.perplexity.expand(len(loss))
            shown[f"codes_in_use{mark}"] = codebook.in_use.to(loss.dtype).expand(len(loss))
        return {"loss": loss, **shown}  # type: ignore[dict-item]

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """-log p(x|codes): the rest of the bound is a constant, and of the loss no part of it."""
        return -self.log_likelihood(batch.x, self.codes_of(batch.x))

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        found = []
        for k, codebook in enumerate(self.codebooks):
            count, used = len(codebook.codes), int(codebook.in_use)
            if used < COLLAPSED * count:
                which = f" of codebook {k}" if len(self.codebooks) > 1 else ""
                seen = f"{used} of {count} codes{which} are in use (perplexity {float(codebook.perplexity):.1f})."
                cure = f"Try --revive 0.03 (now {codebook.revive:g}), a lower --learning-rate or fewer --codes."
                found.append(Symptom("codebook collapse", seen, cure))
        return found

    # -- the contract -------------------------------------------------------------------

    @property
    def latent_domain(self) -> Discrete:
        return self.code_domain

    @property
    def decoder_likelihood(self) -> Likelihood:
        return self.distribution.likelihood

    @property
    def likelihood(self) -> Likelihood:
        return weakest([Likelihood.BOUND, self.distribution.likelihood])

    @property
    def protocol(self) -> dict[str, str]:
        return {"prior": "uniform"}

    def codes_of(self, x: Tensor) -> Tensor:
        """The codes of raw data, ``(B, *latent shape)``."""
        return self.join([q.codes for q in self.quantise(x)]).to(self.latent_domain.dtype)

    def parameters_given(self, z: Tensor) -> Tensor:
        """What the distribution needs given codes."""
        pairs = zip(self.codebooks, self.grids(z), strict=True)
        return self.parameters_of([codebook.look_up(grid) for codebook, grid in pairs])

    @torch.no_grad()
    def posterior(self, x: Tensor, condition: Tensor | None = None) -> Certain:
        return Certain(self.codes_of(x))

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Uniform over all codes: -n log K."""
        return self.writer.bias.new_full((len(z),), -self.latent_domain.num_dims * math.log(self.latent_domain.levels))

    def sample_prior(
        self, count: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        z = noise.integers(self.latent_domain.levels, (count, *self.latent_domain.shape), generator, self.device)
        return z.to(self.latent_domain.dtype)

    def log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.distribution.total(x, self.parameters_given(z))

    def log_levels(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.distribution.log_levels(self.parameters_given(z)).flatten(1, -2)

    @torch.no_grad()
    def generate(self, z: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self.distribution.draw(self.parameters_given(z), generator)

    @torch.no_grad()
    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """log p(codes) + log p(x|codes) <= log p(x). There is nothing to draw: more samples change nothing."""
        if self.likelihood is Likelihood.NONE:
            raise CapabilityError(
                f"this {name_of(self)} has no log_prob: {getattr(self.distribution, 'reason', 'no distribution')}."
            )
        z = self.codes_of(x)
        return self.log_likelihood(x, z) + self.log_prior(z)

    @torch.no_grad()
    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        self.latent_domain.check(z, "z")
        return self.distribution.mode(self.parameters_given(z))


def domain_of_codes(size: tuple[int, ...], codes: int) -> Grid | Tokens:
    """Codes along one axis are a sequence, over more of them a picture without order."""
    return Tokens(size[0], codes) if len(size) == 1 else Grid(1, size, codes, ordered=False)


def check_settings(**settings: int | Sequence[int]) -> None:
    """Raise a ValueError for a number below 1 (``downsample``: 0), or fewer than two codes."""
    least = {"codes": 2, "downsample": 0, "hidden": 2}
    for name, value in settings.items():
        if min((value,) if isinstance(value, int) else value, default=1) < least.get(name, 1):
            raise ValueError(f"{name}: expected {least.get(name, 1)} or more; got {value}.")
