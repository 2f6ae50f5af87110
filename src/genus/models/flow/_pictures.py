"""The invertible layers of Glow."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.nn.condition import NOTHING, ConditionBias, Context, Encoded
from genus.nn.residual import zero


class ActNorm(nn.Module):
    """z = (x + shift) * exp(log_scale), a number a channel; starts so that one batch has mean 0 and variance 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set both from a batch ``(B, C, H, W)``; a channel that does not vary keeps its unit."""
        std, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True, correction=0)
        self.shift.copy_(-mean)
        self.log_scale.copy_(-torch.where(std > 1e-6, std, 1.0).log())

    def forward(self, x: Tensor, given: Encoded | None = None) -> tuple[Tensor, Tensor]:
        """x -> z of the same shape, and log |det dz/dx|, ``(B,)``."""
        log_det = x.shape[2] * x.shape[3] * self.log_scale.sum()
        return (x + self.shift) * self.log_scale.exp(), log_det.expand(len(x))

    def inverse(self, z: Tensor, given: Encoded | None = None) -> Tensor:
        """z -> x."""
        return z * (-self.log_scale).exp() - self.shift


class InvertibleConv(nn.Module):
    """z = W x at every pixel, W = P L (U + diag(s)): the determinant of a pixel is the product of s.

    P is fixed, L has ones and U zeros on the diagonal, s keeps its sign and moves by log |s|
    (Glow, equation 10). W starts as a random rotation.
    """

    order: Tensor
    sign: Tensor

    def __init__(self, channels: int):
        super().__init__()
        p, lower, upper = torch.linalg.lu(nn.init.orthogonal_(torch.empty(channels, channels)))
        self.register_buffer("order", p.argmax(1))  # (P M)[i] = M[order[i]]
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_s = nn.Parameter(upper.diagonal().abs().log())

    def _factors(self) -> tuple[Tensor, Tensor]:
        one = torch.eye(len(self.sign), dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + one, self.upper.triu(1) + torch.diag(self.sign * self.log_s.exp())

    def forward(self, x: Tensor, given: Encoded | None = None) -> tuple[Tensor, Tensor]:
        """x -> z of the same shape, and log |det dz/dx|, ``(B,)``."""
        with torch.autocast(x.device.type, enabled=False):  # in bfloat16 W would not be the inverse of its inverse
            lower, upper = self._factors()
            z = F.conv2d(x, (lower @ upper)[self.order, :, None, None])
        return z, (x.shape[2] * x.shape[3] * self.log_s.sum()).expand(len(x))

    def inverse(self, z: Tensor, given: Encoded | None = None) -> Tensor:
        """z -> x."""
        with torch.autocast(z.device.type, enabled=False):
            lower, upper = (factor.double() for factor in self._factors())
            half = torch.linalg.solve_triangular(lower, torch.eye(len(lower), device=z.device).to(lower), upper=False)
            inverse = torch.linalg.solve_triangular(upper, half, upper=True)[:, self.order]
            return F.conv2d(z, inverse.to(z.dtype)[:, :, None, None])


class NormedConv(nn.Conv2d):
    """A convolution whose first weights make its output, on one batch, of mean 0 and variance 1.

    The paper's networks have an actnorm here; folded into the weights it costs nothing.
    """

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Rescale weights and bias by the moments of the output for ``x``."""
        assert self.bias is not None
        std, mean = torch.std_mean(self.forward(x), dim=(0, 2, 3), correction=0)
        std = torch.where(std > 1e-6, std, 1.0)
        self.weight.div_(std[:, None, None, None])
        self.bias.sub_(mean).div_(std)


def network(channels: int, out: int, hidden: int) -> nn.Sequential:
    """Glow's network: convolutions 3x3, 1x1, 3x3 with ReLU between; the last one starts at zero."""
    return nn.Sequential(
        NormedConv(channels, hidden, 3, padding=1),
        nn.ReLU(inplace=True),
        NormedConv(hidden, hidden, 1),
        nn.ReLU(inplace=True),
        zero(nn.Conv2d(hidden, out, 3, padding=1)),
    )


