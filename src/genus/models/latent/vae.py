"""Variational autoencoder.

An encoder maps a datum x to a normal distribution q(z|x) over a small latent vector; a decoder maps
z to a distribution p(x|z) of the datum. Both are trained to maximise the evidence lower bound,
equation numbers below being the paper's. `log_prob` is the importance-weighted bound of
Burda et al. (2016, https://arxiv.org/abs/1509.00519), which is the ELBO with one sample.

What differs from the paper: ReLU instead of tanh, Adam instead of Adagrad, no prior on the
weights; a discretized logistic distribution for grey values (the paper used a density for them);
the decoder starts at the mean of the data. Optional, from later papers: beta, a KL warm-up, a
condition that both networks read and the prior does not (Kingma et al. 2014, section 2,
https://arxiv.org/abs/1406.5298), one scale for all entries (sigma-VAE), a prior that is learned (a
mixture of posteriors at pseudo-inputs, which are not confined to the data's range as in the paper, or
a flow), and free bits.

With free bits the loss takes max(free_bits, KL) of each latent's KL, averaged over batches, not of
each datum's (Kingma et al. 2016, appendix C.8, https://arxiv.org/abs/1606.04934); the paper averages
over one batch, here it is a running average over some ten, so that a part of a batch has the loss that
it has in the whole. `kl` stays the true divergence: reconstruction + kl is minus the ELBO.

It promises a bound on the likelihood (none with the historical ``grey_bce`` decoder),
latents, and conditions of any kind.
"""

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from genus.contract import Batch, Losses, Posterior, Split, Symptom, check_condition
from genus.kinds import Domain, Grid, Tokens, Vectors, Waveform
from genus.models.latent import _decoder, _prior, _symptoms
from genus.models.latent._latent import LatentModel, standard_normal
from genus.models.latent._networks import ConvEncoder, Network, TwoNetworks
from genus.nn.condition import Given
from genus.prob.posterior import DiagonalNormal
from genus.recipe import Recipe


