"""What completion promises: the kept part stays, the rest is redrawn."""

import torch

from genus.contract import IsEditable
from genus.prob import noise
from genus.prob.noise import stream
from genus.testing.checks._common import within
from genus.testing.statistics import require
from genus.testing.subjects import Subject


def check_edit(subject: Subject) -> None:
    """Kept entries come back bit for bit, the others are redrawn, and the input is left alone."""
    model, batch = subject.make(), subject.batch(32)
    assert isinstance(model, IsEditable)
    x, condition = batch.x, batch.condition
    keep = noise.uniform(tuple(x.shape), stream("keep")) < 0.5
    if not subject.domain.discrete:
        keep = keep[..., :1].expand(x.shape)  # whole points
    before = x.clone()
    edited, again, other = (
        model.edit(x, keep, condition=condition, generator=stream("edit", seed)).detach() for seed in (0, 0, 1)
    )
    require(torch.equal(x, before), "edit changed its input in place.")
    require(edited.dtype == x.dtype and edited.shape == x.shape, "an edited datum has another shape or dtype.")
    within(subject.domain, edited)
    changed = int((edited[keep] != x[keep]).sum())
    require(changed == 0, f"{changed} of {int(keep.sum())} kept entries changed.")
    require(torch.equal(edited, again), "the same generator gave another edit.")
    require(not torch.equal(edited, other), "another generator gave the same edit: nothing is redrawn.")
    everything = model.edit(x, torch.ones_like(keep), condition=condition, generator=stream("edit"))
    require(torch.equal(everything, x), "keeping everything did not return the datum.")
