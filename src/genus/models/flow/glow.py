r"""Glow: a flow of pictures in which learned 1x1 convolutions mix the channels between couplings.

    log p(x) = log N(f(x); 0, I) + log |det df/dx|,    a step of f = actnorm, 1x1 convolution, coupling

A level squeezes the picture (2x2 pixels become four channels), takes K steps, and lets half of the
channels go. What goes is normal with mean and scale read in what stays, and the last level's
channels are normal with learned mean and scale, of each label if there are labels. Both are written
as one more affine layer, so all latents are standard normal noise, and `temperature` scales it.
Other conditions than labels move the top prior alike, and are added in the network of each coupling.

Odd sides: a squeeze needs even ones, so an odd level first lets its last row or column go, normal
given the pixels that stay, like the channels later. Nothing is padded: the map stays a bijection of
the picture alone, and its density is exact. A side of one pixel is not squeezed.

Pictures are integers: noise, uniform or learned (`--dequantization variational`), fills their
cells, a logit removes the ends, and what remains is a bound, the tighter the more draws it averages.

What differs from the paper: the logit and a standardisation, as in realnvp (the paper scales to
[-0.5, 0.5]); the actnorms within networks are folded into the weights at the start; the last
convolution has no learned gain; the top prior has a mean and a scale for every entry, not every
channel. As in the official code the coupling's scale is sigmoid(s + 2). The flow itself stays in
float32 where the networks compute in bfloat16.

Promises: log p(x), a bound; latents, invertible; conditions of any kind.
"""

import math
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from genus.contract import Likelihood, Split
from genus.kinds import Domain, Grid
from genus.models.flow._dequantization import Kind, make_dequantization
from genus.models.flow._flow import Flow
from genus.models.flow._pictures import SplitPrior, Step, fold, network, starting, unfold
from genus.nn.condition import NOTHING, Context, Encoded
from genus.nn.residual import zero
from genus.nn.standardise import Standardise
from genus.recipe import Recipe

START_ON = 256  # training data on which the actnorms start


