"""Orderless training: one network for every ordering of the entries, so any part completes any other.

Draw how many entries are visible, n = d - 1 uniform in 0..D-1, and which ones; show them to the
network, which is told what it is shown; and let it predict all hidden entries at once (Uria, Murray,
Larochelle 2014, eqs. 13-16):

    loss = D / (D - d + 1) * sum over hidden i of -log p(x_i | x_visible)

Its expectation over d and the visible sets is the mean of -log p_o(x) over all D! orderings o. What
`sample` draws from and `log_prob` scores is a mixture over a fixed set of them (an *ensemble*). A
completion takes the kept entries first and the others in a random order: exact for that ordering,
which need not be one of the ensemble's.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from genus.contract import Batch, IsEditable, Losses, Walk, check_condition, name_of
from genus.models.autoregressive._entries import log_p
from genus.models.autoregressive._mixture import OrderingMixture
from genus.prob import chain, noise


def orderless_visible(count: int, entries: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """What each datum shows: n entries, n uniform in 0..D-1, any n of them alike. Boolean ``(B, D)``."""
    shown = noise.integers(entries, (count,), generator, device)
    rank = noise.uniform((count, entries), generator, device).argsort(1).argsort(1)
    return rank < shown.unsqueeze(1)


class Orderless(OrderingMixture, IsEditable):
    """A model that predicts any entry from any others; subclasses give the network, all at once and in a walk."""

    @abstractmethod
    def logits(self, x: Tensor, visible: Tensor, condition: Tensor | None = None) -> Tensor:
        """Of every entry given the visible ones: ``(B, D, width)``, from x and visible ``(B, D)``."""

    @abstractmethod
    def walk(self, order: Tensor, x: Tensor, visible: Tensor, condition: Tensor | None) -> Walk:
        """Through the entries in ``order``, each given those before it and those of ``x`` (B, D) that are
        visible from the start; what is sent for a visible entry must be that entry."""

    def ordering(self, number: int) -> Tensor:
        """An ordering of the ensemble: the raster's for number 0, else random but always the same."""
        entries = self.domain.num_dims
        return noise.permutation(entries, noise.stream(name_of(self), number)) if number else torch.arange(entries)

    def walk_in(self, number: int, count: int, condition: Tensor | None) -> Walk:
        x = torch.zeros(count, self.domain.num_dims, dtype=torch.int64, device=self.device)
        return self.walk(self.ordering(number), x, torch.zeros_like(x, dtype=torch.bool), condition)

    def masked_loss(self, x: Tensor, visible: Tensor, condition: Tensor | None = None) -> Tensor:
        """The hidden entries' negative log-likelihood, scaled to all D of them: ``(B,)``."""
        hidden = ~visible
        nats = (log_p(self.logits(x, visible, condition), x) * hidden).sum(1)
        return -nats * self.domain.num_dims / hidden.sum(1)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        self.domain.check(batch.x)
        check_condition(self, batch.condition, len(batch.x))
        x = batch.x.flatten(1)
        visible = orderless_visible(len(x), x.shape[1], generator, x.device)
        return {"loss": self.masked_loss(x, visible, batch.condition)}

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """The kept entries first, then the others in a random order (one for the whole batch)."""
        visible = keep.flatten(1)
        known = torch.where(visible, x.flatten(1), 0)
        order = noise.permutation(self.domain.num_dims, generator)
        order = order[~visible[:, order].all(0)]
        return chain.fill(self.walk(order, known.long(), visible, condition), known, generator, visible).view(x.shape)
