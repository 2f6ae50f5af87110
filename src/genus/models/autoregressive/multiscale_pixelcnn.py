r"""A prior for hierarchical codes: a gated PixelCNN a grid, told of all the coarser grids.

    p(x) = p(grid_0) prod_s p(grid_s | grid_0 .. grid_s-1),       grid_0 the coarsest

Codes have no order, so each is a learned vector. A factor s > 0 is told by a map of *hints*: the
vectors of the coarser grids, each repeated to the size of grid s, side by side through a 3x3
convolution and residual blocks h + W_1x1 relu(W_3x3 relu(h)). The blocks look to all sides, as the
coarser grids are complete before the first code of grid s is read; every layer of the factor's
stacks (`_gated`), which are masked one and all, gets the hints of its own position by a 1x1 convolution.

What differs from the paper: no attention (the paper's coarsest factor is a PixelSNAIL, causal
convolutions with attention between); one vector for a code, read both by its own factor and by the
finer ones; hints of all coarser grids; dilations widen the view with few layers; a condition adds to
each layer, a vector and, resized to each grid, maps; no output stack of its own for the finest factor.

Promises: exact log p(x); conditions of any kind; edits in the order of reading (grid by grid, each in
raster order; exact given what comes before an entry, see `edit`); samples at the cost of one position a step.
"""

import itertools
from collections.abc import Iterable
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import (
    Batch,
    GenerativeModel,
    HasConditionals,
    HasLogProb,
    IsConditional,
    IsEditable,
    Likelihood,
    Losses,
    Split,
    Walk,
    name_of,
    spread,
)
from genus.kinds import Domain, Pyramid
from genus.models.autoregressive._entries import every_level, log_p, width_of
from genus.models.autoregressive._gated import GatedStacks, GatedWalker
from genus.models.autoregressive._masked import CodeVectors, code_features, planes_groups, with_inside
from genus.nn.condition import CONDITIONS, Conditioned, Context
from genus.prob import chain
from genus.recipe import Recipe


