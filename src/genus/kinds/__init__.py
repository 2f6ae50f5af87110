"""The kinds of datum, one file each; the table of kinds is the listing of this folder.

A file ``kinds/<kind>.py`` holds the `Domain` of that kind: what one datum is, and all that sets the kind apart.
Nothing outside the listing can be named, so a description found in a file never imports anything else.
"""

import inspect
import pkgutil
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

from genus.errors import brief
from genus.kinds._domain import Discrete, Domain, Meeting, Metric, Sheet
from genus.kinds.grid import Grid, grid_of, picture_of
from genus.kinds.label import Label, classes_of, names_of
from genus.kinds.parts import Parts
from genus.kinds.points import Points
from genus.kinds.pyramid import Pyramid
from genus.kinds.tokens import Tokens
from genus.kinds.vectors import Vectors
from genus.kinds.waveform import Waveform

__all__ = [
    "Discrete", "Domain", "Grid", "Label", "Meeting", "Metric", "Parts", "Points", "Pyramid", "Sheet", "Tokens",
    "Vectors", "Waveform", "classes_of", "from_json", "grid_of", "names_of", "picture_of", "table",
]  # fmt: skip

MAX_AXES, MAX_ENTRIES, MAX_LEVELS, MAX_PARTS = 8, 2**26, 2**24, 64  # of a domain that is read from a file


@cache
def table() -> dict[str, type[Domain]]:
    """Kind -> domain, of every file of this folder that does not start with ``_``."""
    found: dict[str, type[Domain]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem.startswith("_"):
            continue
        module = pkgutil.resolve_name(f"genus.kinds.{path.stem}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Domain) and cls.__module__ == module.__name__:
                found[cls.kind] = cls
    return found


def from_json(description: dict[str, Any]) -> Domain:
    """Read what `Domain.to_json` wrote; only kinds of this folder exist.

    Raises ValueError for another kind, a field that is missing, unknown or of another type,
    and a datum of over 8 axes, 2**26 entries or 2**24 levels.
    """
    if not isinstance(description, dict):
        raise ValueError(f"a domain is described by an object with a 'kind'; got {brief(description)}.")
    given = dict(description)
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in table():
        raise ValueError(f"unknown domain kind {brief(kind)}; expected one of {', '.join(table())}.")
    if kind == "parts":
        given["parts"] = _parts(given.get("parts"))
    for known in fields(table()[kind]) if kind != "parts" else ():
        if known.name in given and not _is(given[known.name], known.type):
            raise ValueError(f"{kind}: {known.name!r} has another type; got {brief(given[known.name])}.")
    try:
        domain = table()[kind](**given)
    except TypeError:
        expected = ", ".join(known.name for known in fields(table()[kind]))
        raise ValueError(f"{kind} is described by {expected}; got {brief(sorted(given))}.") from None
    if len(domain.shape) > MAX_AXES or domain.num_dims > MAX_ENTRIES or (domain.levels or 0) > MAX_LEVELS:
        raise ValueError(
            f"{kind}: expected at most {MAX_AXES} axes, {MAX_ENTRIES:,} entries and {MAX_LEVELS:,} levels; "
            f"got {brief(description)}."
        )
    return domain


def _parts(described: Any) -> tuple[tuple[str, Domain], ...]:
    if not isinstance(described, list) or len(described) > MAX_PARTS:
        raise ValueError(f"parts: expected a list of up to {MAX_PARTS} pairs; got {brief(described)}.")
    found = []
    for pair in described:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], dict)):
            raise ValueError(f"parts: expected pairs of a name and a domain; got {brief(pair)}.")
        if pair[1].get("kind") == "parts":
            raise ValueError("parts do not hold parts; name them all on one level.")
        found.append((pair[0], from_json(pair[1])))
    return tuple(found)


def _is(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a field's type: int, or a tuple of one type."""
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(type(item) is get_args(kind)[0] for item in value)
    return type(value) is kind
