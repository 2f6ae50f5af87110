"""What a decoder's numbers mean: the law p(x | z) of one entry of a datum.

A network gives ``outputs`` numbers for each entry; a law turns them into log p(x | z), into
draws and into the most typical value. A law reads raw data and gives raw data back, so a
scale or shift that it needs (the spread of a table's columns) is its own business, and its
log-determinant is counted where it is applied.

Parameters have shape ``(B, outputs, *domain.shape)``.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Likelihood
from genus.domain import Domain, Grid
from genus.prob import discretized_logistic, gaussian, noise

SMALLEST_LOG_SCALE = -7.0  # a floor for learned scales: a density over repeated values has no upper bound


class Law(nn.Module, ABC):
    """The law of one entry given the numbers that a decoder gives for it."""

    outputs: ClassVar[int]
    likelihood: ClassVar[Likelihood] = Likelihood.EXACT

    def __init__(self, domain: Domain):
        super().__init__()
        self.domain = domain

    def initialise(self, mean: Tensor, std: Tensor) -> None:
        """Learn the scale of the data from the mean and standard deviation of each entry."""

    @abstractmethod
    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Raw data as numbers of size one: what an encoder reads."""

    @abstractmethod
    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """log p(x | parameters) of each entry, in nats."""

    def total(self, x: Tensor, parameters: Tensor) -> Tensor:
        """log p(x | parameters) of whole data, ``(B,)`` nats."""
        return self.log_prob(x, parameters).flatten(1).sum(1)

    @abstractmethod
    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """The parameters ``(outputs, *shape)`` that fit the data's mean and standard deviation."""

    @abstractmethod
    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw data drawn from the law."""

    @abstractmethod
    def typical(self, parameters: Tensor) -> Tensor:
        """The most typical raw datum: mode or mean, in the domain's own values."""


class Bernoulli(Law):
    """Two levels; one logit an entry."""

    outputs = 1

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        logits = parameters.squeeze(1)
        return -F.binary_cross_entropy_with_logits(logits, self.normalise(x, logits.dtype), reduction="none")

    def total(self, x: Tensor, parameters: Tensor) -> Tensor:
        logits = parameters.flatten(1)
        total: Tensor = BernoulliTotal.apply(logits, x.flatten(1).to(logits.dtype))
        return total

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        return torch.logit(mean.clamp(0.01, 0.99)).unsqueeze(0)

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return noise.bernoulli(parameters.squeeze(1).sigmoid(), generator).to(self.domain.dtype)

    def typical(self, parameters: Tensor) -> Tensor:
        return (parameters.squeeze(1) > 0).to(self.domain.dtype)


class BernoulliTotal(torch.autograd.Function):
    """sum_i x_i l_i - log(1 + exp l_i) over logits l and bits x, ``(B, D)`` -> ``(B,)``; its gradient is
    x - sigmoid(l). One pass over memory less each way than autograd's, which with 50 draws a datum is
    most of the time."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        """The sum of each row."""
        ctx.save_for_backward(logits, x)
        return torch.linalg.vecdot(x, logits) - F.softplus(logits).sum(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Of the logits; bits have none."""
        logits, x = ctx.saved_tensors
        return logits.sigmoid().sub_(x).mul_(-gradient.unsqueeze(1)), None


class GreyBCE(Law):
    """Grey values read as probabilities of a Bernoulli law: the loss of many tutorials.

    Cross-entropy with grey targets is nobody's likelihood (it does not sum to one over the
    levels, and its floor is not zero), so this law has none; it is kept because published
    curves of "BCE + KL" are in it.
    """

    outputs = 1
    likelihood = Likelihood.NONE
    reason = (
        "the grey_bce decoder feeds grey pixels to a cross-entropy, which is not the log-probability of anything. "
        "Build the model with decoder='auto' for a likelihood"
    )

    def __init__(self, domain: Domain):
        super().__init__(domain)
        self.top = (domain.levels or 2) - 1

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype) * (1 / self.top)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        logits = parameters.squeeze(1)
        return -F.binary_cross_entropy_with_logits(logits, self.normalise(x, logits.dtype), reduction="none")

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        return torch.logit((mean / self.top).clamp(0.01, 0.99)).unsqueeze(0)

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.typical(parameters)  # without a law there is nothing to draw from

    def typical(self, parameters: Tensor) -> Tensor:
        return (parameters.squeeze(1).sigmoid() * self.top).round().to(self.domain.dtype)


