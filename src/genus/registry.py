"""The closed table name -> model, and the only way to name one.

The table is the listing of genus' own `models` folder: a file ``models/<family>/<name>.py``
that does not start with ``_`` holds the model ``<name>``. Nothing outside that listing can
be named, so a name found in a configuration never imports anything else.
"""

import difflib
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import UnknownModelError

if TYPE_CHECKING:
    from genus.contract import GenerativeModel

FAMILIES = ("autoregressive", "latent", "flow", "diffusion", "adversarial")


GUESTS: dict[str, "tuple[str, type[GenerativeModel]]"] = {}
"""Name -> family and class of models that code, never a file, has put here for a while (`genus.testing.registered`)."""


def table() -> dict[str, str]:
    """Model name -> family, in the order of families and names. Reads file names only."""
    return _listing() | {name: family for name, (family, _) in GUESTS.items()}


@cache
def _listing() -> dict[str, str]:
    folder = Path(__file__).parent / "models"
    return {
        path.stem: family
        for family in FAMILIES
        for path in sorted((folder / family).glob("*.py"))
        if not path.stem.startswith("_")
    }


def names() -> tuple[str, ...]:
    """The names of all models."""
    return tuple(table())


def family(name: str) -> str:
    """The family of a model."""
    check(name)
    return table()[name]


def check(name: str) -> None:
    """Raise an `UnknownModelError` that lists the models (and the nearest name)."""
    if name not in table():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownModelError(f"unknown model {name!r}; expected one of {', '.join(names())}.{hint}")


def get(name: str) -> "type[GenerativeModel]":
    """The model class of a name."""
    check(name)
    return GUESTS[name][1] if name in GUESTS else _opened(name)


@cache
def _opened(name: str) -> "type[GenerativeModel]":
    from genus.contract import GenerativeModel

    family = _listing()[name]
    module = pkgutil.resolve_name(f"genus.models.{family}.{name}")
    found = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, GenerativeModel)
        and cls.__module__ == module.__name__
        and cls.__name__.lower() == name.replace("_", "")
    ]
    if len(found) != 1:
        raise TypeError(f"models/{family}/{name}.py must define one GenerativeModel named like the file.")
    return found[0]