class ChannelCoupling(nn.Module):
    """The second half of the channels, shifted and scaled by what a network reads in the first.

    z2 = (x2 + t) * s with s = sigmoid(raw + 2), as in the official code.
    """

    def __init__(self, channels: int, hidden: int, context: Context = NOTHING):
        super().__init__()
        self.sizes = (channels // 2, channels - channels // 2)
        self.network = network(self.sizes[0], 2 * self.sizes[1], hidden)
        self.label = ConditionBias(context, hidden)

    def _parameters_of(self, x: Tensor, given: Encoded | None) -> tuple[Tensor, Tensor]:
        first, *others = self.network
        h = self.label(first(x.contiguous(memory_format=torch.channels_last)), given)
        for layer in others:
            h = layer(h)
        raw, shift = h.to(x.dtype).chunk(2, dim=1)  # whatever they compute in, the flow stays in x's precision
        return F.logsigmoid(raw + 2), shift

    def forward(self, x: Tensor, given: Encoded | None = None) -> tuple[Tensor, Tensor]:
        """x -> z of the same shape, and log |det dz/dx|, ``(B,)``."""
        first, second = x.split(self.sizes, dim=1)
        log_s, t = self._parameters_of(first, given)
        return torch.cat([first, (second + t) * log_s.exp()], dim=1), log_s.flatten(1).sum(1)

    def inverse(self, z: Tensor, given: Encoded | None = None) -> Tensor:
        """z -> x."""
        first, second = z.split(self.sizes, dim=1)
        log_s, t = self._parameters_of(first, given)
        return torch.cat([first, second * (-log_s).exp() - t], dim=1)


class Step(nn.Module):
    """One step of the flow: actnorm, invertible 1x1 convolution, coupling."""

    def __init__(self, channels: int, hidden: int, context: Context = NOTHING):
        super().__init__()
        coupling = ChannelCoupling(channels, hidden, context)
        self.layers = nn.ModuleList([ActNorm(channels), InvertibleConv(channels), coupling])

    def forward(self, x: Tensor, given: Encoded | None = None) -> tuple[Tensor, Tensor]:
        """x -> z of the same shape, and log |det dz/dx|, ``(B,)``."""
        log_det = x.new_zeros(len(x))
        for layer in self.layers:
            x, more = layer(x, given)
            log_det = log_det + more
        return x, log_det

    def inverse(self, z: Tensor, given: Encoded | None = None) -> Tensor:
        """z -> x."""
        for layer in list(self.layers)[::-1]:
            z = layer.inverse(z, given)  # type: ignore[operator]
        return z


class SplitPrior(nn.Module):
    """What leaves the flow, as standard normal noise given what stays: (go - mean(stay)) / std(stay).

    A learned prior, written as one more invertible layer. ``network`` gives mean and log std of
    what goes; ``odd``, ``(H, W)``: the pixels that go, where it is pixels that do, not channels.
    """

    odd: Tensor | None

    def __init__(self, network: nn.Module, odd: Tensor | None = None):
        super().__init__()
        self.network = network
        self.register_buffer("odd", odd, persistent=False)

    def _moments(self, stay: Tensor) -> tuple[Tensor, Tensor]:
        if self.odd is None:
            mean, log_std = self.network(stay).to(stay.dtype).chunk(2, dim=1)
            return mean, log_std
        height, width = self.odd.shape
        padded = F.pad(stay, (0, width - stay.shape[3], 0, height - stay.shape[2]))
        mean, log_std = self.network(padded).to(stay.dtype)[..., self.odd].chunk(2, dim=1)
        return mean, log_std

    def forward(self, stay: Tensor, go: Tensor) -> tuple[Tensor, Tensor]:
        """What goes -> noise of the same shape, and the log-determinant, ``(B,)``."""
        mean, log_std = self._moments(stay)
        return (go - mean) * (-log_std).exp(), -log_std.flatten(1).sum(1)

    def inverse(self, stay: Tensor, noise: Tensor) -> Tensor:
        """Noise -> what went."""
        mean, log_std = self._moments(stay)
        return noise * log_std.exp() + mean


def fold(x: Tensor, by: tuple[int, int]) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, C a b, H / a, W / b)``: every a x b rectangle becomes channels."""
    (count, channels, height, width), (a, b) = x.shape, by
    pieces = x.reshape(count, channels, height // a, a, width // b, b)
    return pieces.permute(0, 1, 3, 5, 2, 4).reshape(count, channels * a * b, height // a, width // b)


def unfold(x: Tensor, by: tuple[int, int]) -> Tensor:
    """Undo `fold`."""
    (count, channels, height, width), (a, b) = x.shape, by
    pieces = x.reshape(count, channels // (a * b), a, b, height, width)
    return pieces.permute(0, 1, 4, 2, 5, 3).reshape(count, channels // (a * b), height * a, width * b)


def starting(model: nn.Module) -> Iterator[nn.Module]:
    """The layers whose first values depend on data."""
    return (layer for layer in model.modules() if isinstance(layer, ActNorm | NormedConv))
