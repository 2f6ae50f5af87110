"""Autoencoder: a bottleneck that data must pass through, without a distribution over what passes.

An encoder maps a datum x to a short code z, a decoder maps z back; both are trained so that what
comes back is the datum. The loss is -log p(x|z) of a distribution of entries, or half the squared error.
z is a number for each latent, without doubt: nothing presses codes towards a prior.

Samples are decoded draws from a normal distribution that is fitted to the codes of the training data, with
a full covariance (one for each label, one for all under any other condition): "ex-post density estimation",
Ghosh et al. (2020), https://arxiv.org/abs/1903.12436. They are as good as codes are normally distributed,
which nothing enforces; a model of the codes draws better ones (`genus train autoencoder+...`). The moments
are running averages over the last hundred or so batches, kept in buffers.

What differs from the paper: one network for each half, trained at once (the paper stacked Boltzmann
machines first); ReLU instead of logistic units; the regularisers of Ghosh et al. are left out.

It promises latents and conditions of any kind, and no likelihood: a code that is certain has no density,
so there is no bound on log p(x). `posterior` gives that one value, so that a second stage can learn
the codes; its likelihood is none, too.
"""

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from genus.contract import Batch, Likelihood, Losses, Split, Symptom, check_condition
from genus.kinds import Domain, Grid, Label, Tokens, Vectors, Waveform, classes_of
from genus.models.latent import _decoder, _symptoms
from genus.models.latent._latent import Decoding
from genus.models.latent._networks import Network, TwoNetworks
from genus.models.latent._prior import Moments
from genus.nn.condition import Given
from genus.prob.posterior import Certain
from genus.recipe import Recipe

FORGETS = 0.01  # what a batch weighs in the moments of the codes


class Autoencoder(TwoNetworks, Decoding):
    """Deterministic autoencoder of grids (any size, channels, levels), sequences, sound and tables.

    Args:
        latent_features: Numbers in a code.
        network: Fully connected layers; conv puts strided convolutions before them (all but tables).
        hidden: Widths of the fully connected layers, from the data inwards.
        channels: Channels of the convolutions, from the data inwards; each halves the size (network conv).
        blocks: Residual blocks after each of these convolutions (network conv).
        decoder: The distribution of an entry given z, whose negative log-likelihood is the loss. auto takes bernoulli
            for two levels, discretized_logistic for ordered levels and sound, categorical for symbols and
            codes, gaussian for tables. squared is half the squared error in units of the data's spread.
        scale: Of a discretized_logistic or gaussian distribution: an entry's own, given z, or shared by all entries.
    """

    paper = (
        "Hinton & Salakhutdinov (2006). Reducing the Dimensionality of Data with Neural Networks. "
        "https://doi.org/10.1126/science.1127647"
    )
    domains = (Grid, Tokens, Waveform, Vectors)
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=2e-3, schedule="cosine", batch_size=128, steps=4000, precision="fast-float32",
        ),
        # 784-1000-500-250-30 on MNIST, 200 epochs of 60,000; Adam stands in for conjugate gradients.
        "paper": Recipe(
            learning_rate=1e-3, schedule="cosine", batch_size=1000, steps=12_000,
            settings={"hidden": (1000, 500, 250), "latent_features": 30},
        ),
    }  # fmt: skip

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        latent_features: int = 20,
        network: Network = "mlp",
        hidden: tuple[int, ...] = (400,),
        channels: tuple[int, ...] = (32, 64),
        blocks: int = 0,
        decoder: Literal["auto", "bernoulli", "categorical", "discretized_logistic", "gaussian", "squared"] = "auto",
        scale: _decoder.Scale = "entry",
    ):
        super().__init__(domain, condition)
        self.latent_features = latent_features
        self.distribution = (
            _decoder.squared(domain, scale) if decoder == "squared" else _decoder.choose(decoder, domain, scale)
        )
        self.build(network, hidden, channels, blocks, outside=latent_features)
        self.codes = Moments(max(1, classes_of(condition)), latent_features)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, latent_features=2, hidden=(16,))

    @torch.no_grad()
    def initialise(self, split: Split) -> None:
        super().initialise(split)
        some = self.some(split, 1000)
        self.codes.update(self.posterior(some.x, some.condition).mean, self.label(some.condition), 1.0)

    def label(self, condition: Tensor | None) -> Tensor | None:
        """The condition where it is a label, for which codes have a distribution of its own."""
        return condition if isinstance(self.condition, Label) else None

    @property
    def decoder_likelihood(self) -> Likelihood:
        """None: the codes are real numbers, and a certain one has no density that a bound could use."""
        return Likelihood.NONE

    def posterior(self, x: Tensor, condition: Given = None) -> Certain:
        u = self.inputs(x, condition)
        return Certain(self.encoder(u).to(u.dtype))

    @property
    def standard_prior(self) -> bool:
        return False

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.codes.log_prob(z, self.label(condition))

    def sample_prior(
        self, count: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.codes.draw(count, self.label(condition), generator)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x, condition, _ = batch
        check_condition(self, condition, len(x))
        given = self.read_condition(condition)
        z = self.posterior(x, given).mean
        if self.training:
            self.codes.update(z, self.label(condition), FORGETS)
        return {"loss": -self.log_likelihood(x, z, given)}

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        means = self.posterior(batch.x, batch.condition).mean
        cure = "Try a lower --learning-rate or a --clip-norm: units that are dead stay so."
        return _symptoms.posterior_collapse(means, self.domain.num_dims, cure)
