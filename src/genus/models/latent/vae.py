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

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

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
    check_condition,
    weakest,
)
from genus.domain import Domain, Grid, Label, Vectors
from genus.errors import CapabilityError
from genus.models.latent import _decoder, _symptoms
from genus.prob import gaussian, noise
from genus.prob.reduce import logmeanexp
from genus.recipe import Recipe


class VAE(GenerativeModel, HasLogProb, HasLatents, IsConditional):
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

    def posterior(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), each ``(B, latent_features)``."""
        u = self.law.normalise(x, self.bias.dtype).flatten(1)
        mean, log_var = self.encoder(self.with_label(u, condition)).to(u.dtype).chunk(2, dim=1)
        return mean, log_var

    def parameters_given(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """What the law p(x|z) needs: ``(B, outputs, *domain.shape)``."""
        out = self.decoder(self.with_label(z, condition)).to(z.dtype).view(len(z), -1, *self.domain.shape)
        return out if isinstance(self.decoder[-1], nn.Linear) else out + self.pixel_bias

    # -- the contract -------------------------------------------------------------------

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x, condition, _ = batch
        check_condition(self, condition, len(x))
        mean, log_var = self.posterior(x, condition)
        eps = noise.normal(tuple(mean.shape), generator, mean.device, mean.dtype)
        z = mean + torch.exp(0.5 * log_var) * eps  # the reparameterisation, section 2.4
        kl = gaussian.kl_to_standard(mean, log_var).sum(1)  # eq. 10, first term
        reconstruction = -self.law.log_prob(x, self.parameters_given(z, condition)).flatten(1).sum(1)  # second term
        return {"loss": reconstruction + self.kl_weight * kl, "reconstruction": reconstruction, "kl": kl}

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """The loss as it is after the warm-up, so that early checkpoints are not favoured."""
        terms = self.losses(batch, generator)
        return terms["reconstruction"] + self.beta * terms["kl"]

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        means, _ = self.posterior(batch.x, batch.condition)
        size = "--channels" if isinstance(self.encoder, ConvEncoder) else "--hidden"
        cure = (
            f"Try a smaller --beta (now {self.beta:g}), a longer --kl-warmup (now {self.kl_warmup:g}; 0.25 is usual), "
            f"a lower --learning-rate or a smaller decoder ({size})."
        )
        return _symptoms.posterior_collapse(means, self.domain.num_dims, cure)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        pixels: Literal["draw", "typical"] = "draw",
    ) -> Tensor:
        """Draw z from the prior, then x from p(x|z).

        Args:
            pixels: draw takes each entry from its law, as the model means it; typical takes its most
                typical value, as papers show it.
        """
        check_condition(self, condition, count)
        z = noise.normal((count, self.latent_features), generator, self.device, self.bias.dtype)
        parameters = self.parameters_given(z, None if condition is None else condition.to(self.device))
        return self.law.typical(parameters) if pixels == "typical" else self.law.draw(parameters, generator)

    @property
    def likelihood(self) -> Likelihood:
        return weakest([Likelihood.BOUND, self.law.likelihood])

    @torch.no_grad()
    def log_prob(
        self,
        x: Tensor,
        *,
        condition: Tensor | None = None,
        num_samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The importance-weighted bound: log mean_k p(x|z_k) p(z_k) / q(z_k|x) <= log p(x).

        Its mean rises with ``num_samples``; one sample gives (a draw of) the ELBO.
        """
        if isinstance(self.law, _decoder.GreyBCE):
            raise CapabilityError(f"this vae has no log_prob: {self.law.reason}.")
        if num_samples < 1:
            raise ValueError(f"expected num_samples >= 1; got {num_samples}.")
        self.domain.check(x)
        check_condition(self, condition, len(x))
        mean, log_var = self.posterior(x, condition)
        at_once = max(1, 8192 // len(x))  # samples of z that are decoded together
        chunks = [min(at_once, num_samples - start) for start in range(0, num_samples, at_once)]
        log_w = torch.cat([self._log_weights(x, condition, mean, log_var, k, generator) for k in chunks])
        return logmeanexp(log_w).to(mean.dtype)

    def _log_weights(
        self,
        x: Tensor,
        condition: Tensor | None,
        mean: Tensor,
        log_var: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """log p(x|z) + log p(z) - log q(z|x) for draws of z from q: ``(num_samples, B)``."""
        eps = noise.normal((num_samples, *mean.shape), generator, mean.device, mean.dtype)
        z = mean + torch.exp(0.5 * log_var) * eps
        prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
        posterior = -0.5 * (eps.square() + log_var + math.log(2 * math.pi)).sum(-1)
        repeated = None if condition is None else condition.repeat(num_samples)
        parameters = self.parameters_given(z.flatten(0, 1), repeated)
        log_p = self.law.log_prob(x.repeat(num_samples, *[1] * (x.ndim - 1)), parameters).flatten(1).sum(1)
        return log_p.view(num_samples, len(x)).double() + prior - posterior

    @torch.no_grad()
    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        self.domain.check(x)
        check_condition(self, condition, len(x))
        return self.posterior(x, condition)[0]

    @torch.no_grad()
    def decode(self, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        check_condition(self, condition, len(z))
        if z.shape[1:] != (self.latent_features,):
            raise ValueError(f"z: expected shape (B, {self.latent_features}); got {tuple(z.shape)}.")
        return self.law.typical(self.parameters_given(z, condition))


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Fully connected layers with ReLU between them."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def halvings(size: tuple[int, ...], times: int) -> list[tuple[int, ...]]:
    """The sizes that strided convolutions pass through: each rounds up, so odd sizes are fine."""
    sizes = [size]
    for _ in range(times):
        sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
    return sizes


class ConvEncoder(nn.Module):
    """Strided convolutions and a linear layer: ``(B, C*H*W + classes)`` to ``(B, outputs)``."""

    def __init__(self, domain: Grid, classes: int, channels: tuple[int, ...], outputs: int):
        super().__init__()
        self.shape = domain.shape
        layers: list[nn.Module] = []
        for before, after in zip((domain.channels, *channels), channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        features = (domain.channels, *channels)[-1] * math.prod(halvings(domain.size, len(channels))[-1])
        self.head = nn.Linear(features + classes, outputs)

    def forward(self, u: Tensor) -> Tensor:
        """Convolve the picture; the label joins before the last layer."""
        picture, label = u.split([math.prod(self.shape), u.shape[1] - math.prod(self.shape)], dim=1)
        return self.head(torch.cat([self.layers(picture.view(-1, *self.shape)).flatten(1), label], 1))


def conv_decoder(domain: Grid, inputs: int, channels: tuple[int, ...], outputs: int) -> nn.Sequential:
    """The mirror image: a linear layer, transposed convolutions, and a convolution to the outputs."""
    sizes = halvings(domain.size, len(channels))
    wide = channels[::-1] or (domain.channels,)
    layers: list[nn.Module] = [
        nn.Linear(inputs, wide[0] * math.prod(sizes[-1])),
        nn.Unflatten(1, (wide[0], *sizes[-1])),
        nn.ReLU(inplace=True),
    ]
    for before, after, size in zip(wide, (*wide[1:], wide[-1]), sizes[-2::-1], strict=False):
        even = (1 - size[0] % 2, 1 - size[1] % 2)  # an even size needs one more row than 2m - 1
        layers += [
            nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=even),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(wide[-1], outputs * domain.channels, 3, padding=1, bias=False))
