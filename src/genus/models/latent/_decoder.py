"""What a decoder's numbers mean: the distribution p(x | z) of one entry of a datum.

A network gives ``outputs`` numbers for each entry; a distribution turns them into log p(x | z), into
draws and into the mode (or mean). A distribution reads raw data and gives raw data back, so a
scale or shift that it needs (the spread of a table's columns) is its own business, and its
log-determinant is counted where it is applied.

Parameters have shape ``(B, outputs, *domain.shape)``.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Likelihood
from genus.kinds import Domain, Grid, Pyramid, Tokens
from genus.prob import discretized_logistic, gaussian, noise

SMALLEST_LOG_SCALE = -7.0  # a floor for learned scales: a density over repeated values has no upper bound


Scale = Literal["entry", "shared"]


def size_of(domain: Domain) -> tuple[int, ...]:
    """How far a datum reaches along its axes: the size of a grid, the length of a sequence."""
    return domain.size if isinstance(domain, Grid) else domain.shape


class Distribution(nn.Module, ABC):
    """The distribution of one entry given the numbers that a decoder gives for it."""

    outputs: int
    likelihood: ClassVar[Likelihood] = Likelihood.EXACT

    def __init__(self, domain: Domain):
        super().__init__()
        self.domain = domain
        self.planes = domain.num_dims // math.prod(size_of(domain))  # numbers at each place that an encoder reads

    def fit(self, x: Tensor) -> Tensor:
        """Learn the scale of data, and give the parameters ``(outputs, *shape)`` to start at."""
        mean, std = x.double().mean(0), x.double().std(0, correction=0)
        self.initialise(mean, std)
        return self.start(mean, std)

    def initialise(self, mean: Tensor, std: Tensor) -> None:
        """Learn the scale of the data from the mean and standard deviation of each entry."""

    @abstractmethod
    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Raw data as numbers of size one: what an encoder reads, ``planes`` for each place."""

    @abstractmethod
    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """log p(x | parameters) of each entry, in nats."""

    def total(self, x: Tensor, parameters: Tensor) -> Tensor:
        """log p(x | parameters) of whole data, ``(B,)`` nats."""
        return self.log_prob(x, parameters).flatten(1).sum(1)

    def log_levels(self, parameters: Tensor) -> Tensor:
        """log p(level | parameters) of every level of each entry, ``(B, *domain.shape, levels)`` nats."""
        levels = torch.arange(self.domain.levels or 0, device=parameters.device)
        shape = (len(parameters), *self.domain.shape)
        return torch.stack([self.log_prob(level.expand(shape), parameters) for level in levels], -1)

    @abstractmethod
    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """The parameters ``(outputs, *shape)`` that fit the data's mean and standard deviation."""

    @abstractmethod
    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw data drawn from the distribution."""

    @abstractmethod
    def mode(self, parameters: Tensor) -> Tensor:
        """The mode (or mean) of a raw datum, in the domain's own values."""


class Bernoulli(Distribution):
    """Two levels; one logit an entry."""

    outputs = 1

    def __init__(self, domain: Domain):
        super().__init__(domain)
        self.top = (domain.levels or 2) - 1

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        logits = parameters.squeeze(1)
        return -F.binary_cross_entropy_with_logits(logits, self.normalise(x, logits.dtype), reduction="none")

    def total(self, x: Tensor, parameters: Tensor) -> Tensor:
        logits = parameters.flatten(1)
        total: Tensor = BernoulliTotal.apply(logits, self.normalise(x, logits.dtype).flatten(1))
        return total

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        return torch.logit((mean / self.top).clamp(0.01, 0.99)).unsqueeze(0)

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return noise.bernoulli(parameters.squeeze(1).sigmoid(), generator).to(self.domain.dtype)

    def mode(self, parameters: Tensor) -> Tensor:
        return (parameters.squeeze(1) > 0).to(self.domain.dtype)


class BernoulliTotal(torch.autograd.Function):
    """sum_i x_i l_i - log(1 + exp l_i) over logits l and x in [0, 1], ``(B, D)`` -> ``(B,)``; its gradient is
    x - sigmoid(l). One pass over memory less each way than autograd's, which with 50 draws a datum is
    most of the time."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        """The sum of each row."""
        ctx.save_for_backward(logits, x)
        return torch.linalg.vecdot(x, logits) - F.softplus(logits).sum(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Of the logits; data have none."""
        logits, x = ctx.saved_tensors
        return logits.sigmoid().sub_(x).mul_(-gradient.unsqueeze(1)), None


