r"""Probabilistic PCA: the latent-variable model whose every answer is known in closed form.

    z ~ N(0, I),   x | z ~ N(W z + mu, sigma^2 I),   so   x ~ N(mu, W W^T + sigma^2 I)

Let lambda_k and u_k be eigenvalues and eigenvectors of the data's covariance (divided by N). The
likelihood is largest (the paper's equations 7 and 8) at

    sigma^2 = mean of the D - K discarded eigenvalues,    W = U (Lambda - sigma^2 I)^(1/2) R.

R is any rotation; here R = I, so that M = W^T W + sigma^2 I = Lambda is diagonal and the posterior
p(z|x) = N(M^-1 W^T (x - mu), sigma^2 M^-1) is one normal distribution for each latent. Nothing is trained: an
encoder and a decoder that are linear can do no better than this, which makes it the oracle of the family.

Integers are dequantized: y = x + u with u uniform in [0, 1). The mean over u is taken in closed form
everywhere: cov(y) = cov(x) + I/12, and the bound

    log P(x) >= E_u log p(x + u) = log p(x + 1/2) - tr(C^-1) / 24,    C = W W^T + sigma^2 I

has no noise. It asks the density to be inside the range of the levels. Samples beyond it go to the end
levels, and `log_likelihood` counts them there: so weighted draws (`log_weight`) of grey pictures with many
black pixels find a far larger P(x) than `log_prob`.

What differs from the paper: sigma is kept from falling below what float32 can tell apart (columns that
are duplicates of others would make the density infinite). Data of unlike units should be standardised
first: the noise has one sigma for all.

It promises an exact density of tables (a bound for grids), latents with their exact posterior, and
completion: what is missing is drawn from its distribution given the rest, or set to its mean (`impute`).
"""

import math
from collections.abc import Iterable
from typing import ClassVar, Self

import torch
from torch import Tensor

from genus.contract import (
    Batch,
    FitsInClosedForm,
    HasLogProb,
    IsEditable,
    Likelihood,
    Losses,
    Split,
    batches,
    weakest,
)
from genus.kinds import Domain, Grid, Vectors
from genus.models.latent._latent import ThroughLatents
from genus.prob import discretized_gaussian, gaussian, noise
from genus.prob.discretized_logistic import to_unit
from genus.prob.posterior import DiagonalNormal
from genus.recipe import Recipe

CELL = 1 / 12  # the variance of uniform noise in [0, 1)
ROUNDING = 2.0**-46  # of a number's square: float32 tells numbers apart to 2^-23
LARGEST = 2**14  # rows and columns of a matrix whose eigenvectors are taken: 2 GB


