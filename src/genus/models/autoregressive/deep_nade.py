r"""DeepNADE: one network for every ordering of the entries, so any part completes any other.

Trained as `_orderless` says: any set of entries is shown, and the network, fed with (x * visible,
visible) so that it can tell a hidden entry from one that is zero, predicts all others at once.
`log_prob` is the distribution that `sample` draws from: a mixture over a fixed set of orderings,
p(x) = 1/O sum_o p_o(x) (an ensemble; never an average of logits). Each ordering costs D passes,
but the first layer of those is a running sum over the visible entries, as in `nade`:

    a_1 = c,    a_{t+1} = a_t + W_{o(t)} f(x_{o(t)})

What differs from the paper: the ensemble's first ordering is the raster's; more than two levels
are allowed (softmax outputs); a label has weights to the first layer and to the logits; the
layers are trained at once, by Adam on a cosine with averaged weights, instead of one after
the other; the output biases start at the data's log-odds.

Promises: exact log p(x) of the ensemble; conditional on a label; completes any part given any
other (kept entries first, then the others in a random order); with one ordering, compression.
"""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import Split, Walk
from genus.kinds import Domain, Grid, Label
from genus.models.autoregressive._entries import every_level, log_odds, width_of
from genus.models.autoregressive._orderless import Orderless
from genus.recipe import Recipe

LARGEST = 100_000  # logits: 400 MB of weights at 1,000 hidden units


class DeepNADE(Orderless):
    """Orderless neural autoregressive distribution estimator.

    A grid of two levels has one logit per entry, as in the paper; a grid of L levels has L (softmax).

    Args:
        hidden: units of each hidden layer.
        layers: number of hidden layers.
        orderings: orderings of the ensemble that scores and samples: 1 is the raster order; scoring costs D
            steps for each.
        inputs: what a visible entry of more than two levels feeds in: one number in 0..1 (`scaled`, for
            pictures) or one for each level (`one_hot`, for codes without an order).
    """

    paper = "Uria, Murray, Larochelle (2014). A Deep and Tractable Density Estimator. https://arxiv.org/abs/1310.1757"
    recipes = {  # noqa: RUF012
        "quick": Recipe(learning_rate=1e-3, batch_size=100, steps=3000, schedule="cosine", ema=0.99),
        "paper": Recipe(
            learning_rate=1e-3,
            batch_size=100,
            steps=100_000,  # 200 epochs of binarized MNIST
            schedule="cosine",
            ema=0.999,
            precision="bfloat16",
        ),
    }

    def __init__(
        self,
        domain: Grid,
        condition: Domain | None = None,
        *,
        hidden: int = 500,
        layers: int = 2,
        orderings: int = 1,
        inputs: Literal["scaled", "one_hot"] = "scaled",
    ):
        super().__init__(domain, condition, orderings)
        for name, value in (("hidden", hidden), ("layers", layers)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1; got {value}.")
        self.one_hot = inputs == "one_hot"
        self.inputs = domain.levels if self.one_hot else 2  # numbers that a visible entry feeds in
        entries = domain.num_dims
        self.w = nn.Parameter(torch.empty(entries, self.inputs, hidden).normal_(std=(2 / entries) ** 0.5))
        self.c = nn.Parameter(torch.zeros(hidden))
        middle = [nn.Linear(hidden, hidden) for _ in range(layers - 1)]
        self.middle = nn.ModuleList(middle)
        for layer in middle:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.v = nn.Parameter(torch.empty(entries, self.width, hidden).normal_(std=hidden**-0.5))
        self.b = nn.Parameter(torch.zeros(entries, self.width))
        if isinstance(condition, Label):
            self.label_hidden = nn.Parameter(0.05 * torch.empty(condition.count, hidden).normal_())
            self.label_logits = nn.Parameter(torch.zeros(condition.count, entries, self.width))

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, hidden=8)  # type: ignore[arg-type]

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and domain.num_dims * width_of(domain) > LARGEST:
            logits = f"{domain.num_dims * domain.levels:,} logits"
            return f"deep_nade has a weight per hidden unit and logit: {domain} makes {logits}, over {LARGEST:,}."
        return super().refuses(domain)

    def initialise(self, split: Split) -> None:
        """Start the output biases at the data's own (add-one) log-odds, entry by entry."""
        self.b.data.copy_(log_odds(split, self.domain))

    def features(self, x: Tensor) -> Tensor:
        """What entries feed in where they are visible: ``(..., inputs)``; one of the numbers says that they are."""
        if self.one_hot:
            return F.one_hot(x.long(), self.inputs).to(self.w.dtype)
        scaled = x.to(self.w.dtype) / (self.domain.levels - 1)
        return torch.stack([scaled, torch.ones_like(scaled)], -1)

    def first(self, x: Tensor, visible: Tensor, condition: Tensor | None) -> Tensor:
        """Pre-activations ``(B, H)`` of the first layer, from the visible entries of ``x`` (B, D)."""
        shown = (self.features(x) * visible.unsqueeze(-1)).flatten(1)
        a = F.linear(shown, self.w.flatten(0, 1).T, self.c)
        return a if condition is None else a + self.label_hidden[condition]

    def last(self, a: Tensor) -> Tensor:
        """Units of the last hidden layer, from the pre-activations of the first."""
        h = a.relu()
        for layer in self.middle:
            h = layer(h).relu()
        return h

    def logits(self, x: Tensor, visible: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.last(self.first(x, visible, condition))
        z = F.linear(h, self.v.flatten(0, 1)).unflatten(1, (-1, self.width)) + self.b
        return z if condition is None else z + self.label_logits[condition]

    def walk(self, order: Tensor, x: Tensor, visible: Tensor, condition: Tensor | None) -> Walk:
        a = self.first(x, visible, condition)
        offset = self.b if condition is None else self.b + self.label_logits[condition]
        for place in order.tolist():
            entry = yield place, every_level(F.linear(self.last(a), self.v[place]) + offset[..., place, :])
            fresh = ~visible[:, place, None]  # visible ones are in the sum already
            a = a + (self.features(entry) * fresh) @ self.w[place]
