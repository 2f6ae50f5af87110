"""A NaN stops training; these sentences say where it came from."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from genus.contract import Batch, Losses
from genus.errors import GenusError, SettingsError

ITEMS = 8  # named in a sentence


class DivergenceError(GenusError, ArithmeticError):
    """A number became NaN or infinite; training stopped and the last good checkpoint is kept."""


def origin(model: nn.Module, batch: Batch, terms: Losses, before: Tensor | None) -> str:
    """Where a loss that is not finite comes from: the data, the weights, or a term of the loss.

    before: item numbers of the step before, whose update may have broken the weights.
    """
    bad = _bad_rows(batch.x)
    if bad is not None:
        return f"the data are not finite: {items(batch.index, bad)}"
    name = first_nonfinite({**dict(model.named_parameters()), **dict(model.named_buffers())})
    if name and before is None:
        return f"{name} is not finite from the start: look at the data that initialise it"
    if name:
        return f"{name} was broken by the update of the step before ({items(before)})"
    for term in sorted(terms, key=lambda term: term == "loss"):  # the parts before their sum
        bad = _bad_rows(terms[term])
        if bad is not None:
            return f"the term {term!r} is not finite for {items(batch.index, bad)}"
    return f"the mean overflows ({items(batch.index)})"


def first_nonfinite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def smaller_parts(batch_size: int, processes: int, accumulate: int) -> str:
    """What to try when a batch does not fit into memory."""
    share = batch_size // processes // accumulate
    factor = next((k for k in range(2, share + 1) if share % k == 0), None)
    if factor is None:
        return "one item at a time does not fit: a smaller model or smaller data are needed"
    parts = accumulate * factor
    return (
        f"try --accumulate {parts}, which takes each batch of {batch_size} in parts of {share // factor} "
        f"(the same training), or --batch-size {batch_size // factor}"
    )


def check_parts(batch_size: int, processes: int, accumulate: int) -> None:
    """Raise a `SettingsError` unless a process' share of the batch divides into ``accumulate`` parts."""
    share = batch_size // processes
    if share % accumulate:
        fitting = [k for k in range(1, share + 1) if share % k == 0]
        near = min(fitting, key=lambda k: abs(k - accumulate))
        raise SettingsError(
            f"{share} items a process cannot be taken in {accumulate} equal parts; try --accumulate {near}."
        )


def _bad_rows(x: Tensor) -> Tensor | None:
    if not x.is_floating_point():
        return None
    bad = ~torch.isfinite(x).flatten(1).all(1) if x.ndim > 1 else ~torch.isfinite(x)
    return bad.nonzero().flatten() if bool(bad.any()) else None


def items(index: Tensor | None, rows: Tensor | None = None) -> str:
    """``training items 3, 17`` of a batch (or of some rows of it), the first few by number."""
    if index is None:
        return "items unknown"
    numbers = (index if rows is None else index[rows]).tolist()
    more = f" and {len(numbers) - ITEMS} more" if len(numbers) > ITEMS else ""
    return f"training items {', '.join(map(str, numbers[:ITEMS]))}{more}"
