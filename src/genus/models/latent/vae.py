"""Variational autoencoder.

An encoder maps a datum x to a normal law q(z|x) over a small latent vector; a decoder maps
z to a law p(x|z) of the datum. Both are trained to maximise the evidence lower bound,
equation numbers below being the paper's. `log_prob` is the importance-weighted bound of
Burda et al. (2016, https://arxiv.org/abs/1509.00519), which is the ELBO with one sample.

What differs from the paper: ReLU instead of tanh, Adam instead of Adagrad, no prior on the
weights; a discretized logistic law for grey values (the paper used a density for them);
the decoder starts at the mean of the data; beta, a KL warm-up and class labels are optional.

It promises a bound on the likelihood (none with the historical ``grey_bce`` decoder),
latents, and class conditions.
"""

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from genus.contract import Batch, Losses, Split, Symptom, check_condition
from genus.domain import Domain, Grid, Label, Vectors
from genus.models.latent import _decoder, _symptoms
from genus.models.latent._latent import LatentModel
from genus.models.latent._networks import ConvEncoder, conv_decoder, mlp
from genus.prob import noise
from genus.prob.posterior import DiagonalNormal
from genus.recipe import Recipe


class VAE(LatentModel):
    """Variational autoencoder of grids (any size, channels, levels) and of tables.

    Args:
        latent_features: Number of latent variables.
        network: Fully connected layers, or strided convolutions (2-D grids).
        hidden: Widths of the fully connected layers, from the data inwards (network mlp).
        channels: Channels of the convolutions, from the data inwards; each halves the size (network conv).
        decoder: The law of an entry given z. auto takes bernoulli for two levels, discretized_logistic for
            more, gaussian for tables. grey_bce is the historical loss of tutorials and gives no likelihood.
        beta: Weight of the KL term; 1 is the bound, more presses the latents towards the prior.
        kl_warmup: Part of training, from 0 to 1, over which the weight of the KL term rises from zero.
    """

    paper = "Kingma & Welling (2014). Auto-Encoding Variational Bayes. https://arxiv.org/abs/1312.6114"
    domains = (Grid, Vectors)
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
        # The paper's figures end near 10^8 training data in batches of 100; Adam stands in for Adagrad.
        "paper": Recipe(learning_rate=1e-3, batch_size=100, steps=1_000_000),
        # Ten epochs of 60,000 grey pictures: the curve of many tutorials (test BCE + KL 105.6).
        "grey": Recipe(learning_rate=1e-3, batch_size=128, steps=4690, settings={"decoder": "grey_bce"}),
    }

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        latent_features: int = 20,
        network: Literal["mlp", "conv"] = "mlp",
        hidden: tuple[int, ...] = (400,),
        channels: tuple[int, ...] = (32, 64),
        decoder: Literal["auto", "bernoulli", "discretized_logistic", "gaussian", "grey_bce"] = "auto",
        beta: float = 1.0,
        kl_warmup: float = 0.0,
    ):
        super().__init__(domain, condition)
        if latent_features < 1 or any(width < 1 for width in (*hidden, *channels)):
            raise ValueError(f"expected latent_features, hidden and channels >= 1; got {latent_features=}, {hidden=}.")
        if beta < 0 or not 0 <= kl_warmup <= 1:
            raise ValueError(f"expected beta >= 0 and kl_warmup in [0, 1]; got {beta=}, {kl_warmup=}.")
        if condition is not None and not isinstance(condition, Label):
            raise ValueError(f"vae is conditioned on labels; got {condition}.")
        if network == "conv" and not (isinstance(domain, Grid) and len(domain.size) == 2):
            raise ValueError(f"network='conv' needs a 2-D grid; got {domain}. Use network='mlp'.")

        self.latent_features = latent_features
        self.num_classes = condition.count if isinstance(condition, Label) else 0
        self.beta, self.kl_warmup, self.kl_weight = beta, kl_warmup, beta
        self.law = _decoder.choose(decoder, domain)

        outputs, inside, outside = self.law.outputs, latent_features + self.num_classes, 2 * latent_features
        if isinstance(domain, Grid) and network == "conv":
            self.encoder: nn.Module = ConvEncoder(domain, self.num_classes, channels, outside)
            self.decoder = conv_decoder(domain, inside, channels, outputs)
            self.pixel_bias = nn.Parameter(torch.zeros(outputs, *domain.shape))
        else:
            self.encoder = mlp(domain.num_dims + self.num_classes, hidden, outside)
            self.decoder = mlp(inside, hidden[::-1], outputs * domain.num_dims)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, latent_features=2, hidden=(16,))

    def extra_repr(self) -> str:
        return f"{self.domain}, condition={self.condition}, latent_features={self.latent_features}, beta={self.beta}"

    def initialise(self, split: Split) -> None:
        """The mean and spread of (at most 10,000) training data set the law's scale and the output bias."""
        index = torch.linspace(0, len(split) - 1, min(len(split), 10_000)).long()
        x = split.batch(index, noise.stream("vae", "initialise")).x.double()
        mean, std = x.mean(0), x.std(0, correction=0)
        with torch.no_grad():
            self.law.initialise(mean, std)
            self.bias.copy_(self.law.start(mean, std))

    def progress(self, fraction: float) -> None:
        self.kl_weight = self.beta * (min(1.0, fraction / self.kl_warmup) if self.kl_warmup > 0 else 1.0)

    @property
    def bias(self) -> Tensor:
        """The last bias ``(outputs, *domain.shape)``: in both networks one for each entry, so that
        it can start at the data's mean."""
        last = self.decoder[-1]
        return last.bias.view(self.law.outputs, *self.domain.shape) if isinstance(last, nn.Linear) else self.pixel_bias

    # -- the two networks ---------------------------------------------------------------

    def with_label(self, features: Tensor, condition: Tensor | None) -> Tensor:
        """``(B, n)`` features followed by the one-hot label, where there is one."""
        if condition is None:
            return features
        return torch.cat([features, nn.functional.one_hot(condition.long(), self.num_classes).to(features)], 1)

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> DiagonalNormal:
        u = self.law.normalise(x, self.bias.dtype).flatten(1)
        return DiagonalNormal(*self.encoder(self.with_label(u, condition)).to(u.dtype).chunk(2, dim=1))

    def parameters_given(self, z: Tensor, condition: Tensor | None) -> Tensor:
        out = self.decoder(self.with_label(z, condition)).to(z.dtype).view(len(z), -1, *self.domain.shape)
        return out if isinstance(self.decoder[-1], nn.Linear) else out + self.pixel_bias

    # -- the contract -------------------------------------------------------------------

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x, condition, _ = batch
        check_condition(self, condition, len(x))
        q = self.posterior(x, condition)
        z = q.sample(1, generator)[0]  # the reparameterisation, section 2.4
        kl = q.kl_to_standard().sum(1)  # eq. 10, first term
        reconstruction = -self.log_given(x, z, condition)  # second term
        return {"loss": reconstruction + self.kl_weight * kl, "reconstruction": reconstruction, "kl": kl}

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """The loss as it is after the warm-up, so that early checkpoints are not favoured."""
        terms = self.losses(batch, generator)
        return terms["reconstruction"] + self.beta * terms["kl"]

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        means = self.posterior(batch.x, batch.condition).mean
        size = "--channels" if isinstance(self.encoder, ConvEncoder) else "--hidden"
        cure = (
            f"Try a smaller --beta (now {self.beta:g}), a longer --kl-warmup (now {self.kl_warmup:g}; 0.25 is usual), "
            f"a lower --learning-rate or a smaller decoder ({size})."
        )
        return _symptoms.posterior_collapse(means, self.domain.num_dims, cure)
