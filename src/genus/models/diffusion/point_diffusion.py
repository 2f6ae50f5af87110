"""Diffusion point clouds: every point of a shape diffuses on its own, given the shape.

A cloud is a set of draws from the surface of a shape, and the shape is a latent vector z. An
encoder reads z from a cloud; a small network, shared by all points, walks a point back from
noise to the surface of shape z; a flow over z draws new shapes. As points are independent
given z, a trained model gives clouds of any number of points.

Luo, Hu (2021), "Diffusion Probabilistic Models for 3D Point Cloud Generation",
https://arxiv.org/abs/2103.01458

What differs from the paper: clouds are centred and scaled by one vector and one scalar for
the whole data set (theirs: every shape by its own), so sizes are part of what is learned and
samples come in the data's own coordinates. Any number of dimensions. The networks see
the time as sines and cosines of many wavelengths (theirs: beta, sin beta, cos beta). The
encoder has no batch norm, and gates are doubled (see `ConcatSquash`). A label, where there is
one, is embedded for the flow and for the points.

Promises: samples, latents (z), a variational bound on the density of the ordered cloud, labels.
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
)
from genus.kinds import Domain, Points, classes_of
from genus.models.diffusion import _bound, _denoiser, _samplers, _symptoms
from genus.models.diffusion._point_networks import Encoder, PointNetwork, ResidualPointNetwork
from genus.models.diffusion._process import Steps, linear_betas
from genus.models.diffusion._scaling import Scaling
from genus.nn.embedding import sinusoidal
from genus.nn.latent_flow import LatentFlow
from genus.prob import gaussian as normal
from genus.prob import noise
from genus.recipe import Recipe

TIME_FEATURES = 32
LOOKED_AT = 16  # clouds that are read in search of symptoms


class PointDiffusion(GenerativeModel, HasLogProb, HasLatents, IsConditional):
    """Points that diffuse independently given the latent vector of their shape.

    Args:
        timesteps: T, the steps that a point takes from the surface to noise.
        last_beta: the variance of the last of these steps; they grow on a line from 1e-4.
        variance: of the reverse steps: ``beta``_t (the paper) or that of the
            ``posterior`` q(x_{t-1} | x_t, x_0) (the authors' code).
        latent_features: entries of z.
        network: what walks points back: the paper's ``concat_squash``, or ``residual``, which learns faster.
        points_a_step: points of each cloud that a training step denoises, of twice as many that the
            encoder reads: cheaper steps. None takes all, as smaller clouds do.
        width: channels of the narrowest layers; the widest have four times as many.
        couplings: affine couplings of the flow over z.
        flow_hidden: hidden units of each coupling.
        prior_weight: of the terms of z beside the mean squared error of the noise.
    """

    paper: ClassVar[str] = (
        "Luo, Hu (2021). Diffusion Probabilistic Models for 3D Point Cloud Generation. https://arxiv.org/abs/2103.01458"
    )
    domains: ClassVar[tuple[type[Domain], ...]] = (Points,)
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=3e-3,
            batch_size=16,
            steps=4000,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=10.0,
            ema=0.995,
            precision="bfloat16",
            settings={
                "last_beta": 0.05,
                "latent_features": 32,
                "width": 64,
                "couplings": 8,
                "flow_hidden": 128,
                "prior_weight": 1e-4,
                "network": "residual",
                "points_a_step": 128,
            },
        ),
        "paper": Recipe(learning_rate=2e-3, batch_size=128, steps=400_000, schedule="linear", clip_norm=10.0),
    }

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        timesteps: int = 100,
        last_beta: float = 0.02,
        variance: _bound.Variance = "beta",
        latent_features: int = 256,
        network: Literal["concat_squash", "residual"] = "concat_squash",
        points_a_step: int | None = None,
        width: int = 128,
        couplings: int = 14,
        flow_hidden: int = 256,
        prior_weight: float = 0.001,
    ):
        super().__init__(domain, condition)
        assert isinstance(domain, Points)  # `refuses` saw to it
        if latent_features < 2 or width < 1 or couplings < 0:
            raise ValueError(
                "expected latent_features >= 2, width >= 1 and couplings >= 0; "
                f"got {latent_features}, {width} and {couplings}."
            )
        if points_a_step is not None and points_a_step < 1:
            raise ValueError(f"expected points_a_step >= 1; got {points_a_step}.")
        self.latent_features, self.prior_weight = latent_features, prior_weight
        self.variance: _bound.Variance = variance
        self.points_a_step = points_a_step
        label_features = 0 if condition is None else 16
        self.label = None if condition is None else nn.Embedding(classes_of(condition), label_features)
        self.process = Steps(linear_betas(timesteps, 1e-4, last_beta))
        self.scaling = Scaling(domain)
        self.encoder = Encoder(domain.dim, latent_features, width)
        self.prior = LatentFlow(latent_features, label_features, couplings, flow_hidden)
        kind = ResidualPointNetwork if network == "residual" else PointNetwork
        self.network: nn.Module = kind(domain.dim, TIME_FEATURES + latent_features + label_features, width)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, timesteps=8, latent_features=4, width=8, couplings=2, flow_hidden=8)

    def initialise(self, split: Split) -> None:
        self.scaling.initialise(split)

    def _embed(self, condition: Tensor | None, count: int) -> Tensor:
        """``(count, label features)``: no features without a condition."""
        check_condition(self, condition, count)
        if self.label is None:
            return torch.empty(count, 0, device=self.device)
        return self.label(condition)

    def predict_eps(self, z: Tensor, label: Tensor) -> _denoiser.Network:
        """The network for fixed shapes: ``(x_t, t)`` -> eps."""

        def network(x_t: Tensor, t: Tensor) -> Tensor:
            return self.network(x_t, torch.cat([sinusoidal(1000 * t.to(z), TIME_FEATURES), z, label], dim=1))

        return network

    def _read(self, x_0: Tensor, label: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """z ~ q(z | x), -H[q(z | x)] and -log p(z): the draw and the two terms of the prior."""
        mean, log_var = self.encoder(x_0)
        z = mean + torch.exp(0.5 * log_var) * noise.normal(tuple(mean.shape), generator, mean.device)
        negative_entropy = -0.5 * (log_var + 1 + math.log(2 * math.pi)).sum(1)
        return z, negative_entropy, -self.prior.log_prob(z, label)

    def _thinned(self, x_0: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The points that the encoder reads, and those that are denoised: in training some, else all."""
        if self.points_a_step is None or not self.training:
            return x_0, x_0
        order = noise.permutation(x_0.shape[1], generator).to(x_0.device)
        return x_0[:, order[: 2 * self.points_a_step]], x_0[:, order[-self.points_a_step :]]

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        label = self._embed(batch.condition, len(batch.x))
        x_0 = self.scaling.encode(batch.x)
        read, x_0 = self._thinned(x_0, generator)
        z, negative_entropy, cross_entropy = self._read(read, label, generator)
        step = 1 + noise.integers(self.process.steps, (len(x_0),), generator, x_0.device)
        eps = noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype)
        network = self.predict_eps(z, label)
        points = _denoiser.error(self.process, network, "eps", x_0, self.process.time(step), eps)
        return {
            "loss": points + self.prior_weight * (negative_entropy + cross_entropy),
            "points": points,
            "negative_entropy": negative_entropy,
            "cross_entropy": cross_entropy,
        }

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        means, log_vars = self.encoder(self.scaling.encode(batch.x[:LOOKED_AT]))
        cure = f"Try a smaller --prior-weight (now {self.prior_weight:g}) or a lower --learning-rate."
        return _symptoms.posterior_collapse(means, log_vars, cure)

    def _reverse(self, z: Tensor, label: Tensor) -> _samplers.Reverse:
        """The steps of points towards the surfaces of fixed shapes."""
        denoise = _denoiser.denoiser(self.process, self.predict_eps(z, label))
        return _bound.fixed(self.process, denoise, self.variance)

    def _walk(self, z: Tensor, label: Tensor, points: int, generator: torch.Generator | None) -> Tensor:
        """Clouds ``(B, points, dim)`` of the shapes z, in the data's own coordinates."""
        x = noise.normal((len(z), points, self.domain.shape[-1]), generator, z.device)
        times = _samplers.of_steps(self.process.steps)
        return self.scaling.decode(_samplers.ancestral(self._reverse(z, label), x, times, generator))

    def _sample(
        self, count: int, condition: Tensor | None, generator: torch.Generator | None, *, points: int | None = None
    ) -> Tensor:
        """``count`` clouds in the data's own coordinates.

        Args:
            points: how many points each cloud has; as many as in the data by default.
        """
        points = self.domain.shape[0] if points is None else points
        if points < 1:
            raise ValueError(f"expected points >= 1; got {points}.")
        label = self._embed(condition, count)
        z = self.prior.inverse(noise.normal((count, self.latent_features), generator, self.device), label)
        return self._walk(z, label, points, generator)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.latent_features,)

    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """The mean of q(z | x), ``(B, latent_features)``; clouds of any number of points."""
        Points(max(1, x.shape[1]), self.domain.shape[1]).check(x)
        return self._encode(x, self.given(condition, len(x)))

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.encoder(self.scaling.encode(x))[0]

    @torch.no_grad()
    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """A cloud of each shape; deterministic, as the points always start from the same noise."""
        return self._walk(z, self._embed(condition, len(z)), self.domain.shape[0], noise.stream("point_diffusion"))

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.BOUND

    @torch.no_grad()
    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """A bound on the log density of the ordered cloud in the data's own coordinates.

        Averaged over ``num_samples`` draws of z and of the noise, with all T steps counted
        for each; more draws steady it. Keeps no gradients.
        """
        label = self._embed(condition, len(x))
        x_0 = self.scaling.encode(x)

        def draw() -> Tensor:
            z, negative_entropy, cross_entropy = self._read(x_0, label, generator)
            terms = _bound.bound_terms(
                self.process, self._reverse(z, label), x_0,
                lambda mean, scale: normal.log_prob(x_0, mean, scale.log()), generator,
            )  # fmt: skip
            return -(_bound.total(terms) + negative_entropy + cross_entropy)

        return (torch.stack([draw() for _ in range(num_samples)]).mean(0) + self.scaling.log_det(x)).float()
