"""The historical loss of vector-quantised autoencoders: squared error in units of the data's variance."""

import torch
from torch import Tensor

from genus.contract import Likelihood
from genus.kinds import Domain
from genus.models.latent._decoder import Distribution
from genus.prob import discretized_logistic


class MeanSquare(Distribution):
    """(x - mean)^2 / Var(x) of each entry, with one variance for all data: what the authors' code reports.

    It belongs to no distribution (a normal density with that variance would, but of real numbers, not of levels),
    so there is no likelihood; it is kept because published curves are in it.
    """

    outputs = 1
    likelihood = Likelihood.NONE
    reason = (
        "the mse decoder is trained on squared errors, which are not the log-probability of anything. "
        "Build the model with decoder='auto' for a likelihood"
    )
    variance: Tensor

    def __init__(self, domain: Domain):
        super().__init__(domain)
        self.levels = domain.levels or 2
        self.register_buffer("variance", torch.ones(()))

    def initialise(self, mean: Tensor, std: Tensor) -> None:
        unit = 2 / (self.levels - 1)  # the variance of all entries: within places, and between them
        self.variance.copy_((std.square().mean() + mean.var(correction=0)) * unit**2).clamp_(min=1e-6)

    def normalise(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return discretized_logistic.to_unit(x, self.levels, dtype)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """The negative error: of the form of a log-probability, but none."""
        mean = parameters.squeeze(1)
        return -(self.normalise(x, mean.dtype) - mean).square() / self.variance

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        return discretized_logistic.to_unit(mean, self.levels, mean.dtype).unsqueeze(0)

    def draw(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.mode(parameters)  # without a distribution there is nothing to draw from

    def mode(self, parameters: Tensor) -> Tensor:
        return discretized_logistic.to_level(parameters.squeeze(1), self.levels).to(self.domain.dtype)
