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

from genus.errors import SettingsError


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
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(f"{function.__name__}Settings", __config__=config, **fields)  # type: ignore[call-overload]


def validate(function: Callable[..., Any], given: dict[str, Any], where: str) -> dict[str, Any]:
    """``given`` with types checked against the signature; raises `SettingsError` naming ``where``."""
    try:
        checked = schema(function)(**given)
    except ValidationError as error:
        raise SettingsError(f"{where}: {explain(error, schema(function))}") from None
    return {name: getattr(checked, name) for name in given}


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """A pydantic error as one plain sentence."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; expected one of {', '.join(model.model_fields)}."
    return f"{key}: {first['msg'][0].lower() + first['msg'][1:]}; got {first['input']!r}."
