"""What an auto-decoder promises: codes of training items by their numbers, of all other data by inference."""

from functools import partial

import torch
from torch import Tensor

from genus.contract import Batch, GenerativeModel, HasItemCodes
from genus.nn.per_item import PerItem
from genus.prob.noise import stream
from genus.testing.checks._common import close, head, raised
from genus.testing.statistics import constant_noise, require
from genus.testing.subjects import Subject


def check_item_codes(subject: Subject) -> None:
    """There is a row for each training item, losses look rows up by number and refuse data without numbers, and what
    is said of held-out data does not depend on whose row is whose."""
    model, batch = subject.make(), subject.batch(8)
    tables = [module for module in model.modules() if isinstance(module, PerItem)]
    require(bool(tables), "no PerItem holds the codes of the training items.")
    held_out = batch._replace(index=None)
    for player in model.players():
        raised(ValueError, partial(player.losses, held_out, stream("items")))
    with torch.no_grad():
        before = model.losses(batch, stream("items"))["loss"]
        judged = model.criterion(batch, stream("items"))
        for table in tables:
            table.rows.copy_(table.rows.flip(0))
        after = model.losses(batch, stream("items"))["loss"]
        again = model.criterion(batch, stream("items"))
    require(not torch.equal(before, after), "losses do not depend on the rows of the training items.")
    if judged is not None and again is not None:
        close(again, judged, "the criterion of held-out data reads the rows of training items")


def check_inference(subject: Subject) -> None:
    """Inferred codes are one a datum, a function of the datum and the generator, better than those of other data, and
    leave the model as it was."""
    model, batch = subject.make(), subject.batch(6)._replace(index=None)
    assert isinstance(model, HasItemCodes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        codes, again = (infer(model, batch.x, batch.condition) for _ in range(2))
    require(len(codes) == 6 and bool(codes.isfinite().all()), f"expected 6 finite codes; got {tuple(codes.shape)}.")
    require(not codes.requires_grad, "inferred codes carry a graph of gradients.")
    require(torch.equal(codes, again), "the same generator gave other codes.")
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    require(not changed, f"inference changed {', '.join(changed)}.")
    touched = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    require(not touched, f"inference left gradients on {', '.join(touched)}.")
    with constant_noise():
        whole = infer(model, batch.x, batch.condition)
        single = [infer(model, batch.x[:k], head(batch.condition, k)) for k in (1, 2)]
    for part in single:
        close(part, whole[: len(part)], "codes depend on the other data of the batch", 1e-3)
    with torch.no_grad():
        own, others = (model.losses_given(batch, z, stream("own"))["loss"].mean() for z in (codes, codes.roll(1, 0)))
    require(bool(own < others), f"inferred codes fit their data no better ({own:.4f}) than those of others do.")


def infer(model: GenerativeModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """Codes of held-out data."""
    assert isinstance(model, HasItemCodes)
    return model.infer(Batch(x, condition), stream("infer"))
