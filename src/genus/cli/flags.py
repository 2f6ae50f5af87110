"""Flags made from the same types as the API."""

import dataclasses
import inspect
import sys
import types
import typing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from genus.errors import SettingsError
from genus.settings import schema

if TYPE_CHECKING:
    from genus.runs import Run


def optional(name: str, doc: str, fields: dict[str, FieldInfo], defaults: dict[str, Any], prefix: str = "") -> type:
    """A dataclass whose fields are those of a pydantic model, each None unless given.

    So what the user said can be told from what is a default, while the help still shows
    the default. prefix: stands before every flag.
    """
    made: list[tuple[str, Any, Any]] = []
    for key, field in fields.items():
        default = defaults.get(key, field.get_default())
        hint = "(optional)" if default is None else f"(default: {_shown(default)})"
        if field.annotation is bool and default is False:  # a plain switch; off, it is not given
            called = f"{prefix}{key}" if prefix else None
            switch: Any = Annotated[bool, tyro.conf.arg(name=called, help=field.description or "")]
            made.append((key, switch, dataclasses.field(default=False)))
            continue
        arg = tyro.conf.arg(
            name=f"{prefix}{key}" if prefix else None,
            help=field.description or "",
            help_behavior_hint=hint,
            metavar=_metavar(field.annotation),
        )
        made.append((key, Annotated[field.annotation | None, arg], dataclasses.field(default=None)))  # type: ignore[operator]
    cls = dataclasses.make_dataclass(name, made)
    cls.__doc__ = doc
    return cls


def with_sample_options(basic: type, model: type) -> type:
    """``basic`` flags, and the model's own keyword options of `sample` (sampler, temperature, ...)."""
    own = fields_of(schema(model._sample), without=())  # type: ignore[attr-defined]
    options = optional("Options", inspect.getdoc(model._sample) or "Options of the model.", own, {})  # type: ignore[attr-defined]
    return dataclasses.make_dataclass(
        "Flags", [("basic", basic), ("options", options, dataclasses.field(default_factory=options))]
    )


def opened(folder: str | Path) -> "Run":
    """The run of a folder, its model on the GPU if there is one. Raises `CheckpointError`, as `open_run` does."""
    from genus.hardware import best_device
    from genus.runs import open_run

    return open_run(folder, best_device())


def run_and_flags(basic: type, arguments: list[str], command: str, about: str) -> Any:
    """Open the run that ``arguments`` name and parse the flags that fit its model.

    Returns the `genus.training.Run`, the basic flags, and the options for `sample`.
    """
    folder = next((a for a in arguments if not a.startswith("-")), None)
    if folder is None:
        parse(basic, arguments or ["--help"], f"genus {command}", f"{about} More flags depend on the run's model.")
        raise SettingsError("expected the path of a run folder.")

    run = opened(folder)
    chosen = parse(with_sample_options(basic, run.model_class), arguments, f"genus {command}", about)
    return run, chosen.basic, given(chosen.options)


def given(*groups: Any) -> dict[str, Any]:
    """The flags that the user gave, as one flat dictionary."""
    return {
        f.name: value
        for group in groups
        for f in dataclasses.fields(group)
        if (value := getattr(group, f.name)) is not f.default
    }


def parse(cls: type, arguments: list[str], prog: str, description: str) -> Any:
    """Parse ``arguments`` into ``cls``; nested groups add no prefix to their flags."""
    return tyro.cli(cls, args=arguments, prog=prog, description=description, config=(tyro.conf.OmitArgPrefixes,))


@contextmanager
def warnings_told() -> Iterator[None]:
    """Inside, warnings are sentences on stderr, without the place in the code."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in told:
                print(f"warning: {warning.message}", file=sys.stderr)


def fields_of(model: type[BaseModel], *, without: tuple[str, ...] = ()) -> dict[str, FieldInfo]:
    """The fields of a pydantic model, less some."""
    return {name: field for name, field in model.model_fields.items() if name not in without}


def _metavar(annotation: Any) -> str:
    """INT, FLOAT, {a,b} ...: what a flag takes, without the None that stands for "not given"."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return "{" + ",".join(map(str, parts)) + "}"
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return "|".join(_metavar(part) for part in parts if part is not type(None))
    if typing.get_origin(annotation) is tuple:
        return f"[{_metavar(parts[0])} ...]" if parts[-1] is ... else " ".join(map(_metavar, parts))
    return "{True,False}" if annotation is bool else getattr(annotation, "__name__", str(annotation)).upper()


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
