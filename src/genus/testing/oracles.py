"""Exact answers to compare with: closed forms and sums over all states."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from genus.kinds import Domain
from genus.prob import noise
from genus.testing.statistics import require


def all_states(domain: Domain, largest: int = 4096) -> Tensor:
    """Every datum of a small grid: ``(levels^D, *shape)``. Raises a ValueError above ``largest``."""
    if domain.levels is None or domain.states > largest:
        raise ValueError(f"{domain} has {domain.states} states; expected at most {largest}.")
    states = torch.tensor(list(product(range(domain.levels), repeat=domain.num_dims)))
    return states.view(-1, *domain.shape).to(domain.dtype)


def state_index(x: Tensor, domain: Domain) -> Tensor:
    """The place of each datum in `all_states`: ``(B,)``."""
    weights = (domain.levels or 1) ** torch.arange(domain.num_dims - 1, -1, -1)
    return (x.flatten(1).long() * weights).sum(1)


def check_causal(function: Callable[[Tensor], Tensor], x: Tensor, levels: int) -> None:
    """Raise a `CheckError` unless the output for entry i depends only on the entries before i.

    function: raw data ``(B, *shape)`` -> ``(B, D, ...)`` numbers (logits) for each of the D
    entries in the model's order, which is taken to be raster order. Every entry j is changed
    in turn; outputs 0 .. j must not move by a single bit, and later ones must move somewhere.
    """
    before = function(x)
    for j in range(before.shape[1]):
        changed = x.flatten(1).clone()
        changed[:, j] = (changed[:, j] + 1) % levels
        after = function(changed.view(x.shape))
        moved = (after != before).flatten(2).any(2).any(0)
        require(not moved[: j + 1].any(), f"entry {j} moves the output for entry {int(moved.int().argmax())}.")
        if j + 1 < before.shape[1]:
            require(bool(moved[j + 1 :].any()), f"entry {j} moves no later output: nothing is modelled from it.")


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of isotropic normals whose density, score and samples are exact at every noise level.

    weights: ``(K,)`` summing to one. means: ``(K, D)``. scales: ``(K,)`` standard deviations.
    """

    weights: Tensor
    means: Tensor
    scales: Tensor

    def log_joint(self, x: Tensor) -> Tensor:
        """log w_k N(x; mean_k, scale_k^2): ``(B, K)``."""
        distance = (x.unsqueeze(1) - self.means).square().sum(-1)
        dims = self.means.shape[1]
        normaliser = dims * (self.scales.log() + 0.5 * math.log(2 * math.pi))
        return self.weights.log() - 0.5 * distance / self.scales.square() - normaliser

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), ``(B,)``, for x ``(B, D)``."""
        return self.log_joint(x).logsumexp(1)

    def score(self, x: Tensor) -> Tensor:
        """d log p / dx, ``(B, D)``."""
        responsibility = self.log_joint(x).softmax(1) / self.scales.square()
        return (responsibility.unsqueeze(-1) * (self.means - x.unsqueeze(1))).sum(1)

    def diffused(self, alpha: float, sigma: float) -> "GaussianMixture":
        """The distribution of alpha x + sigma eps: again a mixture, so the exact score of every noise level."""
        scales = torch.sqrt((alpha * self.scales).square() + sigma**2)
        return GaussianMixture(self.weights, alpha * self.means, scales)

    def denoised(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """E[x_0 | alpha x_0 + sigma eps = x], the perfect denoiser: of each part a normal posterior, weighed by how
        likely it is. Tweedie's formula, (x + sigma^2 score) / alpha, is the same, but loses its digits where alpha
        is small."""
        diffused = self.diffused(alpha, sigma)
        gain = alpha * (self.scales / diffused.scales).square()
        each = self.means + gain.unsqueeze(-1) * (x.unsqueeze(1) - diffused.means)
        return (diffused.log_joint(x).softmax(1).unsqueeze(-1) * each).sum(1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` draws, ``(count, D)``."""
        k = noise.categorical(self.weights.log().expand(count, -1), generator)
        eps = noise.normal((count, self.means.shape[1]), generator, dtype=self.means.dtype)
        return self.means[k] + self.scales[k].unsqueeze(1) * eps


@dataclass(frozen=True)
class LinearGaussian:
    """x = W z + mean + sigma eps with z ~ N(0, 1): probabilistic PCA, a VAE whose answers are known.

    (Tipping & Bishop 1999, https://doi.org/10.1111/1467-9868.00196.) W: ``(D, K)``.
    """

    w: Tensor
    mean: Tensor
    sigma: float

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mean, W W^T + sigma^2), ``(B,)``."""
        covariance = self.w @ self.w.T + self.sigma**2 * torch.eye(len(self.w), dtype=self.w.dtype)
        return torch.distributions.MultivariateNormal(self.mean, covariance).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``(B, K)`` and covariance ``(K, K)`` of p(z | x) = N(M^-1 W^T (x - mean), sigma^2 M^-1)."""
        m = self.w.T @ self.w + self.sigma**2 * torch.eye(self.w.shape[1], dtype=self.w.dtype)
        inverse = torch.linalg.inv(m)
        return (x - self.mean) @ self.w @ inverse, self.sigma**2 * inverse

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` draws, ``(count, D)``."""
        z = noise.normal((count, self.w.shape[1]), generator, dtype=self.w.dtype)
        eps = noise.normal((count, len(self.w)), generator, dtype=self.w.dtype)
        return z @ self.w.T + self.mean + self.sigma * eps