class GreyBCE(Bernoulli):
    """Grey values read as probabilities of a Bernoulli distribution: the loss of many tutorials.

    Cross-entropy with grey targets is nobody's likelihood (it does not sum to one over the
    levels, and its floor is not zero), so this distribution has none; it is kept because published
    curves of "BCE + KL" are in it.
    """

    outputs = 1
    likelihood = Likelihood.NONE
    reason = (
        "the grey_bce decoder feeds grey pixels to a cross-entropy, which is not the log-probability of anything. "
        "Build the model with decoder='auto' for a likelihood"
    )

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype) * (1 / self.top)

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.mode(parameters)  # without a distribution there is nothing to draw from

    def mode(self, parameters: Tensor) -> Tensor:
        return (parameters.squeeze(1).sigmoid() * self.top).round().to(self.domain.dtype)


class Categorical(Distribution):
    """Levels without an order; a logit for each. An encoder reads them one-hot."""

    def __init__(self, domain: Domain):
        super().__init__(domain)
        self.outputs = domain.levels or 2
        self.planes *= self.outputs

    def fit(self, x: Tensor) -> Tensor:
        """The logarithms of the levels' frequencies at each entry, half a datum added to every level."""
        counts = torch.stack([(x == level).sum(0) for level in range(self.outputs)]) + 0.5
        return (counts / (len(x) + 0.5 * self.outputs)).log()

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        hot = torch.zeros(len(x), self.outputs, *x.shape[1:], dtype=dtype, device=x.device)
        return hot.scatter_(1, x.long().unsqueeze(1), 1)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        return -F.cross_entropy(parameters, x.long(), reduction="none")

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        return torch.zeros(self.outputs, *self.domain.shape)  # mean and spread say nothing of codes

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return noise.categorical(parameters.movedim(1, -1), generator).to(self.domain.dtype)

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.argmax(1).to(self.domain.dtype)