class PPCA(ThroughLatents, HasLogProb, IsEditable, FitsInClosedForm):
    """Probabilistic principal component analysis of tables and of grids, fitted in one pass in float64.

    Args:
        latent_features: Number of latent variables, fewer than entries; by default 50, or half the entries
            where that is less.
    """

    paper = (
        "Tipping & Bishop (1999). Probabilistic Principal Component Analysis. https://doi.org/10.1111/1467-9868.00196"
    )
    domains = (Grid, Vectors)
    needs_ordered_levels = True
    recipes: ClassVar[dict[str, Recipe]] = {"quick": Recipe(), "paper": Recipe()}  # one pass: nothing to choose
    mean: Tensor  # mu, (D,)
    axes: Tensor  # U, (D, K)
    eigenvalues: Tensor  # lambda_k, (K,), the largest first, none below sigma^2
    variance: Tensor  # sigma^2, ()

    def __init__(self, domain: Domain, condition: Domain | None = None, *, latent_features: int | None = None):
        super().__init__(domain, condition)
        entries = domain.num_dims
        self.latent_features = min(50, entries // 2) if latent_features is None else latent_features
        if not 1 <= self.latent_features < entries:
            raise ValueError(
                f"latent_features: expected 1 to {entries - 1} for {domain}, as sigma^2 is what the discarded "
                f"directions vary by; got {latent_features}."
            )
        for name, start in (
            ("mean", torch.zeros(entries)),
            ("axes", torch.eye(entries, self.latent_features)),
            ("eigenvalues", torch.ones(self.latent_features)),
            ("variance", torch.ones(())),
        ):
            self.register_buffer(name, start.double())

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, cls.domains) and domain.num_dims < 2:
            return f"ppca needs two entries, one to explain by another; got {domain}."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, latent_features=min(3, domain.num_dims - 1))

    def extra_repr(self) -> str:
        return f"{self.domain}, latent_features={self.latent_features}"

    @property
    def num_parameters(self) -> int:
        """The mean, sigma, and W up to rotation."""
        entries, latents = self.axes.shape
        return entries + 1 + entries * latents - latents * (latents - 1) // 2

    @property
    def weight(self) -> Tensor:
        """W, ``(D, K)``: its columns are orthogonal, the longest first."""
        return self.axes * (self.eigenvalues - self.variance).sqrt()

    def real(self, x: Tensor) -> Tensor:
        """Data as rows of real numbers ``(B, D)``, integers at the middle of their cells."""
        return x.flatten(1).to(self.mean) + (0.5 if self.domain.discrete else 0.0)

    # -- the fit ------------------------------------------------------------------------

    @torch.no_grad()
    def fit(self, split: Split) -> None:
        """The maximum of the likelihood (of the bound, for integers), in one pass over the split."""
        count, entries, latents = len(split), self.domain.num_dims, self.latent_features
        if count <= latents:
            raise ValueError(
                f"{count} data span {max(0, count - 1)} directions at most, too few for latent_features={latents}: "
                f"give more data or fewer latents."
            )
        if min(count, entries) > LARGEST:
            raise ValueError(
                f"{count:,} data of {entries:,} entries: expected at most {LARGEST:,} data, or as many entries. "
                f"Make the data smaller or fewer."
            )
        parts = (self.real(batch.x) for batch in batches(split, 1000))
        mean, values, axes = (of_rows if count < entries else of_covariance)(parts, latents)
        top, rest = values[:latents], values[latents:].sum() / (entries - latents)

        finest = ROUNDING / 12 * (values.sum() / entries + mean.square().mean())
        if not self.domain.discrete and values.sum() <= finest * entries:
            raise ValueError(f"all {count} data are the same: there is nothing to explain.")
        cell = CELL if self.domain.discrete else 0.0
        self.mean.copy_(mean)
        self.axes.copy_(axes)
        self.variance.copy_(torch.maximum(rest + cell, finest))
        self.eigenvalues.copy_(torch.maximum(top + cell, self.variance))

    # -- likelihood ---------------------------------------------------------------------

    @property
    def likelihood(self) -> Likelihood:
        return weakest([Likelihood.BOUND] if self.domain.discrete else [])

    @property
    def protocol(self) -> dict[str, str]:
        return {"dequantization": "uniform"} if self.domain.discrete else {}

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """log N(x; mu, C), ``(B,)`` float64; of integers its mean over their cells, to which draws add nothing."""
        offset = self.real(x) - self.mean
        along = offset @ self.axes
        beside = offset - along @ self.axes.T
        discarded = offset.shape[1] - self.latent_features
        distance = (along.square() / self.eigenvalues).sum(1) + beside.square().sum(1) / self.variance
        log_det = self.eigenvalues.log().sum() + discarded * self.variance.log()
        spread = CELL * ((1 / self.eigenvalues).sum() + discarded / self.variance) if self.domain.discrete else 0.0
        return -0.5 * (distance + spread + log_det + offset.shape[1] * math.log(2 * math.pi))

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x, condition=batch.condition)}

    # -- the parts: p(z), p(x|z), p(z|x) --------------------------------------------------

    @property
    def latent_domain(self) -> Vectors:
        return Vectors(self.latent_features)

    @property
    def decoder_likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> DiagonalNormal:
        """p(z|x) in float64, exact for tables; integers are taken at the middle of their cells."""
        mean = (self.real(x) - self.mean) @ self.weight / self.eigenvalues
        return DiagonalNormal(mean, (self.variance / self.eigenvalues).log().expand_as(mean))

    @property
    def standard_prior(self) -> bool:
        return True

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return gaussian.log_prob(z, z.new_zeros(()), z.new_zeros(())).sum(1)

    def sample_prior(
        self, count: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.normal((count, self.latent_features), generator)

    def mean_given(self, z: Tensor) -> Tensor:
        """W z + mu, ``(B, D)``."""
        return z.to(self.mean) @ self.weight.T + self.mean

    def log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(x|z), ``(B,)``; of integers the probabilities of their cells, the outer ones open."""
        mean, levels = self.mean_given(z), self.domain.levels
        if levels is None:
            return gaussian.log_prob(self.real(x), mean, 0.5 * self.variance.log()).sum(1)
        return self.log_cells(x.flatten(1), mean, levels).sum(1)

    def log_cells(self, x: Tensor, mean: Tensor, levels: int) -> Tensor:
        """log P(x) of each entry's cell, the outer ones open, under a normal distribution around ``mean``."""
        unit = 2 / (levels - 1)  # the middle of a cell lies half a level above its number
        centre = to_unit(mean - 0.5, levels, mean.dtype)
        return discretized_gaussian.log_prob(x, centre, unit * self.variance.sqrt(), levels)

    def log_levels(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        levels = self.domain.levels
        if levels is None:
            return super().log_levels(z, condition)
        return self.log_cells(torch.arange(levels, device=z.device), self.mean_given(z).unsqueeze(-1), levels)

    def raw(self, y: Tensor) -> Tensor:
        """Rows of real numbers as data; integers are the cells that hold them, or the nearest."""
        if self.domain.levels is not None:
            y = y.floor().clamp(0, self.domain.levels - 1)
        return y.to(self.domain.dtype).view(len(y), *self.domain.shape)

    @torch.no_grad()
    def generate(self, z: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        mean = self.mean_given(z)
        return self.raw(mean + self.variance.sqrt() * self.normal(tuple(mean.shape), generator))

    def normal(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Standard normal numbers in the precision of the model."""
        return noise.normal(shape, generator, self.mean.device, self.mean.dtype)

    @torch.no_grad()
    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.posterior(x).mean.to(self.latent_domain.dtype)

    @torch.no_grad()
    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        if z.shape[1:] != (self.latent_features,):
            raise ValueError(f"z: expected shape (B, {self.latent_features}); got {tuple(z.shape)}.")
        return self.raw(self.mean_given(z))

    # -- missing values -------------------------------------------------------------------

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Draw what is not kept from its exact distribution given what is (integers: given that they are at the middle
        of their cells). Missing entries of ``x`` may hold anything, NaN too."""
        mean, root = self.latents_given(x, keep)
        z = mean + (root @ self.normal((*mean.shape, 1), generator)).squeeze(-1)
        return torch.where(keep, x, self.generate(z, None, generator))

    @torch.no_grad()
    def impute(self, x: Tensor, keep: Tensor) -> Tensor:
        """Set what is not kept to its mean given what is: deterministic."""
        return torch.where(keep, x, self.decode(self.latents_given(x, keep)[0]))

    def latents_given(self, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """p(z | the kept entries): its mean ``(B, K)``, and a root R of its covariance R R^T, ``(B, K, K)``.

        The posterior with the rows of W that are kept; M is no longer diagonal, and another one for each mask.
        """
        if keep.dtype != torch.bool or keep.shape != x.shape:
            raise ValueError(f"keep: expected booleans {tuple(x.shape)}, as x; got {keep.dtype} {tuple(keep.shape)}.")
        x = torch.where(keep, x, torch.zeros_like(x))
        self.domain.check(x)
        w, keep = self.weight, keep.flatten(1)
        masks, which = keep.unique(dim=0, return_inverse=True)
        squares, turns = torch.linalg.eigh(torch.stack([w[mask].T @ w[mask] for mask in masks]))
        turn, precision = turns[which], (squares.clamp(min=0) + self.variance)[which]  # M = turn precision turn^T
        answer = torch.where(keep, self.real(x) - self.mean, 0.0) @ w
        mean = turn @ ((answer.unsqueeze(1) @ turn).squeeze(1) / precision).unsqueeze(-1)
        return mean.squeeze(-1), turn * (self.variance / precision).sqrt().unsqueeze(1)


# -- eigenvectors of the covariance ---------------------------------------------------------


def of_covariance(parts: Iterable[Tensor], latents: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean ``(D,)``, all D eigenvalues, the largest first, and the first eigenvectors ``(D, K)``, from rows that
    come ``(B, D)`` at a time and are not kept: their moments are merged as by Chan, Golub & LeVeque (1983)."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for rows in parts:
        if count == 0:
            mean, squares = rows.new_zeros(rows.shape[1]), rows.new_zeros(rows.shape[1], rows.shape[1])
        centre, total = rows.mean(0), count + len(rows)
        gap, rows = centre - mean, rows - centre
        squares.addmm_(rows.T, rows).addr_(gap, gap, alpha=count * len(rows) / total)
        mean, count = mean + gap * (len(rows) / total), total
    values, vectors = torch.linalg.eigh(squares / count)
    return mean, values.flip(0).clamp(min=0), upright(vectors.flip(1)[:, :latents])


def of_rows(parts: Iterable[Tensor], latents: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same of fewer rows than entries, N < D: from the N x N matrix of their products. All rows together
    take less memory than a covariance would. Only N eigenvalues are returned; the others are zero."""
    rows = torch.cat(list(parts))
    mean = rows.mean(0)
    rows -= mean
    values, vectors = torch.linalg.eigh(rows @ rows.T / len(rows))
    axes, _ = torch.linalg.qr(rows.T @ vectors.flip(1)[:, :latents])  # orthonormal, even for eigenvalues of zero
    return mean, values.flip(0).clamp(min=0), upright(axes)


def upright(axes: Tensor) -> Tensor:
    """Columns with the sign that makes their largest entry positive: eigenvectors have none of their own."""
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -axes, axes)
