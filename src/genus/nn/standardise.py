"""Numbers of any unit as numbers of mean 0 and spread 1."""

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """z = (x - mean) / std with the moments of the training data, held in buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def fit(self, x: Tensor) -> None:
        """Take the moments of ``x`` ``(N, ...)`` over the axes along which the buffers have size one."""
        axes = [0] + [axis + 1 for axis, size in enumerate(self.mean.shape) if size == 1]
        std, mean = torch.std_mean(x.double(), dim=axes, correction=0)
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(torch.where(std > 0, std, 1.0).view_as(self.std))  # a constant keeps its own unit

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z of the same shape, and log |det dz/dx|, ``(B,)``."""
        return (x - self.mean) / self.std, -self.std.log().expand(x.shape[1:]).sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """z -> x."""
        return z * self.std + self.mean
