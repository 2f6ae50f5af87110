"""Groups of items in words: ``label=3``, ``weight=bold,slant=italic``, ``rotation>0.1``."""

import re

import torch
from torch import Tensor

from genus.data import Source, TensorSplit
from genus.errors import SettingsError

TERM = re.compile(r"\s*([^=<>,]+?)\s*([=<>])\s*([^=<>,]+?)\s*")
FEWEST = 2  # items of a group whose mean is taken


def members(words: str, source: Source, split: TensorSplit, *, fewest: int = FEWEST) -> Tensor:
    """The items of a split that ``words`` describe, ``(N,)``, in order.

    words: NAME=VALUE of the label or an attribute, NAME>NUMBER or NAME<NUMBER of a measured one;
    several, joined by commas, must all hold. Raises `SettingsError` that names what there is.
    """
    holds = torch.ones(len(split), dtype=torch.bool)
    for term in words.split(","):
        holds &= _holds(term, source, split)
    found = holds.nonzero().flatten()
    if len(found) < fewest:
        raise SettingsError(
            f"{words!r}: expected at least {fewest} of the {len(split)} items of {source.name}; got {len(found)}."
        )
    return found


def _holds(term: str, source: Source, split: TensorSplit) -> Tensor:
    """Of which items one term holds, ``(N,)``."""
    known = dict(source.attributes)
    values = {name: split.attributes[name] for name in known}
    if source.condition is not None and split.condition is not None:
        known["label"], values["label"] = source.condition.names, split.condition
    if not known:
        raise SettingsError(f"{source.name} knows no labels and no attributes: there are no groups to name.")
    matched = TERM.fullmatch(term)
    if matched is None:
        raise SettingsError(
            f"{term.strip()!r}: expected NAME=VALUE, with NAME one of {', '.join(known)}; of a measured one also "
            "NAME>NUMBER and NAME<NUMBER (in quotes)."
        )
    name, sign, value = matched.groups()
    if name not in known:
        raise SettingsError(f"{source.name}: unknown attribute {name!r}; expected one of {', '.join(known)}.")
    if values[name].ndim != 1:
        raise SettingsError(f"{source.name}: {name} is not one number an item; it describes no group.")
    if known[name]:
        if sign != "=" or value not in known[name]:
            raise SettingsError(f"{name}: expected {name}= one of {', '.join(known[name])}; got {term.strip()!r}.")
        return values[name] == known[name].index(value)
    try:
        bound = float(value)
    except ValueError:
        bound = float("nan")
    if sign == "=" or bound != bound:
        low, high = float(values[name].min()), float(values[name].max())
        raise SettingsError(
            f"{name} is measured, from {low:.3g} to {high:.3g}: expected {name}>NUMBER or {name}<NUMBER; "
            f"got {term.strip()!r}."
        )
    return values[name] > bound if sign == ">" else values[name] < bound
