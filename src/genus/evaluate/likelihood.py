"""Held-out likelihood: in bits/dim, in nats, and of which kind."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from genus.contract import GenerativeModel, HasLogProb, Likelihood, Split, name_of, refusal, require
from genus.evaluate._items import choose
from genus.evaluate.score import Score
from genus.kinds import Domain
from genus.prob import noise

NAME = "negative log-likelihood"


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the modes of all parts are put back afterwards."""
    modes = {part: part.training for part in model.modules()}
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def log_likelihood(
    model: GenerativeModel,
    split: Split,
    *,
    num_samples: int = 1,
    batch_size: int = 128,
    seed: int = 0,
    limit: int | None = None,
) -> list[Score]:
    """The model's negative log-likelihood on a split: the number to quote comes first.

    Discrete data with more than two levels: bits/dim, ``-log p / (D ln 2)``, so a uniform
    model scores log2(levels). Binary data: nats, then bits/dim. Continuous data: nats of a
    density in the data's own units.

    num_samples: passed to ``log_prob``; K draws make the importance-weighted bound of K.
    limit: score this many items, chosen by the seed, instead of all.
    Raises a CapabilityError for models without a likelihood.
    """
    nll = negative_log_prob(
        model, split, num_samples=num_samples, batch_size=batch_size, seed=seed, limit=limit
    )  # (items,) nats
    told = model.protocol if isinstance(model, HasLogProb) else {}
    protocol = {"items": len(nll), "num_samples": num_samples, "seed": seed, **told}

    def score(unit: str, scale: float) -> Score:
        error = float(nll.std() / math.sqrt(len(nll))) / scale if len(nll) > 1 else None
        return Score(NAME, float(nll.mean()) / scale, error, model.likelihood, unit, "lower", protocol=protocol)

    return [score(unit, scale) for unit, scale in units_of(model.domain)]


def units_of(domain: Domain) -> list[tuple[str, float]]:
    """The units of a negative log-likelihood, the one to quote first, and the nats of each."""
    nats, bits = ("nats", 1.0), ("bits/dim", math.prod(domain.shape) * math.log(2))
    if domain.levels is None:
        return [nats]
    return [nats, bits] if domain.levels == 2 else [bits]


def held_out_loss(
    model: GenerativeModel, split: Split, *, batch_size: int = 128, seed: int = 0, limit: int | None = None
) -> list[Score]:
    """The mean training criterion on a split, for models that have no likelihood to show; none
    for models without a criterion (a GAN)."""
    values = []
    with evaluating(model):
        for n, index in enumerate(choose(len(split), limit, seed).split(batch_size)):
            generator = noise.stream(seed, "held-out loss", n)
            batch = split.batch(index, generator).to(model.device)
            value = model.criterion(batch if model.condition is not None else batch._replace(condition=None), generator)
            if value is None:
                return []
            values.append(value.double().cpu())
    loss = torch.cat(values)
    protocol = {"items": len(loss), "of": name_of(model), "seed": seed}
    return [Score("held-out loss", float(loss.mean()), float(loss.std() / math.sqrt(len(loss))), protocol=protocol)]


def negative_log_prob(
    model: GenerativeModel, split: Split, *, num_samples: int, batch_size: int, seed: int, limit: int | None
) -> Tensor:
    """-log p of the items of a split, ``(items,)`` float64 nats. The draws of a batch are a
    function of the seed and the batch alone."""
    require(model, HasLogProb, "give a likelihood")
    if model.likelihood is Likelihood.NONE:
        raise refusal(type(model), "HasLogProb", "give a likelihood")
    if not len(split):
        raise ValueError("the split to score has no items.")
    values = []
    with evaluating(model):
        for n, index in enumerate(choose(len(split), limit, seed).split(batch_size)):
            batch = split.batch(index, noise.stream(seed, "likelihood data", n)).to(model.device)
            condition = batch.condition if model.condition is not None else None
            log_p = model.log_prob(
                batch.x, condition=condition, num_samples=num_samples, generator=noise.stream(seed, "likelihood", n)
            )
            values.append(-log_p.double().cpu())
    return torch.cat(values)
