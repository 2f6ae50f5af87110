"""Encoders and decoders: fully connected layers, and strided convolutions with their mirror image.

Both take a flat vector, what the distribution's `normalise` gives or the latents, and after it what was read of a
condition: its vector (one-hot of a label). Convolutions read the maps of a picture, too.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, Split, spread
from genus.kinds import Vectors
from genus.models.latent._decoder import Distribution, size_of
from genus.nn.condition import CONDITIONS, CONVOLUTIONS, Conditioned, Given
from genus.nn.residual import zero
from genus.prob import noise

Network = Literal["mlp", "conv"]

TRANSPOSED: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Fully connected layers with ReLU between them."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def halvings(size: tuple[int, ...], times: int) -> list[tuple[int, ...]]:
    """The sizes that strided convolutions pass through: each rounds up, so odd sizes are fine."""
    sizes = [size]
    for _ in range(times):
        sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
    return sizes


class Residual(nn.Module):
    """``relu(x + W relu(W x))`` with convolutions of three; the second starts at zero, so nothing needs a norm."""

    def __init__(self, channels: int, dims: int):
        super().__init__()
        self.first = CONVOLUTIONS[dims](channels, channels, 3, padding=1)
        self.second = zero(CONVOLUTIONS[dims](channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, *size)`` -> the same shape."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class ConvEncoder(nn.Module):
    """Strided convolutions, residual blocks after each, and fully connected layers: ``(B, outputs)``.

    planes: numbers at each place of ``size`` (1 to 3 axes). context: further numbers, which join after
    the convolutions.
    """

    def __init__(
        self,
        planes: int,
        size: tuple[int, ...],
        context: int,
        channels: tuple[int, ...],
        blocks: int,
        hidden: tuple[int, ...],
        outputs: int,
    ):
        super().__init__()
        self.shape = (planes, *size)
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(zip((planes, *channels), channels, strict=False)):
            kernel = 3 if k else 5
            convolution = CONVOLUTIONS[len(size)](before, after, kernel, stride=2, padding=kernel // 2)
            layers += [convolution, nn.ReLU(inplace=True)]
            layers += [Residual(after, len(size)) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers)
        features = (planes, *channels)[-1] * math.prod(halvings(size, len(channels))[-1])
        self.head = mlp(features + context, hidden, outputs)

    def forward(self, u: Tensor) -> Tensor:
        """Convolve the maps; the rest joins before the fully connected layers."""
        maps, rest = u.tensor_split([math.prod(self.shape)], dim=1)
        return self.head(torch.cat([self.layers(maps.view(-1, *self.shape)).flatten(1), rest], 1))


def conv_decoder(
    inputs: int, size: tuple[int, ...], channels: tuple[int, ...], blocks: int, hidden: tuple[int, ...], planes: int
) -> nn.Sequential:
    """The mirror image, to ``(B, planes, *size)``: the last convolution has no bias, and like the encoder's
    first reaches over five, as nothing works at the full size but these two."""
    dims, sizes, wide = len(size), halvings(size, len(channels)), channels[::-1]
    layers: list[nn.Module] = [
        *mlp(inputs, hidden[::-1], wide[0] * math.prod(sizes[-1])),
        nn.Unflatten(1, (wide[0], *sizes[-1])),
        nn.ReLU(inplace=True),
    ]
    for k, (before, after, target) in enumerate(zip(wide, (*wide[1:], planes), sizes[-2::-1], strict=True), 1):
        last = k == len(wide)
        kernel = 5 if last else 3
        even = tuple(1 - n % 2 for n in target)  # an even size needs one more than 2m - 1
        layers += [Residual(before, dims) for _ in range(blocks)]
        layers += [
            TRANSPOSED[dims](before, after, kernel, stride=2, padding=kernel // 2, output_padding=even, bias=not last),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers[:-1])


class TwoNetworks(Conditioned, GenerativeModel):
    """A model whose encoder reads what its distribution makes of the data, and whose decoder gives what the
    distribution needs.

    Both read the condition, where there is one.
    """

    conditions = CONDITIONS
    distribution: Distribution
    latent_features: int

    def build(
        self, network: Network, hidden: tuple[int, ...], channels: tuple[int, ...], blocks: int, outside: int
    ) -> None:
        """Make ``encoder`` (to ``outside`` numbers) and ``decoder``; the distribution must be there."""
        distribution, size = self.distribution, size_of(self.domain)
        if self.latent_features < 1 or any(width < 1 for width in (*hidden, *channels)) or blocks < 0 or not channels:
            raise ValueError(
                f"expected latent_features, hidden and (one or more) channels >= 1 and blocks >= 0; got "
                f"latent_features={self.latent_features}, {hidden=}, {channels=}, {blocks=}."
            )
        if network == "conv" and (isinstance(self.domain, Vectors) or len(size) > 3):
            raise ValueError(
                f"network='conv' needs neighbours along 1 to 3 axes; got {self.domain}. Use network='mlp'."
            )
        context = self.condition_on(self.condition, size if network == "conv" else None)
        inside, planes = self.latent_features + context.features, distribution.planes + context.planes
        self.reads = planes * math.prod(size) + context.features  # numbers that the encoder reads
        self.skip: nn.Sequential | None = None
        if network == "conv":
            self.encoder: nn.Module = ConvEncoder(planes, size, context.features, channels, blocks, hidden, outside)
            planes = distribution.outputs * self.domain.num_dims // math.prod(size)
            self.decoder = conv_decoder(inside, size, channels, blocks, hidden, planes)
            self.pixel_bias = nn.Parameter(torch.zeros(distribution.outputs, *self.domain.shape))
            if context.planes:  # from the maps of a condition to the outputs at the same places
                last = CONVOLUTIONS[len(size)](context.planes, planes, 3, padding=1, bias=False)
                self.skip = nn.Sequential(Residual(context.planes, len(size)), last)
        else:
            self.encoder = mlp(self.reads, hidden, outside)
            self.decoder = mlp(inside, hidden[::-1], distribution.outputs * self.domain.num_dims)

    @torch.no_grad()
    def initialise(self, split: Split) -> None:
        """(At most 10,000) training data set the scales of the distribution and the condition, and the output bias."""
        batch = self.some(split, 10_000)
        self.bias.copy_(self.distribution.fit(batch.x))
        self.fit_condition(batch.condition)

    def some(self, split: Split, count: int) -> Batch:
        """``count`` items from all over a split."""
        return spread(split, count, noise.stream("vae", "initialise")).to(self.device)

    @property
    def bias(self) -> Tensor:
        """The last bias ``(outputs, *domain.shape)``: in both networks one for each entry, so that
        it can start at the data's mean."""
        last = self.decoder[-1]
        return (
            last.bias.view(self.distribution.outputs, *self.domain.shape)
            if isinstance(last, nn.Linear)
            else self.pixel_bias
        )

    def inputs(self, x: Tensor, condition: Given) -> Tensor:
        """What the encoder reads of raw data and their condition, ``(B, reads)``."""
        u, given = self.distribution.normalise(x, self.bias.dtype).flatten(1), self.read_condition(condition)
        parts = (
            [] if given is None else [part.to(u).flatten(1) for part in (given.maps, given.vector) if part is not None]
        )
        return torch.cat([u, *parts], 1)

    def parameters_given(self, z: Tensor, condition: Given) -> Tensor:
        """What the distribution p(x|z) needs: ``(B, outputs, *domain.shape)``."""
        given = self.read_condition(condition)
        out = self.decoder(z if given is None else torch.cat([z, given.vector.to(z)], 1)).to(z.dtype)
        if self.skip is not None and given is not None:
            out = out + self.skip(given.maps).to(z.dtype)
        out = out.view(len(z), -1, *self.domain.shape)
        return out if isinstance(self.decoder[-1], nn.Linear) else out + self.pixel_bias
