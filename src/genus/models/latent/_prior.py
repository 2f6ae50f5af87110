"""Distributions of latents that are learned: a mixture of posteriors, a flow, and a normal distribution of running
moments."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.nn.latent_flow import LatentFlow
from genus.prob import noise
from genus.prob.posterior import DiagonalNormal
from genus.prob.reduce import logmeanexp

PriorName = Literal["normal", "vamp", "flow"]
Read = Callable[[Tensor], DiagonalNormal]
"""An encoder: what it reads, ``(B, inputs)``, to q(z|x)."""

COUPLINGS, WIDTH = 6, 128  # of the flow
JITTER = 0.01  # keeps pseudo-inputs apart that start at the same datum
RARE = 1e-12


class Vamp(nn.Module):
    """p(z) = 1/K sum_k q(z | u_k), the mixture of the posteriors of K learned pseudo-inputs u_k (Tomczak &
    Welling 2018, https://arxiv.org/abs/1705.07120). A pseudo-input is all that the encoder reads, a label too."""

    def __init__(self, components: int, inputs: int):
        super().__init__()
        self.pseudo = nn.Parameter(0.5 * torch.empty(components, inputs).normal_())

    def initialise(self, u: Tensor) -> None:
        """Start at what the encoder reads of some data, ``(any, inputs)``, repeated where they are too few."""
        copies = u[torch.arange(len(self.pseudo), device=u.device) % len(u)]
        shift = noise.normal(tuple(copies.shape), noise.stream("vamp", "initialise"), u.device, u.dtype)
        self.pseudo.data.copy_(copies + JITTER * shift)

    def log_prob(self, z: Tensor, read: Read) -> Tensor:
        """log p(z), ``(B,)``."""
        return log_mixture(z, read(self.pseudo))

    def draw(self, count: int, read: Read, generator: torch.Generator | None) -> Tensor:
        """A pseudo-input each, then z from its posterior: ``(count, L)``."""
        q = read(self.pseudo)
        chosen = noise.integers(len(self.pseudo), (count,), generator, q.mean.device)
        return DiagonalNormal(q.mean[chosen], q.log_var[chosen]).sample(1, generator)[0]


def log_mixture(z: Tensor, q: DiagonalNormal) -> Tensor:
    """log of the mean over k of N(z; mean_k, var_k): ``(B, L)`` and K distributions to ``(B,)``.

    The squares are expanded, so that two products of matrices do the work; in float64, since they cancel.
    """
    wide, mean, log_var = z.double(), q.mean.double(), q.log_var.double()
    precision = torch.exp(-log_var)
    squares = wide.square() @ precision.T - 2 * wide @ (mean * precision).T + (mean.square() * precision).sum(1)
    constant = log_var.sum(1) + z.shape[1] * math.log(2 * math.pi)
    return logmeanexp(-0.5 * (squares + constant), 1).to(z.dtype)


class FlowPrior(nn.Module):
    """p(z) by affine couplings, for all labels alike."""

    def __init__(self, features: int):
        super().__init__()
        self.features = features
        self.flow = LatentFlow(features, 0, COUPLINGS, WIDTH)

    def initialise(self, u: Tensor) -> None:
        """Nothing to learn from data before training."""

    def log_prob(self, z: Tensor, read: Read) -> Tensor:
        """log p(z), ``(B,)``."""
        return self.flow.log_prob(z, z[:, :0])

    def draw(self, count: int, read: Read, generator: torch.Generator | None) -> Tensor:
        """Normal noise through the couplings: ``(count, L)``."""
        like = next(self.parameters())
        w = noise.normal((count, self.features), generator, like.device, like.dtype)
        return self.flow.inverse(w, w[:, :0])


def learned(name: PriorName, components: int, inputs: int, features: int) -> Vamp | FlowPrior | None:
    """The prior of this name; None for the standard normal one, which has nothing to learn."""
    if name == "vamp":
        if components < 1:
            raise ValueError(f"components: expected 1 or more pseudo-inputs; got {components}.")
        return Vamp(components, inputs)
    return FlowPrior(features) if name == "flow" else None


class Moments(nn.Module):
    """A normal distribution of latents for each class, from averages over batches: of how often the class comes, of z
    and of z z^T. All are linear in the batch, so several processes may average theirs."""

    weight: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, classes: int, features: int):
        super().__init__()
        self.register_buffer("weight", torch.ones(classes))
        self.register_buffer("first", torch.zeros(classes, features))
        self.register_buffer("second", torch.eye(features).repeat(classes, 1, 1))

    @torch.no_grad()
    def update(self, z: Tensor, label: Tensor | None, share: float) -> None:
        """Move by ``share`` (1: all the way) towards the moments of ``(B, L)`` latents."""
        z = z.double()
        hot = F.one_hot(self.index(z, label), len(self.weight)).to(z) / len(z)
        new = hot.sum(0), hot.T @ z, torch.einsum("bc,bi,bj->cij", hot, z, z)
        for old, value in zip((self.weight, self.first, self.second), new, strict=True):
            old.lerp_(value.to(old), share)

    def index(self, z: Tensor, label: Tensor | None) -> Tensor:
        """The class of each row."""
        return torch.zeros(len(z), dtype=torch.int64, device=z.device) if label is None else label.long()

    def distribution(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each class: the mean, and the spread along the axes of the covariance, in float64."""
        weight = self.weight.double().clamp(min=RARE)
        mean = self.first.double() / weight[:, None]
        covariance = self.second.double() / weight[:, None, None] - mean[:, :, None] * mean[:, None]
        values, axes = torch.linalg.eigh(covariance)
        return mean, values.clamp(min=1e-8).sqrt(), axes

    def draw(self, count: int, label: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """``(count, L)``."""
        mean, spread, axes = self.distribution()
        eps = noise.normal((count, mean.shape[1]), generator, mean.device)
        of = self.index(eps, label)
        root = (axes * spread[:, None]) @ axes.mT  # the symmetric root: it does not know the axes' signs
        return (mean[of] + torch.einsum("bij,bj->bi", root[of], eps.double())).to(self.first.dtype)

    def log_prob(self, z: Tensor, label: Tensor | None) -> Tensor:
        """log p(z), ``(B,)``."""
        mean, spread, axes = self.distribution()
        of = self.index(z, label)
        w = torch.einsum("bji,bj->bi", axes[of], z.double() - mean[of]) / spread[of]
        squares = w.square().sum(1) + 2 * spread[of].log().sum(1) + z.shape[1] * math.log(2 * math.pi)
        return (-0.5 * squares).to(z.dtype)
