"""A model's configuration is its constructor: typed keyword arguments, read from here.

One reading serves the command line (flags), run folders (a configuration with an unknown
or ill-typed key is refused by name) and the API.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import docstring_parser
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from genus.errors import SettingsError, brief

MAX_INTEGER = 10**7  # no network has more units, layers or steps of noise; 10**12 would only hang or exhaust
MAX_ITEMS = 1000


@cache
def schema(function: Callable[..., Any]) -> type[BaseModel]:
    """The keyword-only parameters of a class or function as a strict pydantic model.

    Descriptions come from the ``Args:`` section of the docstring.
    """
    help_of = {p.arg_name: p.description for p in docstring_parser.parse(inspect.getdoc(function) or "").params}
    fields = {
        name: (p.annotation, Field(default=p.default, description=help_of.get(name)))
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    }
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    return create_model(f"{function.__name__}Settings", __config__=config, **fields)  # type: ignore[call-overload]


def validate(function: Callable[..., Any], given: dict[str, Any], where: str) -> dict[str, Any]:
    """``given`` with types checked against the signature; raises `SettingsError` naming ``where``.

    Integers beyond 10 million and lists of over 1,000 are refused, too.
    """
    try:
        checked = schema(function)(**given)
    except ValidationError as error:
        raise SettingsError(f"{where}: {explain(error, schema(function))}") from None
    settings = {name: getattr(checked, name) for name in given}
    for name, value in settings.items():
        items = value if isinstance(value, list | tuple) else (value,)
        if len(items) > MAX_ITEMS:
            raise SettingsError(f"{where}: {name}: expected at most {MAX_ITEMS:,} items; got {len(items):,}.")
        for item in items:
            if isinstance(item, int) and abs(item) > MAX_INTEGER:
                raise SettingsError(f"{where}: {name}: expected at most {MAX_INTEGER:,}; got {brief(item)}.")
    return settings


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """A pydantic error as one plain sentence."""
    first = error.errors()[0]
    if not first["loc"]:  # of all keys together
        return f"{first['msg'].removeprefix('Value error, ')}."
    key = brief(".".join(str(part) for part in first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}; expected one of {', '.join(model.model_fields)}."
    return f"{key[1:-1]}: {first['msg'][0].lower() + first['msg'][1:]}; got {brief(first['input'])}."