class Scaled(Distribution):
    """A place and a log-scale for each entry; or a place for each, and one scale that all entries share, a
    parameter that z does not move (Rybkin et al. 2021, https://arxiv.org/abs/2006.13202)."""

    def __init__(self, domain: Domain, scale: Scale = "entry"):
        super().__init__(domain)
        self.outputs = 2 if scale == "entry" else 1
        if scale == "shared":
            self.log_scale = nn.Parameter(torch.zeros(()))

    @property
    def shared(self) -> bool:
        """Whether there is one scale."""
        return self.outputs == 1

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Place and log-scale of each entry."""
        place = parameters[:, 0]
        log_scale = self.log_scale.expand_as(place) if self.shared else parameters[:, 1]
        return place, log_scale.clamp(min=SMALLEST_LOG_SCALE)


class DiscretizedLogistic(Scaled):
    """Ordered levels: a logistic density in open-ended bins."""

    def __init__(self, domain: Domain, scale: Scale = "entry"):
        super().__init__(domain, scale)
        self.levels = domain.levels or 2

    def widths(self, std: Tensor) -> Tensor:
        """Log-scales of logistic distributions with these standard deviations: pi scale / sqrt(3)."""
        unit = 2 / (self.levels - 1)
        return (std * unit * math.sqrt(3) / math.pi).clamp(min=0.5 * unit).log()

    def initialise(self, mean: Tensor, std: Tensor) -> None:
        if self.shared:
            self.log_scale.copy_(self.widths(std.square().mean().sqrt()))

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return discretized_logistic.to_unit(x, self.levels, dtype)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        return discretized_logistic.log_prob(x, *self.split(parameters), self.levels)

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        place = discretized_logistic.to_unit(mean, self.levels, mean.dtype)
        return torch.stack([place, self.widths(std)][: self.outputs])

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return discretized_logistic.sample(*self.split(parameters), self.levels, generator).to(self.domain.dtype)

    def mode(self, parameters: Tensor) -> Tensor:
        return discretized_logistic.to_level(parameters[:, 0], self.levels).to(self.domain.dtype)


class Standardised(Distribution):
    """Numbers in units of their spread: of each entry, or ``one_unit`` for all, their root mean square deviation."""

    one_unit: bool
    shift: Tensor
    scale: Tensor

    def __init__(self, domain: Domain, *scale: Scale):
        super().__init__(domain, *scale)
        self.register_buffer("shift", torch.zeros(domain.shape))
        self.register_buffer("scale", torch.ones(domain.shape))

    def initialise(self, mean: Tensor, std: Tensor) -> None:
        std = std.square().mean().sqrt().expand_as(std) if self.one_unit else std
        self.shift.copy_(mean)
        self.scale.copy_(torch.where(std > 0, std, torch.ones_like(std)))  # a constant entry keeps its unit

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return (x.to(dtype) - self.shift) / self.scale

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        return torch.zeros(self.outputs, *self.domain.shape)


class Gaussian(Standardised, Scaled):
    """Real numbers: a normal density in standardised units.

    A shared scale is one number in the table's own units, so all columns are divided by one.
    With a linear decoder that is probabilistic PCA.
    """

    def __init__(self, domain: Domain, scale: Scale = "entry"):
        super().__init__(domain, scale)
        self.one_unit = self.shared

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        mean, log_scale = self.split(parameters)
        return gaussian.log_prob(self.normalise(x, mean.dtype), mean, log_scale) - self.scale.log()

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, log_scale = self.split(parameters)
        eps = noise.normal(tuple(mean.shape), generator, mean.device, mean.dtype)
        return ((mean + log_scale.exp() * eps) * self.scale + self.shift).to(self.domain.dtype)

    def mode(self, parameters: Tensor) -> Tensor:
        return (parameters[:, 0] * self.scale + self.shift).to(self.domain.dtype)


class Squared(Standardised):
    """Half the squared distance, in units of the data's spread: the loss of classical autoencoders, no distribution.

    Pixels share a unit.
    """

    outputs = 1
    likelihood = Likelihood.NONE

    def __init__(self, domain: Domain):
        super().__init__(domain)
        self.one_unit = domain.discrete

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        return -0.5 * (self.normalise(x, parameters.dtype) - parameters.squeeze(1)).square()

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.mode(parameters)  # without a distribution there is nothing to draw from

    def mode(self, parameters: Tensor) -> Tensor:
        x = parameters.squeeze(1) * self.scale + self.shift
        return (x if self.domain.levels is None else x.round().clamp(0, self.domain.levels - 1)).to(self.domain.dtype)


LAWS: dict[str, type[Distribution]] = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "discretized_logistic": DiscretizedLogistic,
    "gaussian": Gaussian,
    "grey_bce": GreyBCE,
}


def choose(name: str, domain: Domain, scale: Scale = "entry") -> Distribution:
    """The distribution ``name`` for ``domain``; ``"auto"`` takes the one that fits its values.

    Raises a ValueError for a distribution that cannot describe the domain's values, and for a shared scale of a
    distribution that has no scale.
    """
    fitting = laws_of(domain)
    if name == "auto":
        name = fitting[0]
    if name not in fitting:
        raise ValueError(f"decoder={name!r} cannot describe {domain}; expected auto or {' or '.join(fitting)}.")
    distribution = LAWS[name]
    if issubclass(distribution, Scaled):
        return distribution(domain, scale)
    if scale != "entry":
        raise ValueError(
            f"scale={scale!r} needs a distribution with a scale, discretized_logistic or gaussian; got {name}."
        )
    return distribution(domain)


def laws_of(domain: Domain) -> list[str]:
    """The distributions that can describe a domain's values, the best first."""
    if domain.levels is None:
        return ["gaussian"]
    binary = ["bernoulli"] if domain.levels == 2 else []
    if isinstance(domain, Tokens | Pyramid) or (isinstance(domain, Grid) and not domain.ordered):
        return [*binary, "categorical"]
    grey = ["grey_bce"] if isinstance(domain, Grid) and domain.levels > 2 else []
    return [*binary, "discretized_logistic", "categorical", *grey]


def squared(domain: Domain, scale: Scale = "entry") -> Squared:
    """Half the squared error of ordered values, for models that need no distribution.

    Raises a ValueError for symbols and codes, whose distances mean nothing, and for a shared scale.
    """
    if laws_of(domain)[-1] == "categorical" and "discretized_logistic" not in laws_of(domain):
        raise ValueError(f"decoder='squared' needs ordered values; got {domain}. Use decoder='categorical'.")
    if scale != "entry":
        raise ValueError(f"decoder='squared' has one scale already; leave out scale={scale!r}.")
    return Squared(domain)