class Block(nn.Module):
    """A residual block that looks to all sides."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = nn.Conv2d(features, features, 3, padding=1)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, h: Tensor) -> Tensor:
        """``(B, features, H, W)``, one block on."""
        inner: Tensor = self.out(self.conv(h.relu()).relu())
        return h + inner


class Factor(GatedStacks):
    """p(grid | coarser grids): the stacks of one grid, and the network that makes their hints.

    coarser: planes of all the coarser grids, 0 for the coarsest grid. planes: of its own grid.
    """

    def __init__(
        self,
        coarser: int,
        planes: int,
        width: int,
        context: Context,
        *,
        features: int,
        dilations: tuple[int, ...],
        blocks: int,
        kernel: int,
        first: int,
        dropout: float,
    ):
        super().__init__()
        self.build(
            planes_groups(1, planes), 1, width, context, features if coarser else 0,
            features=features, dilations=dilations, kernel=kernel, first=first, dropout=dropout,
        )  # fmt: skip
        self.hints: nn.Sequential | None = None
        if coarser:
            look = nn.Conv2d(coarser, features, 3, padding=1)
            self.hints = nn.Sequential(look, *(Block(features) for _ in range(blocks)))


class MultiscalePixelCNN(Conditioned, GenerativeModel, HasLogProb, HasConditionals, IsConditional, IsEditable):
    """Multi-scale PixelCNN, the prior of VQ-VAE-2: grids of codes from coarse to fine.

    Args:
        features: of each stack, and of the hints.
        dilations: of each layer of a grid's stacks; as many layers as numbers.
        blocks: residual blocks of the network that makes the hints.
        kernel: size of the stacks' kernels, odd.
        first: size of the first layer's kernel, odd.
        dropout: rate of dropout while training, in each layer.
    """

    paper = (
        "Razavi, van den Oord, Vinyals (2019). Generating Diverse High-Fidelity Images with VQ-VAE-2. "
        "https://arxiv.org/abs/1906.00446"
    )
    domains = (Pyramid,)
    conditions = CONDITIONS
    domain: Pyramid
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=3e-3, batch_size=32, steps=600, schedule="cosine", warmup_steps=50, clip_norm=100.0, ema=0.99,
            precision="bfloat16", settings={"features": 32, "dilations": (1, 2, 1), "blocks": 1},
        ),
        "codes": Recipe(
            optimizer="adamw", weight_decay=0.01, learning_rate=2e-3, batch_size=32, steps=10_000, schedule="cosine",
            warmup_steps=200, clip_norm=100.0, ema=0.999, precision="bfloat16",
            settings={"features": 64, "dilations": (1, 2, 1, 2, 1), "blocks": 2, "dropout": 0.1},
        ),
        "paper": Recipe(
            learning_rate=1e-3, batch_size=128, steps=200_000, schedule="cosine", warmup_steps=1000, clip_norm=100.0,
            ema=0.9995, precision="bfloat16",
            settings={"features": 512, "dilations": (1,) * 20, "blocks": 20, "kernel": 5, "dropout": 0.1},
        ),
    }  # fmt: skip

    def __init__(
        self,
        domain: Pyramid,
        condition: Domain | None = None,
        *,
        features: int = 64,
        dilations: tuple[int, ...] = (1, 2, 1, 2, 1),
        blocks: int = 2,
        kernel: int = 3,
        first: int = 7,
        dropout: float = 0.0,
    ):
        super().__init__(domain, condition)
        if blocks < 0:
            raise ValueError(f"blocks: expected at least 0; got {blocks}.")
        self.vectors = nn.ModuleList(CodeVectors(domain.levels) for _ in domain.sizes)
        planes, context = code_features(domain.levels), self.condition_on(condition, domain.size)
        self.factors = nn.ModuleList(
            Factor(
                scale * planes, planes, width_of(domain), context,
                features=features, dilations=dilations, blocks=blocks, kernel=kernel, first=first, dropout=dropout,
            )
            for scale in range(domain.scales)
        )  # fmt: skip

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, features=8, dilations=(1, 2), blocks=1, first=3)  # type: ignore[arg-type]

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Pyramid) and len(domain.size) != 2:
            return f"{name_of(cls)} models the codes of pictures, grids of two axes; got {domain}."
        return super().refuses(domain)

    def initialise(self, split: Split) -> None:
        """Scales of the condition, from (at most 4,096) training data."""
        if self.condition_encoder is not None:
            self.fit_condition(spread(split).condition)

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    def hints(self, scale: int, planes: list[Tensor]) -> Tensor | None:
        """What the factor of a grid is told by the planes ``(B, planes, H, W)`` of the coarser ones."""
        network = cast(Factor, self.factors[scale]).hints
        if network is None:
            return None
        size = self.domain.sizes[scale]
        coarser = [repeated(grid, 2 ** (scale - k), size) for k, grid in enumerate(planes)]
        hints: Tensor = network(torch.cat(coarser, 1).contiguous(memory_format=torch.channels_last))
        return hints

    def logits(self, x: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Of each entry given those before it: ``(B, H, W, width)`` a grid, width 1 for two levels."""
        self.domain.check(x)
        given = self.read_condition(self.given(condition, len(x)))
        grids = self.domain.grids(x)
        planes = [vectors(grid.unsqueeze(1)) for vectors, grid in zip(self.vectors, grids, strict=True)]
        logits = []
        for scale, factor in enumerate(cast(Iterable[Factor], self.factors)):
            own = with_inside(planes[scale]).contiguous(memory_format=torch.channels_last)
            logits.append(factor.stacks(own, given, self.hints(scale, planes[:scale])).movedim(1, -1))
        return logits

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        grids = zip(self.logits(x, condition), self.domain.grids(x), strict=True)
        return torch.stack([log_p(logits, grid).flatten(1).sum(1) for logits, grid in grids]).sum(0)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """The loss, and what each grid costs of it, the coarsest first: ``grid 0`` ..."""
        grids = zip(self.logits(batch.x, batch.condition), self.domain.grids(batch.x), strict=True)
        costs = [-log_p(logits, grid).flatten(1).sum(1) for logits, grid in grids]
        return {"loss": torch.stack(costs).sum(0), **{f"grid {s}": cost for s, cost in enumerate(costs)}}

    @torch.no_grad()
    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        given = self.read_condition(self.given(condition, count))
        planes: list[Tensor] = []
        place = 0
        for scale, (height, width) in enumerate(cast(tuple[tuple[int, int], ...], self.domain.sizes)):
            factor, hints = cast(Factor, self.factors[scale]), self.hints(scale, planes)
            walker = GatedWalker(factor, count, (height, width), given, hints)
            grid: list[Tensor] = []
            for row, column in itertools.product(range(height), range(width)):
                code = yield place, every_level(walker.outputs(row, column))
                grid.append(self.vectors[scale](code.unsqueeze(1)))
                walker.put(with_inside(grid[-1]), row, column)
                place += 1
            planes.append(torch.stack(grid, -1).unflatten(-1, (height, width)))

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Grid by grid and entry by entry, each step at the cost of one position."""
        x = torch.zeros(count, *self.domain.shape, dtype=self.domain.dtype, device=self.device)
        return chain.fill(self.chain_rule(count, condition=condition), x, generator)

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Redraw in the order of reading, given what was kept *before* an entry.

        A draw from p(rest | kept) where the kept entries come first (the coarser grids, an upper half of
        the finest); what is kept later is in the datum, but no entry before it knows of it.
        """
        return chain.fill(self.chain_rule(len(x), condition=condition), x.clone(), generator, keep)


def repeated(planes: Tensor, times: int, size: tuple[int, ...]) -> Tensor:
    """Planes ``(B, n, h, w)``, each position ``times`` by ``times`` over, cut to ``size``."""
    upsampled = F.interpolate(planes, scale_factor=times, mode="nearest")
    return upsampled[..., : size[0], : size[1]]
