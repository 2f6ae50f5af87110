r"""DeepNADE: one network for every ordering of the entries, so any part completes any other.

Orderless training: draw how many entries are visible, n = d - 1 uniform in 0..D-1, and which ones;
feed the network (x * visible, visible), so that it can tell a hidden entry from one that is zero;
and let it predict all hidden entries at once (Uria, Murray, Larochelle, eqs. 13-16):

    loss = D / (D - d + 1) * sum over hidden i of -log p(x_i | x_visible)

Its expectation over d and the visible sets is the mean of -log p_o(x) over all D! orderings o.
`log_prob` is the law that `sample` draws from: a mixture over a fixed set of orderings,
p(x) = 1/O sum_o p_o(x) (an ensemble; never an average of logits). Each ordering costs D passes,
but the first layer of those is a running sum over the visible entries, as in `nade`:

    a_1 = c,    a_{t+1} = a_t + W_{o(t)} f(x_{o(t)})

What differs from the paper: the ensemble's first ordering is the raster's; more than two levels
are allowed (softmax outputs); a label has weights to the first layer and to the logits; the
layers are trained at once, by Adam on a cosine with averaged weights, instead of one after
the other; the output biases start at the data's log-odds.

Promises: exact log p(x) of the ensemble; conditional on a label; completes any part given any
other. A completion comes from the network's own factors, with the kept entries first and the
others in a random order: exact for such an ordering, which need not be one of the ensemble's.
"""

import math
from collections.abc import Iterator
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import (
    Batch,
    GenerativeModel,
    HasLogProb,
    IsConditional,
    IsEditable,
    Likelihood,
    Losses,
    Split,
    check_condition,
)
from genus.domain import Domain, Grid, Label
from genus.models.autoregressive._entries import log_odds, width_of
from genus.prob import noise
from genus.recipe import Recipe

LARGEST = 100_000  # logits: 400 MB of weights at 1,000 hidden units