class Level(nn.Module):
    """One resolution: odd rows and columns go, the rest is squeezed, stepped, and half of its channels go.

    shape: (C, H, W) of what comes in. last: whether all channels stay, since nothing follows.
    """

    def __init__(self, shape: tuple[int, int, int], last: bool, *, steps: int, hidden: int, context: Context = NOTHING):
        super().__init__()
        channels, *sides = shape
        self.even = [side - side % 2 if side > 1 else 1 for side in sides]
        self.by = (min(sides[0], 2), min(sides[1], 2))
        self.odd: SplitPrior | None = None
        if self.even != sides:
            goes = torch.ones(sides[0], sides[1], dtype=torch.bool)
            goes[: self.even[0], : self.even[1]] = False
            self.odd = SplitPrior(network(channels, 2 * channels, hidden), goes)
        height, width = self.even[0] // self.by[0], self.even[1] // self.by[1]
        self.pixels = channels * (math.prod(sides) - math.prod(self.even))  # entries that go as odd pixels
        channels *= math.prod(self.by)
        self.steps = nn.ModuleList(Step(channels, hidden, context) for _ in range(steps))
        stays = channels if last else channels - channels // 2
        self.rest = None if last else SplitPrior(zero(nn.Conv2d(stays, 2 * (channels - stays), 3, padding=1)))
        self.stay_shape, self.go_shape = (stays, height, width), (channels - stays, height, width)
        self.goes = self.pixels + math.prod(self.go_shape)

    def forward(self, x: Tensor, given: Encoded | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x -> what stays, the noise that goes ``(B, goes)``, and the log-determinant."""
        gone, log_det = [x.new_zeros(len(x), 0)], x.new_zeros(len(x))
        if self.odd is not None and self.odd.odd is not None:
            goes = x[..., self.odd.odd]
            x = x[..., : self.even[0], : self.even[1]]
            z, more = self.odd(x, goes)
            gone, log_det = [z.flatten(1)], log_det + more
        x = fold(x, self.by)
        for step in self.steps:
            x, more = step(x, given)
            log_det = log_det + more
        if self.rest is not None:
            x, goes = x.split([self.stay_shape[0], self.go_shape[0]], dim=1)
            z, more = self.rest(x, goes)
            gone, log_det = [*gone, z.flatten(1)], log_det + more
        return x, torch.cat(gone, dim=1), log_det

    def inverse(self, x: Tensor, noise: Tensor, given: Encoded | None = None) -> Tensor:
        """Undo `forward`."""
        pixels, halves = noise.split([self.pixels, self.goes - self.pixels], dim=1)
        if self.rest is not None:
            x = torch.cat([x, self.rest.inverse(x, halves.view(-1, *self.go_shape))], dim=1)
        for step in list(self.steps)[::-1]:
            x = step.inverse(x, given)  # type: ignore[operator]
        x = unfold(x, self.by)
        if self.odd is None or self.odd.odd is None:
            return x
        whole = x.new_zeros(*x.shape[:2], *self.odd.odd.shape)
        whole[..., : self.even[0], : self.even[1]] = x
        whole[..., self.odd.odd] = self.odd.inverse(x, pixels.view(*x.shape[:2], -1))
        return whole


class Levels(nn.Module):
    """Unbounded pictures ``(B, C, H, W)`` <-> latents ``(B, C * H * W)``, finest level first, the top prior last."""

    likelihood = Likelihood.EXACT

    def __init__(
        self, shape: tuple[int, int, int], *, levels: int, steps: int, hidden: int, context: Context = NOTHING
    ):
        super().__init__()
        self.standardise = Standardise((shape[0], 1, 1))
        self.levels = nn.ModuleList()
        within = NOTHING if context.one_hot else context  # a label is read by the top prior only, as in the paper
        for number in range(levels):
            halved = [max(side // 2, 1) for side in shape[1:]]
            level = Level(shape, number == levels - 1 or max(halved) == 1, steps=steps, hidden=hidden, context=within)
            self.levels.append(level)
            shape = level.stay_shape
            if level.rest is None:
                break
        self.sizes = [level.goes for level in self.levels] + [math.prod(shape)]
        self.top_shape = shape
        self.top = nn.Parameter(torch.zeros(max(context.features, 1), 2 * shape[0], *shape[1:]))

    def _top(self, given: Encoded | None = None) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.top.device.type, enabled=False):  # the flow itself stays in float32
            top = self.top if given is None else torch.tensordot(given.vector.to(self.top), self.top, 1)
        mean, log_std = top.chunk(2, dim=1)
        return mean, log_std

    def forward(self, x: Tensor, given: Encoded | None = None) -> tuple[Tensor, Tensor]:
        """x -> z and log |det dz/dx|, ``(B,)``."""
        x, log_det = self.standardise(x)
        latents = []
        for level in self.levels:
            x, noise, more = level(x, given)
            latents.append(noise)
            log_det = log_det + more
        mean, log_std = self._top(given)
        latents.append(((x - mean) * (-log_std).exp()).flatten(1))
        return torch.cat(latents, dim=1), log_det - log_std.flatten(1).sum(1)

    def inverse(self, z: Tensor, given: Encoded | None = None) -> Tensor:
        """z -> x."""
        *noise, top = z.split(self.sizes, dim=1)
        mean, log_std = self._top(given)
        x = top.view(-1, *self.top_shape) * log_std.exp() + mean
        for level, part in zip(list(self.levels)[::-1], noise[::-1], strict=True):
            x = level.inverse(x, part, given)  # type: ignore[operator]
        return self.standardise.inverse(x)


class Glow(Flow):
    """A flow with actnorm, invertible 1x1 convolutions and affine couplings over pictures.

    Args:
        steps_per_level: steps of the flow a level (K in the paper).
        levels: resolutions of a picture (L in the paper); pictures of one pixel end them early.
        hidden: channels of each coupling's network.
        alpha: how far the logit of a picture stays away from 0 and 1, in (0, 0.5).
        dequantization: what fills the cells of integers: uniform noise, or variational, learned with the rest.
        noise_hidden: channels of the networks of the variational dequantization.
    """

    paper = "Kingma, Dhariwal (2018). Glow: Generative Flow with Invertible 1x1 Convolutions. https://arxiv.org/abs/1807.03039"
    domains = (Grid,)
    keeps_places = True
    cure = "Try a lower --learning-rate, a smaller --clip-norm or fewer --steps-per-level."
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=2e-3,
            batch_size=64,
            steps=600,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=50,
            ema=0.99,
            precision="bfloat16",
            settings={"steps_per_level": 4, "levels": 2, "hidden": 64},
        ),
        "paper": Recipe(
            learning_rate=1e-3,
            batch_size=64,
            steps=500_000,
            warmup_steps=8_000,
            precision="bfloat16",
            settings={"steps_per_level": 32, "levels": 3, "hidden": 512},
        ),
        "mnist": Recipe(
            learning_rate=2e-3,
            batch_size=32,
            steps=10_000,
            warmup_steps=100,
            schedule="cosine",
            clip_norm=300,
            ema=0.999,
            precision="bfloat16",
            settings={"dequantization": "variational"},
        ),
    }
    domain: Grid

    def __init__(
        self,
        domain: Grid,
        condition: Domain | None = None,
        *,
        steps_per_level: int = 8,
        levels: int = 3,
        hidden: int = 128,
        alpha: float = 1e-5,
        dequantization: Kind = "uniform",
        noise_hidden: int = 32,
    ):
        super().__init__(domain, condition)
        if min(steps_per_level, levels, hidden, noise_hidden) < 1:
            sizes = f"{steps_per_level}, {levels}, {hidden}, {noise_hidden}"
            raise ValueError(f"expected steps_per_level, levels, hidden and noise_hidden >= 1; got {sizes}.")
        channels, height, width = domain.shape
        shape = (channels, height, width)
        self.dequantization = make_dequantization(dequantization, domain.levels, alpha, shape, noise_hidden)
        self.flow = Levels(shape, levels=levels, steps=steps_per_level, hidden=hidden, context=self.context)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) != 2:
            return f"glow models pictures, not grids of {len(domain.size)} dimensions; got {domain}."
        if isinstance(domain, Grid) and domain.num_dims < 2:
            return f"glow moves one half of a datum by the other half, so it needs two entries; got {domain}."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, steps_per_level=2, levels=2, hidden=8)  # type: ignore[arg-type]

    @torch.no_grad()
    def initialise(self, split: Split) -> None:
        """Standardise, then let every actnorm see the output of the layers before it on one batch."""
        super().initialise(split)
        batch, generator = self.some(split, START_ON)
        y, _ = self.continuous(batch.x, generator)
        hooks = [layer.register_forward_pre_hook(fit) for layer in starting(self)]
        self.flow(y, self.read_condition(batch.condition))
        for hook in hooks:
            hook.remove()


def fit(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
    """Before a layer's first pass: set it by what comes in."""
    layer.fit(arguments[0])  # type: ignore[operator]