class DiscretizedLogistic(Law):
    """Ordered levels: a logistic density in open-ended bins; a mean and a log-scale an entry."""

    outputs = 2

    def __init__(self, domain: Domain):
        super().__init__(domain)
        self.levels = domain.levels or 2

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return discretized_logistic.to_unit(x, self.levels, dtype)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        mean, log_scale = parameters[:, 0], parameters[:, 1].clamp(min=SMALLEST_LOG_SCALE)
        return discretized_logistic.log_prob(x, mean, log_scale, self.levels)

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        unit = 2 / (self.levels - 1)
        scale = (std * unit * math.sqrt(3) / math.pi).clamp(min=0.5 * unit)  # a logistic's std is pi scale / sqrt(3)
        return torch.stack([mean * unit - 1, scale.log()])

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, log_scale = parameters[:, 0], parameters[:, 1].clamp(min=SMALLEST_LOG_SCALE)
        return discretized_logistic.sample(mean, log_scale, self.levels, generator).to(self.domain.dtype)

    def typical(self, parameters: Tensor) -> Tensor:
        return discretized_logistic.to_level(parameters[:, 0], self.levels).to(self.domain.dtype)


class Gaussian(Law):
    """Real numbers: a normal density in standardised units; a mean and a log-scale an entry."""

    outputs = 2
    shift: Tensor
    scale: Tensor

    def __init__(self, domain: Domain):
        super().__init__(domain)
        self.register_buffer("shift", torch.zeros(domain.shape))
        self.register_buffer("scale", torch.ones(domain.shape))

    def initialise(self, mean: Tensor, std: Tensor) -> None:
        self.shift.copy_(mean)
        self.scale.copy_(torch.where(std > 0, std, torch.ones_like(std)))  # a constant column keeps its unit

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return (x.to(dtype) - self.shift) / self.scale

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        mean, log_scale = parameters[:, 0], parameters[:, 1].clamp(min=SMALLEST_LOG_SCALE)
        return gaussian.log_prob(self.normalise(x, mean.dtype), mean, log_scale) - self.scale.log()

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        return torch.zeros(self.outputs, *self.domain.shape)

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, log_scale = parameters[:, 0], parameters[:, 1].clamp(min=SMALLEST_LOG_SCALE)
        eps = noise.normal(tuple(mean.shape), generator, mean.device, mean.dtype)
        return ((mean + log_scale.exp() * eps) * self.scale + self.shift).to(self.domain.dtype)

    def typical(self, parameters: Tensor) -> Tensor:
        return (parameters[:, 0] * self.scale + self.shift).to(self.domain.dtype)


LAWS: dict[str, type[Law]] = {
    "bernoulli": Bernoulli,
    "discretized_logistic": DiscretizedLogistic,
    "gaussian": Gaussian,
    "grey_bce": GreyBCE,
}


def choose(name: str, domain: Domain) -> Law:
    """The law ``name`` for ``domain``; ``"auto"`` takes the one that fits its values.

    Raises a ValueError for a law that cannot describe the domain's values.
    """
    if domain.levels is None:
        fitting = ["gaussian"]
    elif domain.levels == 2:
        fitting = ["bernoulli", "discretized_logistic"]
    else:
        fitting = ["discretized_logistic", *(["grey_bce"] if isinstance(domain, Grid) else [])]
    if name == "auto":
        name = fitting[0]
    if name not in fitting:
        raise ValueError(f"decoder={name!r} cannot describe {domain}; expected auto or {' or '.join(fitting)}.")
    return LAWS[name](domain)
