r"""MADE: the chain rule in one pass, by an autoencoder whose connections are masked.

p(x) = prod_p p(x_o(p) | x_o(1..p-1)) for an ordering o of the entries. Every unit carries a
number, and a connection exists only where it keeps the order (Germain et al., eqs. 12-13):

    the entry at position p = 1..D        counts p
    a hidden unit that sees m entries     counts m, 1 <= m <= D-1; it sees those that count <= m
    the logits of the entry at position p count p-1; they see those that count <= p-1

So one rule makes every mask (`kept`), direct connections from input to output included.

Several orderings are a *mixture*, p(x) = 1/O sum_o p_o(x), over a fixed set that all share the
weights; an average of their logits would be no likelihood, as together they see every entry.

Sampling costs the arithmetic of one pass, not of D: a hidden unit that sees m entries is final
as soon as m entries are drawn, so step m computes only the units that count m, and each is
computed once (`walk_in`).

What differs from the paper: the masks are a fixed set from the start, never drawn anew, so that
the mixture is exact; the first ordering is the raster's; units count 1..D-1 evenly instead of at
random; more than two levels are allowed (softmax outputs); a label has weights to the first hidden
layer and to the logits; the output biases start at the data's log-odds; Adam on a cosine with
averaged weights instead of Adagrad or Adadelta.

Promises: exact log p(x), conditional on a label. It completes nothing: only a prefix of an
ordering could be kept (`deep_nade` completes any part). With one ordering, compression.
"""

import math
from itertools import pairwise
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Batch, Losses, Split, Walk, check_condition
from genus.kinds import Domain, Grid, Label
from genus.models.autoregressive._entries import every_level, log_odds, log_p, width_of
from genus.models.autoregressive._mixture import OrderingMixture
from genus.prob import noise
from genus.recipe import Recipe

LARGEST = 100_000  # logits: 400 MB of weights at 1,000 hidden units
LARGEST_LAYER = 250_000_000  # weights: 1 GB


def kept(sees: Tensor, counts: Tensor) -> Tensor:
    """The mask ``(out, in)`` of a layer: a unit that sees m entries is fed by those that count m or less."""
    return sees.unsqueeze(1) >= counts


def ordering(number: int, entries: int) -> Tensor:
    """The entries in the order of their positions: the raster's for number 0, else random but always the same."""
    return noise.permutation(entries, noise.stream("made", number, entries)) if number else torch.arange(entries)


def numbering(number: int, layer: int, units: int, entries: int) -> Tensor:
    """How many entries each hidden unit sees: 1..D-1 evenly, placed at random in all orderings but the first."""
    evenly = 1 + ((1 + torch.arange(units)) * max(entries - 1, 1) - 1) // units
    return evenly[noise.permutation(units, noise.stream("made", number, layer, units))] if number else evenly


