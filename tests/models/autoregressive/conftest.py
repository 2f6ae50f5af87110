"""Oracles for small grids: every state, and the distribution that a model gives them."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.kinds import Grid


def every_state_of(domain: Grid) -> Tensor:
    """All ``levels ** D`` data of a small grid, the first entry the most significant."""
    states = itertools.product(range(domain.levels), repeat=domain.num_dims)
    return torch.tensor(list(states), dtype=domain.dtype).view(-1, *domain.shape)


@pytest.fixture
def every_state() -> Callable[[Grid], Tensor]:
    return every_state_of


@pytest.fixture
def z_scores() -> Callable[[Grid, Tensor, Tensor], Tensor]:
    """z-scores of how often each state of `every_state` was drawn, against its log-probability."""

    def scores(domain: Grid, draws: Tensor, log_prob: Tensor) -> Tensor:
        digits = domain.levels ** torch.arange(domain.num_dims - 1, -1, -1)
        counts = torch.bincount((draws.flatten(1).long() * digits).sum(1), minlength=len(log_prob)).double()
        p = log_prob.double().exp()
        expected = len(draws) * p
        assert (counts[expected < 1e-9] == 0).all()
        likely = expected > 5
        return ((counts - expected) / (expected * (1 - p)).sqrt())[likely]

    return scores
