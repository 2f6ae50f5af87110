"""Groups of items in words: ``label=3``, ``weight=bold,slant=italic``, ``rotation>0.1``; two sides: ``label=9-7``."""

import re

import torch
from torch import Tensor

from genus.data import Source, TensorSplit
from genus.errors import SettingsError
from genus.kinds import names_of

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


def sides(words: str, source: Source, split: TensorSplit) -> tuple[Tensor, Tensor]:
    """The items that ``words`` describe and those that they set them against, ``(N,)`` and ``(M,)``.

    NAME=ONE-OTHER are the items of ONE and of OTHER; any other group is set against all items outside it.
    Where a value has a hyphen itself, it is one value.
    """
    name, sign, values = (part.strip() for part in words.partition("="))
    names, _ = _known(source, split).get(name, ((), None))
    if sign and values not in names:
        pairs = [(values[:k].strip(), values[k + 1 :].strip()) for k, sign in enumerate(values) if sign == "-"]
        for one, other in pairs:
            if one in names and other in names:
                return members(f"{name}={one}", source, split), members(f"{name}={other}", source, split)
    inside = members(words, source, split)
    outside = torch.ones(len(split), dtype=torch.bool)
    outside[inside] = False
    if int(outside.sum()) < FEWEST:
        raise SettingsError(
            f"{words!r}: all but {int(outside.sum())} of the items are in it; nothing to set it against."
        )
    return inside, outside.nonzero().flatten()


def _known(source: Source, split: TensorSplit) -> dict[str, tuple[tuple[str, ...], Tensor]]:
    """What is known of the items: name -> names of its values (none of a measured one), and the values."""
    known = {name: (names, split.attributes[name]) for name, names in source.attributes.items()}
    names = names_of(source.condition)
    if names and split.condition is not None:
        known["label"] = names, split.condition
    return known


def _holds(term: str, source: Source, split: TensorSplit) -> Tensor:
    """Of which items one term holds, ``(N,)``."""
    known = _known(source, split)
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
    names, values = known[name]
    if values.ndim != 1:
        raise SettingsError(f"{source.name}: {name} is not one number an item; it describes no group.")
    if names:
        if sign != "=" or value not in names:
            raise SettingsError(f"{name}: expected {name}= one of {', '.join(names)}; got {term.strip()!r}.")
        return values == names.index(value)
    try:
        bound = float(value)
    except ValueError:
        bound = float("nan")
    if sign == "=" or bound != bound:
        low, high = float(values.min()), float(values.max())
        raise SettingsError(
            f"{name} is measured, from {low:.3g} to {high:.3g}: expected {name}>NUMBER or {name}<NUMBER; "
            f"got {term.strip()!r}."
        )
    return values > bound if sign == ">" else values < bound