def orderless_visible(count: int, entries: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """What each datum shows: n entries, n uniform in 0..D-1, any n of them alike. Boolean ``(B, D)``."""
    shown = noise.integers(entries, (count,), generator, device)
    rank = noise.uniform((count, entries), generator, device).argsort(1).argsort(1)
    return rank < shown.unsqueeze(1)


class DeepNADE(GenerativeModel, HasLogProb, IsConditional, IsEditable):
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
    domains = (Grid,)
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
    domain: Grid

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
        super().__init__(domain, condition)
        for name, value in (("hidden", hidden), ("layers", layers), ("orderings", orderings)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1; got {value}.")
        if condition is not None and not isinstance(condition, Label):
            raise ValueError(f"deep_nade can be conditioned on a label only; got {condition}.")
        self.orderings, self.one_hot = orderings, inputs == "one_hot"
        self.width = width_of(domain)
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
        if condition is not None:
            self.label_hidden = nn.Parameter(0.05 * torch.empty(condition.count, hidden).normal_())
            self.label_logits = nn.Parameter(torch.zeros(condition.count, entries, self.width))

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, hidden=8, orderings=2)  # type: ignore[arg-type]

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and domain.num_dims * width_of(domain) > LARGEST:
            logits = f"{domain.num_dims * domain.levels:,} logits"
            return f"deep_nade has a weight per hidden unit and logit: {domain} makes {logits}, over {LARGEST:,}."
        return super().refuses(domain)

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    def initialise(self, split: Split) -> None:
        """Start the output biases at the data's own (add-one) log-odds, entry by entry."""
        self.b.data.copy_(log_odds(split, self.domain))

    # --- the network ------------------------------------------------------------------------

    def features(self, x: Tensor) -> Tensor:
        """What entries feed in where they are visible: ``(..., inputs)``; one of the numbers says that they are."""
        if self.one_hot:
            return F.one_hot(x.long(), self.inputs).to(self.w.dtype)
        scaled = x.to(self.w.dtype) / (self.domain.levels - 1)
        return torch.stack([scaled, torch.ones_like(scaled)], -1)

    def first(self, x: Tensor, visible: Tensor, condition: Tensor | None) -> Tensor:
        """Pre-activations ``(B, H)`` of the first layer, from the visible entries of ``x`` (B, D)."""
        check_condition(self, condition, len(x))
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
        """Of every entry given the visible ones: ``(B, D, 1 or levels)``, from x and visible ``(B, D)``."""
        h = self.last(self.first(x, visible, condition))
        z = F.linear(h, self.v.flatten(0, 1)).unflatten(1, (-1, self.width)) + self.b
        z = z if condition is None else z + self.label_logits[condition]
        return z.to(torch.promote_types(z.dtype, torch.float32))  # autocast may have made them bfloat16

    def nats(self, logits: Tensor, x: Tensor) -> Tensor:
        """log p of the values ``x`` (...) under ``logits`` (..., 1 or levels)."""
        if self.width == 1:
            value = x.to(logits.dtype)
            return -F.binary_cross_entropy_with_logits(logits.squeeze(-1), value, reduction="none")
        return logits.log_softmax(-1).gather(-1, x.long().unsqueeze(-1)).squeeze(-1)

    def masked_loss(self, x: Tensor, visible: Tensor, condition: Tensor | None = None) -> Tensor:
        """The hidden entries' negative log-likelihood, scaled to all D of them: ``(B,)``."""
        hidden = ~visible
        nats = (self.nats(self.logits(x, visible, condition), x) * hidden).sum(1)
        return -nats * self.domain.num_dims / hidden.sum(1)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        self.domain.check(batch.x)
        x = batch.x.flatten(1)
        visible = orderless_visible(len(x), x.shape[1], generator, x.device)
        return {"loss": self.masked_loss(x, visible, batch.condition)}

    # --- entry by entry ---------------------------------------------------------------------

    def ordering(self, number: int) -> Tensor:
        """An ordering of the ensemble: the raster's for number 0, else random but always the same."""
        entries = self.domain.num_dims
        return noise.permutation(entries, noise.stream("deep_nade", number)) if number else torch.arange(entries)

    def conditionals(
        self, x: Tensor, visible: Tensor, order: Tensor, condition: Tensor | None
    ) -> Iterator[tuple[int, Tensor]]:
        """Each entry in the order with its logits ``(B, width)``, given the visible ones and those before it.

        ``x`` is (B, D). The entry itself is read from it only when the next one is asked for: who draws
        values writes them there.
        """
        a = self.first(x, visible, condition)
        offset = self.b if condition is None else self.b + self.label_logits[condition]
        for entry in order.tolist():
            yield entry, F.linear(self.last(a), self.v[entry]) + offset[..., entry, :]
            fresh = ~visible[:, entry, None]  # visible ones are in the sum already
            a = a + (self.features(x[:, entry]) * fresh) @ self.w[entry]

    def log_prob(
        self,
        x: Tensor,
        *,
        condition: Tensor | None = None,
        num_samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Of the mixture over the ensemble's orderings."""
        self.domain.check(x)
        flat = x.flatten(1)
        nothing = torch.zeros_like(flat, dtype=torch.bool)
        nats = []
        for number in range(self.orderings):
            walk = self.conditionals(flat, nothing, self.ordering(number), condition)
            nats.append(torch.stack([self.nats(logits, flat[:, entry]) for entry, logits in walk]).sum(0))
        return torch.stack(nats).logsumexp(0) - math.log(self.orderings)

    @torch.no_grad()
    def complete(
        self, x: Tensor, visible: Tensor, order: Tensor, condition: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """``x`` (B, D) with all but the visible entries drawn anew, one by one in the order."""
        x = torch.where(visible, x, 0).long()
        missing = order[~visible[:, order].all(0)]
        for entry, logits in self.conditionals(x, visible, missing, condition):
            if self.width == 1:
                drawn = noise.bernoulli(logits[:, 0].sigmoid(), generator).long()
            else:
                drawn = noise.categorical(logits, generator)
            x[:, entry] = torch.where(visible[:, entry], x[:, entry], drawn)
        return x.to(self.domain.dtype)

    def sample(
        self, count: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Each datum in an ordering of its own from the ensemble; those of one ordering are drawn together."""
        check_condition(self, condition, count)
        numbers = noise.integers(self.orderings, (count,), generator, self.device)
        x = torch.zeros(count, self.domain.num_dims, dtype=self.domain.dtype, device=self.device)
        nothing = torch.zeros_like(x, dtype=torch.bool)
        for number in numbers.unique().tolist():
            rows = numbers == number
            given = None if condition is None else condition[rows]
            x[rows] = self.complete(x[rows], nothing[rows], self.ordering(number), given, generator)
        return x.view(count, *self.domain.shape)

    def edit(
        self,
        x: Tensor,
        keep: Tensor,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The kept entries first, then the others in a random order (one for the whole batch)."""
        self.domain.check(x)
        order = noise.permutation(self.domain.num_dims, generator)
        return self.complete(x.flatten(1), keep.flatten(1), order, condition, generator).view(x.shape)
