"""From integers to real numbers, for flows: fill the cells with noise, uniform or learned."""

import math
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from genus.contract import Likelihood
from genus.models.flow._coupling import Couplings, checkerboard, squeeze, unsqueeze
from genus.nn.residual import ResidualConvNet
from genus.prob import noise

Kind = Literal["uniform", "variational"]


class UniformDequantization(nn.Module):
    """Integers ``0..levels-1`` -> reals: add uniform noise, then (with an alpha) take a logit.

    v = (x + u) / levels in [0, 1),   y = logit(alpha + (1 - 2 alpha) v)     (RealNVP, section 4.1)

    log P(x) = log E_u p(x + u) >= E_u log p(x + u): any average over u of the log density
    is a *bound* (Theis et al. 2016, section 3.1).

    levels: number of values of an entry. alpha: in (0, 0.5); how far the logit stays away
    from 0 and 1. None leaves the logit out: y = v.
    """

    likelihood = Likelihood.BOUND
    name: ClassVar[Kind] = "uniform"

    def __init__(self, levels: int, alpha: float | None):
        super().__init__()
        if alpha is not None and not 0 < alpha < 0.5:
            raise ValueError(f"alpha: expected a number in (0, 0.5); got {alpha}.")
        self.levels, self.alpha = levels, alpha

    def forward(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Integers ``x`` and uniform noise ``u`` in [0, 1) -> y and log |dy / du|, ``(B,)``."""
        v = (x + u) / self.levels
        if self.alpha is None:
            return v, v.new_full((len(v),), -math.log(self.levels) * v[0].numel())
        p = self.alpha + (1 - 2 * self.alpha) * v
        log_slope = math.log((1 - 2 * self.alpha) / self.levels) - p.log() - (1 - p).log()
        return p.logit(), log_slope.flatten(1).sum(1)

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The noise ``u`` for ``x``."""
        return noise.uniform(tuple(x.shape), generator, x.device)

    def inverse(self, y: Tensor) -> Tensor:
        """The integers (int64) whose cell holds ``y``; what lies beyond 0 and 1 is clamped."""
        v = y if self.alpha is None else (y.sigmoid() - self.alpha) / (1 - 2 * self.alpha)
        return (v * self.levels).floor().clamp(0, self.levels - 1).long()


class VariationalDequantization(UniformDequantization):
    """Noise from a learned distribution q(u | x) in place of the uniform one (Flow++, Ho et al. 2019).

        log P(x) >= E_q [ log p(x + u) - log q(u | x) ]        (equation 12)

    q is a small flow of its own, given x: uniform numbers w, sent to the real line by a logit,
    moved by affine couplings whose networks read x, and sent back by a sigmoid. The density of
    w is one, so -log q(u | x) = log |du / dw|: it is nothing but one more log-determinant. The
    couplings start as the identity, so q starts uniform and training can only gain on that.

    shape: (C, H, W) of the pictures. hidden, blocks: size of each coupling's network.
    couplings: their number; the first one moves every entry by x alone, the others take turns
    in a checkerboard.
    """

    name = "variational"

    def __init__(
        self,
        levels: int,
        alpha: float | None,
        shape: tuple[int, int, int],
        *,
        hidden: int,
        blocks: int = 1,
        couplings: int = 3,
    ):
        super().__init__(levels, alpha)
        board = checkerboard(shape)
        self.squeezes = shape[1] % 2 == 0 and shape[2] % 2 == 0
        if self.squeezes:
            board = squeeze(board)
        channels, *size = board.shape[1:]
        masks = [torch.zeros_like(board[0])]
        if 0 < board.sum() < board.numel():
            masks += [board[0] if k % 2 else 1 - board[0] for k in range(1, couplings)]
        networks = [_Informed(channels, hidden, blocks, (size[0], size[1])) for _ in masks]
        self.couplings = Couplings(masks, networks)

    def warp(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform noise ``w`` -> u ~ q(u | x) and -log q(u | x) = log |du / dw|, ``(B,)``."""
        w = w.clamp(min=2.0**-25)  # half the smallest step of a float32 draw: only an exact zero moves
        context = (2 * x.to(w.dtype) + 1) / self.levels - 1
        real = w.logit()
        moved, log_det = self.couplings(self._fold(real), self._fold(context))
        back = unsqueeze(moved) if self.squeezes else moved
        return back.sigmoid(), log_det + (_log_slope(back) - _log_slope(real)).flatten(1).sum(1)

    def _fold(self, x: Tensor) -> Tensor:
        return squeeze(x) if self.squeezes else x

    def forward(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Integers ``x`` and *uniform* noise ``u`` -> y and log |dy / du|, ``(B,)``; q's density is part of it."""
        u, minus_log_q = self.warp(x, u)
        y, log_det = super().forward(x, u)
        return y, log_det + minus_log_q


class _Informed(nn.Module):
    """The network of a coupling that reads the picture too."""

    def __init__(self, channels: int, hidden: int, blocks: int, size: tuple[int, int]):
        super().__init__()
        self.network = ResidualConvNet(2 * channels, 2 * channels, hidden, blocks, size)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """``(B, C, H, W)`` twice -> ``(B, 2C, H, W)``."""
        return self.network(torch.cat([x, context], dim=1))


def _log_slope(v: Tensor) -> Tensor:
    """log of the derivative of the sigmoid."""
    return -nn.functional.softplus(v) - nn.functional.softplus(-v)


def make_dequantization(
    kind: Kind, levels: int, alpha: float, shape: tuple[int, int, int], hidden: int
) -> UniformDequantization:
    """The dequantization of pictures that the setting ``dequantization`` names."""
    if kind not in get_args(Kind):
        raise ValueError(f"dequantization: expected {' or '.join(get_args(Kind))}; got {kind!r}.")
    if kind == "uniform":
        return UniformDequantization(levels, alpha)
    return VariationalDequantization(levels, alpha, shape, hidden=hidden)
