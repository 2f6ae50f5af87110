"""Walks that miss a place, change the distribution or disturb each other."""
# ruff: noqa: D102  a mutant's own docstring says what it breaks

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.contract import Walk, check_condition
from genus.testing import checks
from genus.testing.mutants._mutant import mutant
from genus.testing.mutants._toys import Chain
from genus.testing.subjects import LABELS


class SkipsAPlace(Chain):
    """Its walk ends before the last entry."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk = super().chain_rule(count, condition=condition)
        step = next(walk)
        for _ in range(self.domain.num_dims - 1):
            step = walk.send((yield step))


class AsksTwice(Chain):
    """Its walk comes to each place twice, the second time with an answer that it knows: the sum stays right."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk = super().chain_rule(count, condition=condition)
        step, entry = next(walk), torch.zeros(0)
        for _ in range(self.domain.num_dims):
            entry = yield step
            yield step[0], 100.0 * F.one_hot(entry, self.domain.levels).to(step[1].dtype)
            try:
                step = walk.send(entry)
            except StopIteration:
                return


class WalksALukewarmLaw(Chain):
    """Its walk's logits are those of log_prob at another temperature."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk = super().chain_rule(count, condition=condition)
        place, logits = next(walk)
        for _ in range(self.domain.num_dims - 1):
            place, logits = walk.send((yield place, 1.01 * logits))
        yield place, 1.01 * logits


class WalksInSingle(Chain):
    """Its walk computes in float32 after `double()`."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk = super().chain_rule(count, condition=condition)
        place, logits = next(walk)
        for _ in range(self.domain.num_dims - 1):
            place, logits = walk.send((yield place, logits.float()))
        yield place, logits.float()


class WalksWithoutTheLabel(Chain):
    """Scores with the label, and walks with the table of class 0."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        check_condition(self, condition, count)
        return super().chain_rule(count, condition=condition if condition is None else torch.zeros_like(condition))


class WritesOverItsLogits(Chain):
    """Its walk gives the logits of every step in the same memory."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk, memory = super().chain_rule(count, condition=condition), torch.zeros(count, self.domain.levels)
        place, logits = next(walk)
        for _ in range(self.domain.num_dims - 1):
            place, logits = walk.send((yield place, memory.copy_(logits.detach())))
        yield place, memory.copy_(logits.detach())


class WalksAsOne(Chain):
    """Keeps what was sent on itself, so that two walks side by side are one."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        check_condition(self, condition, count)
        self.sent = torch.zeros(count, *self.domain.shape, dtype=torch.int64)
        for place in range(self.domain.num_dims):
            self.sent.view(count, -1)[:, place] = yield place, self.logits(self.sent, condition)[:, place]


MUTANTS = (
    mutant(SkipsAPlace, Chain, checks.check_chain_rule),
    mutant(AsksTwice, Chain, checks.check_chain_rule),
    mutant(WalksALukewarmLaw, Chain, checks.check_chain_rule),
    mutant(WalksInSingle, Chain, checks.check_chain_rule),
    mutant(WalksWithoutTheLabel, Chain, checks.check_chain_rule, condition=LABELS),
    mutant(WritesOverItsLogits, Chain, checks.check_walks_are_independent),
    mutant(WalksAsOne, Chain, checks.check_walks_are_independent),
)
