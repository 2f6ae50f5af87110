"""Encoders and decoders of vector-quantised models: strided convolutions with residual blocks between.

As in van den Oord et al. (2017), section 4.1: 4x4 convolutions with stride 2, then residual blocks
(ReLU, 3x3, ReLU, 1x1); the decoder mirrors them. Over one, two or three axes, and of any size:
a half rounds up, since an odd map gets one more row before it is halved and loses it on the way back.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.kinds import Domain
from genus.models.latent._codebook import Codebook, Quantised
from genus.models.latent._decoder import Distribution, size_of
from genus.nn.residual import zero
from genus.prob import noise

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
FASTEST = {4: torch.channels_last, 5: torch.channels_last_3d}  # memory formats by the number of axes


def halved(size: Sequence[int], times: int) -> tuple[int, ...]:
    """A size halved ``times`` times, upwards."""
    return tuple(-(-n // 2**times) for n in size)


def lively(layer: nn.Module) -> nn.Module:
    """A convolution whose weights keep the size of what passes through ReLUs (He et al. 2015,
    https://arxiv.org/abs/1502.01852): with torch's own, ten layers leave a hundredth of it."""
    transposed = isinstance(layer, tuple(TRANSPOSED.values()))
    met = math.prod(layer.kernel_size) / (math.prod(layer.stride) if transposed else 1)  # type: ignore[arg-type]
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.in_channels * met)))  # type: ignore[arg-type, operator]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class Residual(nn.Module):
    """``h + W relu(W relu(h))`` with a 3x3 convolution to ``inner`` channels and a 1x1 back; starts as h."""

    def __init__(self, dims: int, channels: int, inner: int):
        super().__init__()
        self.spread = lively(CONV[dims](channels, inner, 3, padding=1))
        self.mix = zero(CONV[dims](inner, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        """``(B, channels, *size)`` -> the same shape."""
        return h + self.mix(F.relu(self.spread(F.relu(h))))


class Encoder(nn.Module):
    """``halvings`` strided convolutions, one more, residual blocks: ``(B, inputs, *size)`` to ``hidden`` channels.

    residual: the inner width of each block. The first of several convolutions has half the width.
    """

    def __init__(self, dims: int, inputs: int, hidden: int, residual: tuple[int, ...], halvings: int):
        super().__init__()
        widths = widths_of(hidden, halvings)
        self.halve = nn.ModuleList(
            lively(CONV[dims](before, after, 4, stride=2, padding=1))
            for before, after in zip([inputs, *widths], widths, strict=False)
        )
        self.last = lively(CONV[dims]([inputs, *widths][-1], hidden, 3, padding=1))
        self.blocks = nn.Sequential(*(Residual(dims, hidden, inner) for inner in residual))

    def forward(self, h: Tensor) -> Tensor:
        """``(B, inputs, *size)`` -> ``(B, hidden, *halved)``."""
        for halve in self.halve:
            odd = [edge for n in reversed(h.shape[2:]) for edge in (0, n % 2)]
            h = packed(F.relu(halve(F.pad(h, odd) if any(odd) else h)))
        return F.relu(self.blocks(packed(self.last(h))))


class Decoder(nn.Module):
    """The mirror image of `Encoder`: ``(B, inputs, *halved)`` to ``outputs`` channels of the full ``size``."""

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        hidden: int,
        residual: tuple[int, ...],
        halvings: int,
        size: Sequence[int],
    ):
        super().__init__()
        widths = [*widths_of(hidden, halvings)[-2::-1], outputs]
        self.sizes = [halved(size, k) for k in reversed(range(halvings))]
        self.first = lively(CONV[dims](inputs, hidden, 3, padding=1))
        self.blocks = nn.Sequential(*(Residual(dims, hidden, inner) for inner in residual))
        self.enlarge = nn.ModuleList(
            lively(TRANSPOSED[dims](before, after, 4, stride=2, padding=1))
            for before, after in zip([hidden, *widths], widths[:halvings], strict=False)
        )
        self.last = nn.Identity() if halvings else CONV[dims](hidden, outputs, 1)

    def quiet(self) -> "Decoder":
        """Itself, with an output that starts at zero: for a distribution that starts at what fits the data."""
        zero(self.enlarge[-1] if len(self.enlarge) else self.last)
        return self

    def forward(self, h: Tensor) -> Tensor:
        """``(B, inputs, *halved)`` -> ``(B, outputs, *size)``."""
        h = self.blocks(packed(self.first(packed(h))))
        for enlarge, size in zip(self.enlarge, self.sizes, strict=True):
            h = enlarge(F.relu(h))[(..., *(slice(n) for n in size))]
        return self.last(h)


def widths_of(hidden: int, halvings: int) -> list[int]:
    """Channels after each halving: half the width at first, where maps are largest."""
    return [hidden // 2 if k == 0 and halvings > 1 else hidden for k in range(halvings)]


def packed(h: Tensor) -> Tensor:
    """The channels of a place side by side in memory: convolutions are faster so."""
    return h.contiguous(memory_format=FASTEST[h.ndim]) if h.ndim in FASTEST else h


class Writer(nn.Module):
    """The numbers of a distribution for each entry: maps, and a bias a channel that starts at what fits the data."""

    def __init__(self, domain: Domain, distribution: Distribution):
        super().__init__()
        self.shape, self.size = domain.shape, size_of(domain)
        channels = domain.num_dims // math.prod(self.size)
        self.channels = distribution.outputs * channels
        self.bias = nn.Parameter(torch.zeros(distribution.outputs, channels, *(1 for _ in self.size)))

    @torch.no_grad()
    def fit(self, x: Tensor, distribution: Distribution) -> None:
        """Start the distribution at data, those of all places together."""
        entries = x.reshape(len(x), self.bias.shape[1], -1).movedim(2, 1).flatten(0, 1)
        self.bias.copy_(distribution.fit(entries).view(self.bias.shape))

    def forward(self, h: Tensor) -> Tensor:
        """``(B, channels, *size)`` -> ``(B, outputs, *domain.shape)``."""
        parameters = h.to(self.bias.dtype).unflatten(1, self.bias.shape[:2]) + self.bias
        return parameters.reshape(len(h), -1, *self.shape)


class Bottleneck(nn.Module):
    """A 1x1 convolution to the features of a codebook, and the codebook."""

    def __init__(self, dims: int, inputs: int, codebook: Codebook):
        super().__init__()
        self.shrink = CONV[dims](inputs, codebook.codes.shape[1], 1)
        self.codebook = codebook
        self.fresh = False  # the next maps that come are to begin from

    def forward(self, h: Tensor, generator: torch.Generator | None = None) -> Quantised:
        """``(B, inputs, *size)`` by codes."""
        if self.fresh:
            self.begin(h)
        return self.codebook(self.shrink(h), generator)

    @torch.no_grad()
    def begin(self, h: Tensor) -> None:
        """Make each feature of the encoder's outputs for ``h`` of mean 0 and spread 1; take codes among them."""
        z = self.shrink(h)
        axes = (0, *range(2, z.ndim))
        mean, std = z.mean(axes), z.std(axes, correction=0).clamp(min=0.01)
        self.shrink.weight.div_(std.view(-1, *[1] * (z.ndim - 1)))
        assert self.shrink.bias is not None
        self.shrink.bias.sub_(mean).div_(std)
        rows = self.shrink(h).movedim(1, -1).flatten(0, -2)
        self.codebook.fill(rows, noise.stream("codebook", math.prod(h.shape[2:])))
        self.fresh = False