class VAE(TwoNetworks, LatentModel):
    """Variational autoencoder of grids (any size, channels, levels), sequences, sound and tables.

    Args:
        latent_features: Number of latent variables.
        network: Fully connected layers; conv puts strided convolutions before them (all but tables).
        hidden: Widths of the fully connected layers, from the data inwards.
        channels: Channels of the convolutions, from the data inwards; each halves the size (network conv).
        blocks: Residual blocks after each of these convolutions (network conv).
        decoder: The distribution of an entry given z. auto takes bernoulli for two levels, discretized_logistic for
            ordered levels and sound, categorical for symbols and codes, gaussian for tables. grey_bce is the
            historical loss of tutorials and gives no likelihood.
        scale: Of a discretized_logistic or gaussian distribution: an entry's own, given z, or shared by all entries.
        beta: Weight of the KL term; 1 is the bound, more presses the latents towards the prior.
        kl_warmup: Part of training, from 0 to 1, over which the weight of the KL term rises from zero.
        free_bits: Nats of each latent that cost nothing (prior normal).
        prior: normal, vamp (a mixture of posteriors at learned pseudo-inputs) or flow. Learned priors
            know no condition.
        components: Pseudo-inputs (prior vamp).
    """

    paper = "Kingma & Welling (2014). Auto-Encoding Variational Bayes. https://arxiv.org/abs/1312.6114"
    domains = (Grid, Tokens, Waveform, Vectors)
    recipes: ClassVar[dict[str, Recipe]] = {
        # The decay keeps few data from being overfitted (it costs 1.4 % on MNIST's 60,000); without
        # the clipping the convolutional network's units die at the start.
        "quick": Recipe(
            optimizer="adamw",
            weight_decay=1.0,
            clip_norm=100.0,
            learning_rate=2e-3,
            schedule="cosine",
            batch_size=128,
            steps=4000,
            precision="fast-float32",
        ),
        # Without a warm-up the latents of symmetric tables stay unused.
        "quick-vectors": Recipe(
            learning_rate=2e-3,
            schedule="cosine",
            batch_size=128,
            steps=4000,
            precision="fast-float32",
            settings={"kl_warmup": 0.25},
        ),
        # A hundred passes over 60,000 binarized digits: half an hour on one quiet core with bfloat16.
        "conv": Recipe(
            learning_rate=1e-3,
            schedule="cosine",
            batch_size=128,
            steps=50_000,
            precision="bfloat16",
            settings={"network": "conv", "latent_features": 50},
        ),
        # The paper's figures end near 10^8 training data in batches of 100; Adam stands in for Adagrad.
        "paper": Recipe(learning_rate=1e-3, batch_size=100, steps=1_000_000),
        # Ten epochs of 60,000 grey pictures: the curve of many tutorials (test BCE + KL 105.6).
        "grey": Recipe(learning_rate=1e-3, batch_size=128, steps=4690, settings={"decoder": "grey_bce"}),
    }

    kl_average: Tensor

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
        decoder: Literal["auto", "bernoulli", "categorical", "discretized_logistic", "gaussian", "grey_bce"] = "auto",
        scale: _decoder.Scale = "entry",
        beta: float = 1.0,
        kl_warmup: float = 0.0,
        free_bits: float = 0.0,
        prior: _prior.PriorName = "normal",
        components: int = 500,
    ):
        super().__init__(domain, condition)
        if beta < 0 or not 0 <= kl_warmup <= 1:
            raise ValueError(f"expected beta >= 0 and kl_warmup in [0, 1]; got {beta=}, {kl_warmup=}.")
        if free_bits < 0 or (free_bits and prior != "normal"):
            raise ValueError(
                f"expected free_bits >= 0, and 0 with a learned prior, whose divergence is not a sum over latents; "
                f"got {free_bits=}, {prior=}."
            )
        self.latent_features, self.free_bits = latent_features, free_bits
        self.beta, self.kl_warmup, self.kl_weight = beta, kl_warmup, beta
        self.distribution = _decoder.choose(decoder, domain, scale)
        self.build(network, hidden, channels, blocks, outside=2 * latent_features)
        self.prior = _prior.learned(prior, components, self.reads, latent_features)
        if free_bits:
            self.register_buffer("kl_average", torch.zeros(latent_features))

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, latent_features=2, hidden=(16,))

    def extra_repr(self) -> str:
        return f"{self.domain}, condition={self.condition}, latent_features={self.latent_features}, beta={self.beta}"

    @torch.no_grad()
    def initialise(self, split: Split) -> None:
        super().initialise(split)
        if isinstance(self.prior, _prior.Vamp):
            some = self.some(split, len(self.prior.pseudo))
            self.prior.initialise(self.inputs(some.x, some.condition))

    def progress(self, fraction: float) -> None:
        self.kl_weight = self.beta * (min(1.0, fraction / self.kl_warmup) if self.kl_warmup > 0 else 1.0)

    # -- posterior and prior --------------------------------------------------------------

    def read(self, u: Tensor) -> DiagonalNormal:
        """q(z|x) of what the encoder reads."""
        return DiagonalNormal(*self.encoder(u).to(u.dtype).chunk(2, dim=1))

    def posterior(self, x: Tensor, condition: Given = None) -> DiagonalNormal:
        return self.read(self.inputs(x, condition))

    @property
    def standard_prior(self) -> bool:
        return self.prior is None

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return standard_normal(z) if self.prior is None else self.prior.log_prob(z, self.read)

    @torch.no_grad()
    def sample_prior(
        self, count: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        if self.prior is None:
            return super().sample_prior(count, condition, generator)
        return self.prior.draw(count, self.read, generator)

    def log_weight(self, x: Tensor, z: Tensor, q: Posterior, condition: Given = None, beta: float = 1.0) -> Tensor:
        """As of any model, but the condition is read once a datum, not once a draw."""
        given, flat = self.read_condition(condition), z.flatten(0, 1)
        many = None if given is None else given.repeat(len(z))
        log_p = self.log_likelihood(x.repeat(len(z), *[1] * (x.ndim - 1)), flat, many) + beta * self.log_prior(flat)
        return log_p.view(z.shape[:2]) - beta * q.log_prob(z)

    # -- the contract -------------------------------------------------------------------

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x, condition, _ = batch
        check_condition(self, condition, len(x))
        given = self.read_condition(condition)
        q = self.posterior(x, given)
        z = q.sample(1, generator)  # the reparameterisation, section 2.4
        reconstruction = -self.log_likelihood(x, z[0], given)  # eq. 10, second term
        if self.prior is not None:
            kl = price = q.log_prob(z)[0] - self.log_prior(z[0])  # of one draw
        else:
            each = q.kl_to_standard()
            kl = each.sum(1)  # first term
            price = self.beyond_free_bits(each) if self.free_bits else kl
        return {"loss": reconstruction + self.kl_weight * price, "reconstruction": reconstruction, "kl": kl}

    def beyond_free_bits(self, each: Tensor) -> Tensor:
        """What the loss takes of the divergences ``(B, L)``: a latent's own where its average is above
        ``free_bits``, else ``free_bits``. The mean over data is sum_l max(free_bits, average KL_l)."""
        price = torch.where(self.kl_average > self.free_bits, each, self.free_bits).sum(1)
        if self.training:
            self.kl_average.lerp_(each.detach().mean(0).to(self.kl_average), 0.1)
        return price

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """The loss as it is after the warm-up, so that early checkpoints are not favoured; no bits are free."""
        terms = self.losses(batch, generator)
        return terms["reconstruction"] + self.beta * terms["kl"]

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        means = self.posterior(batch.x, batch.condition).mean
        return _symptoms.posterior_collapse(means, self.domain.num_dims, self.cure)

    @property
    def cure(self) -> str:
        """What helps against a posterior that has collapsed."""
        return (
            f"Try a smaller --beta (now {self.beta:g}), a longer --kl-warmup (now {self.kl_warmup:g}; 0.25 is usual), "
            f"--free-bits (now {self.free_bits:g}; 0.1 is usual), a lower --learning-rate or a smaller decoder "
            f"({self.size_setting})."
        )

    @property
    def size_setting(self) -> str:
        """The setting that makes the decoder smaller."""
        return "--channels" if isinstance(self.encoder, ConvEncoder) else "--hidden"
