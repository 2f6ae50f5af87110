"""What autoregressive networks of grids share: how entries are told in logits."""

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.contract import Split, batches
from genus.kinds import Discrete, Grid


def width_of(domain: Discrete) -> int:
    """Logits of an entry: one for two levels, else one a level."""
    return 1 if domain.levels == 2 else domain.levels


def log_odds(split: Split, domain: Grid) -> Tensor:
    """The data's own (add-one) log-odds, entry by entry: ``(D, width)``, where output biases start."""
    counts = torch.ones(domain.num_dims, domain.levels)
    for batch in batches(split, 1000):
        counts += F.one_hot(batch.x.flatten(1).long(), domain.levels).sum(0)
    log_p = counts.log() - counts.sum(-1, keepdim=True).log()
    return log_p[:, 1:] - log_p[:, :1] if width_of(domain) == 1 else log_p


def every_level(logits: Tensor) -> Tensor:
    """Logits ``(..., width)`` with one number a level: of two levels, the first has 0."""
    return F.pad(logits, (1, 0)) if logits.shape[-1] == 1 else logits


def log_p(logits: Tensor, x: Tensor) -> Tensor:
    """log p of values ``x`` (...) by logits ``(..., width)``; out of autocast's half precision."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[-1] == 1:
        return -F.binary_cross_entropy_with_logits(logits.squeeze(-1), x.to(logits.dtype), reduction="none")
    return logits.log_softmax(-1).gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
