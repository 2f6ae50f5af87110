"""What K draws of the latents say of log p(x): the importance-weighted bound, plain Monte Carlo, exact values.

With w_k = p(x|z_k) p(z_k) / r(z_k) for draws z_k from any distribution r, the mean of the w_k is p(x), and

    L_K = E[ log 1/K sum_k w_k ]  <=  log p(x),    rising in K (Burda et al. 2016, theorem 1,
                                                   https://arxiv.org/abs/1509.00519).

r = q(z|x) gives the ELBO (K = 1) and the importance-weighted bound; r = p(z) gives plain Monte Carlo,
which is right in the mean of p(x), and hopeless in its logarithm once there are more than a few latents.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.contract import HasLogProb, HasPosterior, Likelihood, Posterior

AT_ONCE = 8192  # latents that are decoded together
MOST_LATENTS = 3  # that a grid can cover
REACH = 6.0  # of the grid, in standard deviations of the prior
STEP = 0.75  # of the grid, in standard deviations of the narrowest posterior
FEWEST = 8  # items for an exact value
TOLERANCE = 0.05  # nats between a grid and one twice as coarse; the grid itself is then right to about 1e-6


@dataclass(frozen=True)
class Mean:
    """A mean over items with its standard error."""

    value: float
    stderr: float | None
    items: int

    @classmethod
    def of(cls, values: Tensor) -> "Mean":
        """Of one number an item, ``(N,)``."""
        values = values.double()
        stderr = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
        return cls(float(values.mean()), stderr, len(values))


@dataclass(frozen=True)
class Point:
    """log 1/K sum w_k, and how many of the K draws count: 1 / sum w~^2, the effective sample size."""

    draws: int
    nats: Mean
    effective: float


@dataclass(frozen=True)
class Prior:
    """p(z) in the place of a posterior, for the items of a batch. ``mean``: latents of their number and shape."""

    model: HasPosterior
    mean: Tensor
    condition: Tensor | None = None

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` draws for each item, ``(count, B, *latent shape)``."""
        shape = (count, *self.mean.shape)
        labels = repeated(self.condition, count)
        return self.model.sample_prior(count * len(self.mean), labels, generator).view(shape)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z), ``(count, B)``."""
        return self.model.log_prior(z.flatten(0, 1), repeated(self.condition, len(z))).view(z.shape[:2])


def repeated(x: Tensor | None, count: int) -> Tensor | None:
    """A batch ``count`` times, one after the other."""
    return None if x is None else x.repeat(count, *[1] * (x.ndim - 1))


def log_weights(
    model: HasPosterior,
    x: Tensor,
    distribution: Posterior,
    draws: int,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """log p(x|z) p(z) / distribution(z) at draws from ``distribution`` for each datum, some at a time: float64
    ``(draws, B)``."""
    at_once = max(1, AT_ONCE // len(x))
    counts = [min(at_once, draws - start) for start in range(0, draws, at_once)]
    return torch.cat(
        [
            model.log_weight(x, distribution.sample(count, generator), distribution, condition).double()
            for count in counts
        ]
    ).cpu()


def curve(log_w: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """K, log mean w and the effective sample size of K draws, ``(N,)`` each, for K = 1, 2, 4, ...

    log_w: ``(draws, N)``. Groups of K are pairs of groups of K/2, so the bound rises with K in every
    item, not just in the mean: a mean of two logarithms is at most the logarithm of the mean.
    """
    draws = largest_power(len(log_w))
    one = two = log_w[:draws].double()  # log sum w and log sum w^2 of each group
    two = 2 * two
    points = []
    for doubling in range(draws.bit_length()):
        if doubling:
            one, two = (torch.logaddexp(part[0::2], part[1::2]) for part in (one, two))
        count = 2**doubling
        points.append((count, (one - math.log(count)).mean(0), (2 * one - two).exp().mean(0)))
    return points


def largest_power(count: int) -> int:
    """The largest power of two that is not larger."""
    if count < 1:
        raise ValueError(f"expected 1 draw or more; got {count}.")
    return 1 << (count.bit_length() - 1)


def points_of(log_w: Tensor) -> tuple[Point, ...]:
    """The curve with standard errors over items."""
    return tuple(Point(count, Mean.of(nats), float(effective.mean())) for count, nats, effective in curve(log_w))


# -- exact values ------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """log p(x) of the first items, ``(M,)`` float64, and where it comes from; ``how`` alone where M is 0."""

    nats: Tensor
    how: str


def exact(model: HasPosterior, x: Tensor, condition: Tensor | None, z: Tensor, budget: int) -> Known:
    """log p(x) where it can be had: from the model itself, or on a grid over the latents.

    z: draws from the posterior of each datum, ``(S, B, L)``; they say how fine the grid must be.
    budget: how many latents may be decoded; the fewer, the fewer items.
    """
    if isinstance(model, HasLogProb) and model.likelihood is Likelihood.EXACT:
        return Known(model.log_prob(x, condition=condition).double().cpu(), "the model's own exact likelihood")
    latents = z.shape[2] if z.ndim == 3 else 0
    if not 0 < latents <= MOST_LATENTS:
        return Known(torch.empty(0), f"unknown: a grid covers at most {MOST_LATENTS} latents")
    steps = (STEP * z.std(0).amin(0)).clamp(max=0.5).double()
    reach = z.abs().amax((0, 1)).double().clamp(min=REACH)
    sides = (2 * reach / steps).ceil().long() + 1
    nodes = math.prod(sides.tolist())
    items = min(len(x), budget // nodes)
    if items < min(FEWEST, len(x)):
        return Known(torch.empty(0), f"unknown: a grid as fine as the posteriors would take {nodes:,} latents an item")
    axes = [torch.linspace(-float(r), float(r), int(n), dtype=torch.float64) for r, n in zip(reach, sides, strict=True)]
    fine, coarse = (_on_grid(model, x[:items], condition, axes, every) for every in (1, 2))
    if float((fine - coarse).abs().max()) > TOLERANCE:
        return Known(torch.empty(0), "unknown: a grid as fine as q says is too coarse for the true posterior")
    return Known(fine, f"a grid of {nodes:,} latents")


def _on_grid(model: HasPosterior, x: Tensor, condition: Tensor | None, axes: list[Tensor], every: int) -> Tensor:
    """log of the sum of p(x|z) p(z) over a grid, times the volume of its cells: ``(M,)``. Sums of smooth
    functions that vanish at both ends converge faster than any power of the step."""
    axes = [axis[::every] for axis in axes]
    volume = sum(math.log(float(axis[1] - axis[0])) for axis in axes)
    grid = torch.cartesian_prod(*axes).view(-1, len(axes)).to(x.device)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)  # type: ignore[attr-defined]
    totals = []
    for item in range(len(x)):
        label = None if condition is None else condition[item : item + 1]
        logs = torch.cat([_joint(model, x[item : item + 1], z.to(dtype), label) for z in grid.split(AT_ONCE)])
        totals.append(logs.logsumexp(0) + volume)
    return torch.stack(totals).cpu()


def _joint(model: HasPosterior, x: Tensor, z: Tensor, label: Tensor | None) -> Tensor:
    """log p(x, z) of one datum with many latents, float64."""
    labels = repeated(label, len(z))
    datum = x.expand(len(z), *x.shape[1:])
    return model.log_likelihood(datum, z, labels).double() + model.log_prior(z, labels).double()


def blocks(count: int, size: int) -> Iterator[slice]:
    """The slices of so many items, ``size`` at a time."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
