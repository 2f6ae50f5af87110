"""What the chain rule promises: each place once, the sum of log_prob, and walks that do not disturb each other."""

from collections.abc import Iterator

import torch
from torch import Tensor

from genus.contract import Batch, GenerativeModel, HasConditionals
from genus.errors import brief
from genus.testing.checks._common import SHAKES, close
from genus.testing.statistics import require
from genus.testing.subjects import Subject


def check_chain_rule(subject: Subject) -> None:
    """The walk comes to each place once, with a logit for each level, and the entries' log-probabilities sum to
    log p(x): to 1e-4 in float32, to 1e-9 in float64."""
    domain, batch = subject.domain, subject.batch(8)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        model = subject.make().to(dtype)
        places, nats = [], torch.zeros(8, dtype=torch.float64)
        for place, logits, entry in walked(model, batch):
            expected = (8, domain.levels)
            require(tuple(logits.shape) == expected, f"logits: expected shape {expected}; got {tuple(logits.shape)}.")
            nats += logits.double().log_softmax(-1).gather(-1, entry.unsqueeze(-1)).squeeze(-1)
            places.append(place)
        strangers = sorted(set(range(domain.num_dims)) ^ set(places))
        require(not strangers, f"places that the walk leaves out or makes up: {brief(strangers)}.")
        require(len(places) == domain.num_dims, f"{len(places)} steps for {domain.num_dims} places: some come twice.")
        with torch.no_grad():
            expected_nats = model.log_prob(batch.x, condition=batch.condition).double()
        close(nats, expected_nats, f"in {dtype}, the chain rule does not give log_prob", tolerance)


def check_walks_are_independent(subject: Subject) -> None:
    """The logits of a step are a function of what was sent before it in *this* walk.

    Two walks take turns, the second with other data from some step on: up to that step both give the same bits,
    and the first gives the bits that it gives alone. Logits stay as they are after they were given.
    """
    batch, levels = subject.batch(8), subject.domain.levels
    assert levels is not None
    other = batch._replace(x=((batch.x.long() + 1) % levels).to(batch.x.dtype))
    model = subject.make(shake=SHAKES[-1])
    alone = [(place, logits.clone()) for place, logits, _ in walked(model, batch)]
    for turn in {0, len(alone) // 2, len(alone) - 1}:
        both = list(zip(walked(model, batch), walked(model, batch, other, turn), strict=True))
        for step, ((place, logits), (one, two)) in enumerate(zip(alone, both, strict=True)):
            where = f"step {step}, place {place}"
            require(one[0] == two[0] == place, f"{where}: other data are read in another order.")
            same = torch.equal(one[1], logits)
            require(same, f"{where}: the logits change with another walk, or after they were given.")
            known = step > turn or torch.equal(two[1], logits)
            require(known, f"{where}: the logits depend on what is sent later, or in another walk.")


def walked(
    model: GenerativeModel, batch: Batch, other: Batch | None = None, turn: int = 0
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The steps of a walk through a batch, and from step ``turn`` on through another: place, logits, entry."""
    assert isinstance(model, HasConditionals)
    walk, step = model.chain_rule(len(batch.x), condition=batch.condition), 0
    answer: tuple[int, Tensor] | None = next(walk)
    while answer is not None:
        place, logits = answer
        x = batch.x if other is None or step < turn else other.x
        require(0 <= place < x[0].numel(), f"the walk comes to place {place} of {x[0].numel()}.")
        entry = x.flatten(1)[:, place].long()
        yield place, logits.detach(), entry
        try:
            answer, step = walk.send(entry.clone()), step + 1
        except StopIteration:
            answer = None
