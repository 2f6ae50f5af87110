"""Joint table: one probability for each state that a datum can be in. The model with nothing left out.

p(x) = (how often x itself was seen + s) / (number of data + s K^n) for n entries of K levels: the
maximum of the likelihood over *all* distributions, and the reason for every other model: it has K^n - 1 free
parameters. Four binary pixels need 15 and one pixel of three bytes 256^3 - 1 = 16,777,215; 28x28
binary pixels would need 2^784 - 1, about 1.0e236, and are refused with that number. What it has not
seen it does not know: nothing is carried over from one state to another.

Promises: exact log p(x), a fit in one pass, conditional on a label, exact completion.
"""

from typing import Any, Self

import torch
from torch import Tensor

from genus.contract import IsEditable, Walk
from genus.kinds import Discrete, Domain
from genus.models.autoregressive._counts import MOST_STATES, CountTable, classes_of, normalised, refuse_states
from genus.prob import noise


class JointTable(CountTable, IsEditable):
    """The smoothed frequency of every state.

    Args:
        smoothing: pseudo-counts added to every state; by default 1 for all states together
            (Perks' prior: 1 / number of states each).
    """

    paper = "Shannon (1948). A Mathematical Theory of Communication. https://doi.org/10.1002/j.1538-7305.1948.tb01338.x"
    smaller = "use fewer entries or levels, or a model that shares what it learns, such as markov or nade"

    def __init__(self, domain: Discrete, condition: Domain | None = None, *, smoothing: float | None = None):
        super().__init__(domain, condition, 0.0 if smoothing is None else smoothing)
        free = self.free_parameters(domain, condition)
        self.allocate(1, domain.levels**domain.num_dims, free)
        if smoothing is None:
            self.smoothing = 1 / self.counts.shape[1]
        powers = domain.levels ** torch.arange(domain.num_dims - 1, -1, -1)
        self.register_buffer("powers", powers, persistent=False)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        return super().refuses(domain) or refuse_states(cls, domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition)  # type: ignore[arg-type]  # __init__ refuses other domains

    @classmethod
    def free_parameters(cls, domain: Discrete, condition: Domain | None = None, **others: Any) -> int:
        return classes_of(condition) * (domain.levels**domain.num_dims - 1)

    def cells(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        states = (x.flatten(1).long() * self.powers).sum(-1, keepdim=True)
        return self.labels(condition, len(x)).unsqueeze(1), states

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        """The conditionals of the joint distribution: how often each beginning goes on how."""
        labels, levels = self.labels(condition, count), self.domain.levels
        begun = [self.counts]  # how often each beginning came: of all entries, of all but one, ...
        for _ in range(self.domain.num_dims - 1):
            begun.append(begun[-1].view(self.classes, -1, levels).sum(-1))
        prefix = torch.zeros_like(labels)
        for place in range(self.domain.num_dims):
            counts = begun.pop().view(self.classes, -1, levels)[labels, prefix].double()
            unread = levels ** (self.domain.num_dims - 1 - place)  # states that a beginning stands for
            entry = yield place, normalised(counts + self.smoothing * unread).log()
            prefix = prefix * levels + entry

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        tables = self.counts.view(self.classes, *[self.domain.levels] * self.domain.num_dims)
        entries, kept, labels = x.flatten(1).long(), keep.flatten(1), self.labels(condition, len(x))
        for pattern in kept[~kept.all(1)].unique(dim=0):  # data that keep the same places are completed together
            free = (~pattern).nonzero().squeeze(1)
            alike = (kept == pattern).all(1).nonzero().squeeze(1)
            for some in alike.split(max(1, MOST_STATES // self.domain.levels ** len(free))):
                known = (entries[some, j] if pattern[j] else slice(None) for j in range(len(pattern)))
                agreeing = tables[(labels[some], *known)].double() + self.smoothing
                if not agreeing.flatten(1).sum(1).all():
                    raise ValueError(
                        "the kept entries have probability 0 in this table; fit it with smoothing above 0."
                    )
                drawn = noise.categorical(agreeing.flatten(1).log(), generator)
                for j, value in zip(free, torch.unravel_index(drawn, agreeing.shape[1:]), strict=True):
                    entries[some, j] = value
        return entries.to(x.dtype).view(x.shape)
