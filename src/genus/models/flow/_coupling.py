"""Invertible layers: each maps x to z, knows log |det dz/dx|, and undoes itself."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genus.nn.condition import Given


class AffineCoupling(nn.Module):
    """z = x where the mask is 1, and x * exp(s) + t elsewhere; s and t see the masked x only.

    log |det dz/dx| = sum of s   (RealNVP, equations 4 to 9). s = scale * tanh(.), with a
    learned scale an entry of the first axis, so that no single step can blow up.

    mask: 0/1, of a shape that broadcasts to one datum ``(C, ...)``. network: maps a masked
    x (and a condition) to 2C channels; it starts at zero, so the flow starts as the identity.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, network: nn.Module):
        super().__init__()
        self.register_buffer("mask", mask.float().clone(memory_format=torch.contiguous_format), persistent=False)
        self.network = network
        self.scale = nn.Parameter(torch.ones(len(mask), *(1 for _ in mask.shape[1:])))

    def _parameters_of(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        # whatever the network computes in, the flow itself stays in x's precision
        raw, shift = self.network(x * self.mask, given).to(x.dtype).chunk(2, dim=1)
        free = 1 - self.mask
        return free * self.scale * raw.tanh(), free * shift

    def forward(self, x: Tensor, given: Given = None) -> tuple[Tensor, Tensor]:
        """x -> z of the same shape, and log |det dz/dx|, ``(B,)``."""
        s, t = self._parameters_of(x, given)
        return x * s.exp() + t, s.flatten(1).sum(1)

    def inverse(self, z: Tensor, given: Given = None) -> Tensor:
        """z -> x."""
        s, t = self._parameters_of(z, given)
        return (z - t) * (-s).exp()


class AdditiveCoupling(nn.Module):
    """z = x where the mask is 1, and x + t elsewhere; t sees the masked x only. The volume stays.

    mask: 0/1, of a shape that broadcasts to one datum. network: maps a masked x (and a condition)
    to its shape (NICE, equation 9).
    """

    mask: Tensor

    def __init__(self, mask: Tensor, network: nn.Module):
        super().__init__()
        self.register_buffer("mask", mask.float().clone(), persistent=False)
        self.network = network

    def _shift(self, x: Tensor, given: Given) -> Tensor:
        return (1 - self.mask) * self.network(x * self.mask, given).to(x.dtype)

    def forward(self, x: Tensor, given: Given = None) -> tuple[Tensor, Tensor]:
        """x -> z of the same shape, and log |det dz/dx| = 0, ``(B,)``."""
        return x + self._shift(x, given), x.new_zeros(len(x))

    def inverse(self, z: Tensor, given: Given = None) -> Tensor:
        """z -> x."""
        return z - self._shift(z, given)


class Couplings(nn.Module):
    """A chain of couplings. ``masks``: which entries each one reads; the others it moves."""

    def __init__(
        self,
        masks: Sequence[Tensor],
        networks: Sequence[nn.Module],
        kind: type[AffineCoupling] | type[AdditiveCoupling] = AffineCoupling,
    ):
        super().__init__()
        self.steps = nn.ModuleList(kind(mask, net) for mask, net in zip(masks, networks, strict=True))

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """x -> z and log |det dz/dx|, ``(B,)``; ``given`` is whatever else the networks read."""
        log_det = x.new_zeros(len(x))
        for step in self.steps:
            x, more = step(x, given)
            log_det = log_det + more
        return x, log_det

    def inverse(self, z: Tensor, given: Given) -> Tensor:
        """z -> x."""
        for step in list(self.steps)[::-1]:
            z = step.inverse(z, given)  # type: ignore[operator]
        return z


def checkerboard(shape: tuple[int, int, int]) -> Tensor:
    """0 and 1 in turn over the pixels, ``(1, C, H, W)``; all channels of a pixel are alike."""
    _, height, width = shape
    return ((torch.arange(height)[:, None] + torch.arange(width)) % 2).float().expand(1, *shape)


def squeeze(x: Tensor) -> Tensor:
    """``(B, C, 2H, 2W)`` -> ``(B, 4C, H, W)``: every 2x2 square becomes four channels."""
    return nn.functional.pixel_unshuffle(x, 2)


def unsqueeze(x: Tensor) -> Tensor:
    """``(B, 4C, H, W)`` -> ``(B, C, 2H, 2W)``: undoes `squeeze`."""
    return nn.functional.pixel_shuffle(x, 2)
