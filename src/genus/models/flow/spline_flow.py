"""Neural spline flow (Durkan, Bekasov, Murray, Papamakarios 2019) over tables of numbers.

Every column goes through a monotone rational-quadratic spline whose knots and slopes a network reads from
other columns; beyond the outermost knots the spline is the identity. In the coupling form (the default)
half of the columns are read and the other half moved, one pass each way; in the autoregressive form each
column reads all before it, which fits better for its size, and samples column by column.

Against the paper: columns are reversed and shuffled between steps instead of multiplied by a learned
matrix; the columns that a coupling reads are not moved in that step; no dropout; data are standardised;
the autoregressive network is a plain masked one, not residual. Columns are continuous numbers: values that
repeat make any density's likelihood infinite.

Promises: log p(x), exact; latents, invertible; conditions of any kind.
"""

from typing import Self

from torch import nn

from genus.kinds import Domain
from genus.models.flow._autoregressive import Autoregressive
from genus.models.flow._spline import SMALLEST_BIN, Spline
from genus.models.flow._tabular import FlowSteps, HalfCoupling, TableFlow
from genus.recipe import Recipe


class SplineFlow(TableFlow):
    """Flow of rational-quadratic splines over vectors.

    Args:
        layers: steps; the coupling form needs at least 2, so that every column is moved.
        hidden: units of each layer of a step's network.
        blocks: hidden layers of a step's network, in the coupling form after a first one.
        bins: pieces of each spline.
        bound: splines act within ± bound standard deviations of the data; the identity beyond.
        autoregressive: every column reads all before it, instead of one half reading the other.
    """

    paper = "Durkan, Bekasov, Murray, Papamakarios (2019). Neural spline flows. https://arxiv.org/abs/1906.04032"
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=3e-3,
            batch_size=256,
            steps=2000,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=5,
            ema=0.99,
        ),
        "paper": Recipe(
            learning_rate=5e-4,
            batch_size=512,
            steps=400_000,
            schedule="cosine",
            clip_norm=5,
            settings={"layers": 10, "hidden": 256, "blocks": 2, "bound": 3.0},
        ),
    }

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        layers: int = 6,
        hidden: int = 64,
        blocks: int = 1,
        bins: int = 8,
        bound: float = 5.0,
        autoregressive: bool = False,
    ):
        super().__init__(domain, condition)
        if layers < (1 if autoregressive else 2):
            raise ValueError(f"layers: expected at least 2, so that every column is moved; got {layers}.")
        if hidden < 1 or blocks < autoregressive:
            raise ValueError(f"expected hidden >= 1 and blocks >= {int(autoregressive)}; got {hidden} and {blocks}.")
        if not 2 <= bins < 1 / (2 * SMALLEST_BIN):
            raise ValueError(f"bins: expected 2 to {int(1 / (2 * SMALLEST_BIN)) - 1}; got {bins}.")
        if not 0 < bound < float("inf"):
            raise ValueError(f"bound: expected a number above 0; got {bound}.")
        features, spline = domain.num_dims, Spline(bins, bound)
        steps: list[nn.Module] = [
            Autoregressive(features, spline, hidden=hidden, depth=blocks, context=self.context)
            if autoregressive
            else HalfCoupling(features, spline, hidden=hidden, depth=blocks + 1, context=self.context)
            for _ in range(layers)
        ]
        self.flow = FlowSteps(features, steps)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, layers=4, hidden=8, bins=4)
