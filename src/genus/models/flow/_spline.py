"""Monotone rational-quadratic splines with linear tails (Durkan et al. 2019, section 3.1)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_BIN = 1e-3  # a bin's width and height, as a part of the whole interval
SMALLEST_SLOPE = 1e-3
SLOPE_ONE = math.log(math.expm1(1 - SMALLEST_SLOPE))  # softplus of this, plus the smallest, is one: added to all


class Spline:
    """Maps [-bound, bound] onto itself by ``bins`` rational-quadratic pieces; elsewhere the identity.

    The parameters of a number's map: ``bins`` logits of widths, ``bins`` of heights, and the
    slopes at the ``bins - 1`` inner knots, before their softplus; the outer slopes are 1, so the
    map and its derivative have no break anywhere.
    """

    def __init__(self, bins: int, bound: float):
        self.bins, self.bound = bins, bound
        self.size = 3 * bins - 1

    def __call__(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z and log dz/dx: equations 4 and 5."""
        inside = x.abs() < self.bound
        within = x.clamp(-self.bound, self.bound)
        (left, bottom), (width, height), (slope, next_slope) = self._bin(within, raw, 0)
        t, s = (within - left) / width, height / width
        u = t * (1 - t)
        below = s + (slope + next_slope - 2 * s) * u
        z = bottom + height * (s * t * t + slope * u) / below
        above = next_slope * t * t + 2 * s * u + slope * (1 - t).square()
        log_slope = 2 * (s / below).log() + above.log()
        return torch.where(inside, z, x), torch.where(inside, log_slope, 0.0)

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        """z -> x: equations 6 to 8, the root of a quadratic without cancellation."""
        within = z.clamp(-self.bound, self.bound)
        (left, bottom), (width, height), (slope, next_slope) = self._bin(within, raw, 1)
        rise, s = within - bottom, height / width
        bend = rise * (slope + next_slope - 2 * s)
        a, b, c = height * (s - slope) + bend, height * slope - bend, -s * rise
        t = 2 * c / (-b - (b * b - 4 * a * c).clamp(min=0).sqrt())
        return torch.where(z.abs() < self.bound, left + t * width, z)

    def _bin(self, v: Tensor, raw: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """The bin of each v along x (axis 0) or z (axis 1): its lower corner, its size, its end slopes.

        Each is a pair of tensors. Bins come first and are picked by sums under masks, so that all runs
        along memory, forwards and backwards: four times as fast as bins last, and gathered.
        """
        v, raw = v.contiguous(), raw.contiguous()
        shares = raw[: 2 * self.bins].unflatten(0, (2, self.bins)).softmax(1)
        sizes = 2 * self.bound * (SMALLEST_BIN + (1 - self.bins * SMALLEST_BIN) * shares)
        with torch.no_grad():
            passed = (v >= sizes[axis, :-1].cumsum(0) - self.bound).to(v.dtype)  # inner knots at or below v
            passed = F.pad(passed.flatten(1), (0, 0, 0, 1)).view(self.bins, *v.shape)
            here = torch.cat([torch.ones_like(passed[:1]), passed[:-1]]) - passed
        corner = (sizes * passed).sum(1) - self.bound
        inner = raw[2 * self.bins :]
        ends = torch.zeros_like(inner[:1])
        slopes = torch.stack([(torch.cat([ends, inner]) * here).sum(0), (torch.cat([inner, ends]) * here).sum(0)])
        return corner, (sizes * here).sum(1), SMALLEST_SLOPE + F.softplus(slopes + SLOPE_ONE)