class MADE(OrderingMixture):
    """Masked autoencoder for distribution estimation, over a mixture of orderings.

    A grid of two levels has one logit per entry, as in the paper; a grid of L levels has L (softmax).

    Args:
        hidden: units of each hidden layer.
        layers: number of hidden layers.
        orderings: number of orderings, and so of sets of masks: 1 is the raster order; scoring costs a pass each.
        direct: whether inputs are also connected to the logits directly.
        inputs: what an entry of more than two levels feeds in: one number in 0..1 (`scaled`, for pictures) or
            one for each level (`one_hot`, for codes without an order).
        dropout: share of hidden units that are dropped in training.
    """

    paper = (
        "Germain, Gregor, Murray, Larochelle (2015). MADE: Masked Autoencoder for Distribution Estimation. "
        "https://arxiv.org/abs/1502.03509"
    )
    recipes = {  # noqa: RUF012
        "quick": Recipe(learning_rate=2e-3, batch_size=100, steps=1500, schedule="cosine", ema=0.99),
        "paper": Recipe(
            learning_rate=1e-3,
            batch_size=100,
            steps=15_000,  # 30 epochs of binarized MNIST
            schedule="cosine",
            ema=0.999,
            precision="bfloat16",
            settings={"hidden": 2000, "dropout": 0.3},  # undropped, 500 units overfit by 3.5 nats in 8,000 steps
        ),
    }

    def __init__(
        self,
        domain: Grid,
        condition: Domain | None = None,
        *,
        hidden: int = 500,
        layers: int = 1,
        orderings: int = 1,
        direct: bool = True,
        inputs: Literal["scaled", "one_hot"] = "scaled",
        dropout: float = 0.0,
    ):
        super().__init__(domain, condition, orderings)
        for name, value in (("hidden", hidden), ("layers", layers)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1; got {value}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1); got {dropout}.")
        self.dropout, self.one_hot = dropout, inputs == "one_hot" and domain.levels > 2
        self.inputs = self.width if self.one_hot else 1  # numbers that an entry feeds in
        entries = domain.num_dims
        sizes = [entries * self.inputs, *[hidden] * layers, entries * self.width]
        pairs = [*pairwise(sizes), *([(sizes[0], sizes[-1])] if direct else [])]
        if max(a * b for a, b in pairs) > LARGEST_LAYER:
            a, b = max(pairs, key=math.prod)
            raise ValueError(
                f"made: a layer of {a:,} x {b:,} weights is over {LARGEST_LAYER:,}; "
                "choose inputs='scaled', direct=False or fewer hidden units."
            )
        linears = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        for linear in linears[:-1]:
            nn.init.kaiming_uniform_(linear.weight)
        for linear in linears:
            nn.init.zeros_(linear.bias)
        self.layers = nn.ModuleList(linears)
        self.direct = nn.Parameter(torch.zeros(sizes[-1], sizes[0])) if direct else None
        if isinstance(condition, Label):
            self.label_hidden = nn.Parameter(0.05 * torch.empty(condition.count, hidden).normal_())
            self.label_logits = nn.Parameter(torch.zeros(condition.count, sizes[-1]))
        for number in range(orderings):
            order = ordering(number, entries)
            numbers = [numbering(number, layer, hidden, entries) for layer in range(layers)]
            self.register_buffer(f"order_{number}", order, persistent=False)  # a function of the settings
            self.register_buffer(f"numbers_{number}", torch.stack(numbers), persistent=False)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, hidden=8, layers=2)  # type: ignore[arg-type]

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and domain.num_dims * width_of(domain) > LARGEST:
            logits = f"{domain.num_dims * domain.levels:,} logits"
            return f"made has a weight per hidden unit and logit: {domain} makes {logits}, over {LARGEST:,}."
        return super().refuses(domain)

    def initialise(self, split: Split) -> None:
        """Start the output biases at the data's own (add-one) log-odds, entry by entry."""
        self.linears[-1].bias.data.copy_(log_odds(split, self.domain).flatten())

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers, as what they are."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    # --- one pass ---------------------------------------------------------------------------

    def counts(self, number: int) -> tuple[Tensor, list[Tensor], Tensor]:
        """What inputs and hidden units count, and logits see, in an ordering."""
        order: Tensor = getattr(self, f"order_{number}")
        position = order.argsort()
        inside, outside = ((position + k).repeat_interleave(n) for k, n in ((1, self.inputs), (0, self.width)))
        return inside, list(getattr(self, f"numbers_{number}")), outside

    def features(self, x: Tensor) -> Tensor:
        """What the entries ``(..., D)`` feed in: ``(..., D * inputs)``."""
        dtype = self.linears[0].weight.dtype
        if self.one_hot:
            return F.one_hot(x.long(), self.width).flatten(-2).to(dtype)
        return x.to(dtype) / (self.domain.levels - 1)

    def logits(self, x: Tensor, condition: Tensor | None = None, number: int = 0) -> Tensor:
        """Of every entry given those before it in an ordering: ``(B, D, 1 or levels)``, entries as in ``x``."""
        self.domain.check(x)
        check_condition(self, condition, len(x))
        inside, numbers, outside = self.counts(number)
        first = h = self.features(x.flatten(1))
        below = inside
        for k, (layer, sees) in enumerate(zip(self.linears, [*numbers, outside], strict=True)):
            z = F.linear(h, torch.where(kept(sees, below), layer.weight, 0.0), layer.bias)
            if k == 0 and condition is not None:
                z = z + self.label_hidden[condition]
            h, below = F.dropout(z.relu(), self.dropout, self.training), sees
        if self.direct is not None:
            z = z + F.linear(first, torch.where(kept(outside, inside), self.direct, 0.0))
        if condition is not None:
            z = z + self.label_logits[condition]
        return z.unflatten(1, (-1, self.width))

    def log_prob_in(self, number: int, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p_o(x) of one ordering, ``(B,)``."""
        return log_p(self.logits(x, condition, number), x.flatten(1)).sum(1)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """One ordering a step: its mean over the orderings is a bound of the mixture's."""
        number = int(noise.integers(self.orderings, (), generator))
        return {"loss": -self.log_prob_in(number, batch.x, batch.condition)}

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return -self.log_prob(batch.x, condition=batch.condition)

    # --- entry by entry ---------------------------------------------------------------------

    @torch.no_grad()
    def walk_in(self, number: int, count: int, condition: Tensor | None) -> Walk:
        """Units are sorted by what they count, so that those known at a step are a prefix: step m computes the
        units that count m from the prefix below, and each weight is used once."""
        inside, numbers, outside = self.counts(number)
        ranks = [counts.argsort(stable=True) for counts in (inside, *numbers, outside)]
        steps = torch.arange(self.domain.num_dims, device=self.device)
        known = [
            torch.searchsorted(c[r], steps, right=True).tolist()
            for c, r in zip((inside, *numbers, outside), ranks, strict=True)
        ]
        weights = [layer.weight[r][:, below] for layer, below, r in zip(self.linears, ranks, ranks[1:], strict=False)]
        direct = None if self.direct is None else self.direct[ranks[-1]][:, ranks[0]]
        shift = [layer.bias.unsqueeze(1).expand(-1, count) for layer in self.linears]
        if condition is not None:
            shift[0], shift[-1] = shift[0] + self.label_hidden[condition].T, shift[-1] + self.label_logits[condition].T
        units = [bias[r] for bias, r in zip(shift, ranks[1:], strict=True)]  # (units, B): biases until they are known
        units.insert(0, torch.zeros(len(inside), count, dtype=weights[0].dtype, device=self.device))
        before = [0] * len(units)
        for step, entry in enumerate(getattr(self, f"order_{number}").tolist()):
            ends = [ends[step] for ends in known]
            for k, weight in enumerate(weights, 1):
                new = slice(before[k], ends[k])
                if new.start == new.stop:
                    continue
                units[k][new].addmm_(weight[new, : ends[k - 1]], units[k - 1][: ends[k - 1]])
                if k < len(weights):
                    units[k][new].relu_()
                elif direct is not None:
                    units[k][new].addmm_(direct[new, : ends[0]], units[0][: ends[0]])
            logits = units[-1][before[-1] : ends[-1]].T
            value = yield entry, every_level(logits)
            before = ends
            units[0][step * self.inputs : (step + 1) * self.inputs] = self.features(value.unsqueeze(1)).T
