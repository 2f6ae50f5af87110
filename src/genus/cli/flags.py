"""Flags made from the same types as the API."""

import dataclasses
import inspect
import os
import sys
import types
import typing
import warnings
from collections.abc import Iterator, Sequence
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
        hint = "(optional)" if default is None else f"(default: {shown(default)})"
        if field.annotation is bool and default is False:  # a plain switch; off, it is not given
            called = f"{prefix}{key}" if prefix else None
            switch: Any = Annotated[bool, tyro.conf.arg(name=called, help=field.description or "")]
            made.append((key, switch, dataclasses.field(default=False)))
            continue
        arg = tyro.conf.arg(
            name=f"{prefix}{key}" if prefix else None,
            help=field.description or "",
            help_behavior_hint=hint,
            metavar=metavar(field.annotation),
        )
        made.append((key, Annotated[field.annotation | None, arg], dataclasses.field(default=None)))  # type: ignore[operator]
    cls = dataclasses.make_dataclass(name, made)
    cls.__doc__ = doc
    return cls


def joined(**groups: type) -> type:
    """One dataclass with a field for each of several groups of flags (dataclasses).

    No two flags clash: the first group that has a name keeps it, and in a later one that flag stands under
    the name of its group (``--points`` of ``sample``, then ``--data.points``).
    """
    taken: set[str] = {"help"}
    made: list[tuple[str, type]] = []
    for group, cls in groups.items():
        hints, renamed = typing.get_type_hints(cls, include_extras=True), []
        for field in dataclasses.fields(cls):
            hint = hints[field.name]
            if not taken.isdisjoint(_both(_called(field.name, hint))):
                hint = Annotated[hint, tyro.conf.arg(name=f"{group}.{field.name}")]
                renamed.append((field.name, hint, dataclasses.field(default=field.default)))
            taken |= _both(_called(field.name, hint))
        made.append((group, dataclasses.make_dataclass(cls.__name__, renamed, bases=(cls,)) if renamed else cls))
        made[-1][1].__doc__ = cls.__doc__
    return dataclasses.make_dataclass("Flags", made)


def shown_as(group: Any, field: str) -> str:
    """What a flag of a parsed group is called: ``--data.points``."""
    return f"--{_called(field, typing.get_type_hints(type(group), include_extras=True)[field])}"


def sample_options(model: type) -> type:
    """The model's own keyword options of `sample` (sampler, temperature, ...) as flags."""
    about = inspect.getdoc(model._sample) or "Options of the model."  # type: ignore[attr-defined]
    return optional("Options", about, fields_of(schema(model._sample)), {})  # type: ignore[attr-defined]


def opened(folder: str | Path) -> "Run":
    """The run of a folder, its model on the GPU if there is one. Raises `CheckpointError`, as `open_run` does."""
    from genus.hardware import best_device
    from genus.runs import open_run

    return open_run(folder, best_device())


def run_and_flags(basic: type, arguments: list[str], command: str, about: str) -> Any:
    """Open the run that ``arguments`` name and parse the flags that fit its model.

    Returns the `genus.training.Run`, the basic flags, and the options for `sample`.
    """
    folder = target(arguments)
    if folder is None:
        parse(basic, arguments or ["--help"], f"genus {command}", f"{about} More flags depend on the run's model.")
        raise SettingsError("expected the path of a run folder.")

    run = opened(folder)
    shown = joined(basic=basic, sample=sample_options(run.model_class))
    chosen = parse(shown, arguments, f"genus {command}", about)
    return run, chosen.basic, given(chosen.sample)


def target(arguments: list[str]) -> Path | None:
    """What a command is about: the first argument that is a run folder; else the first that is neither a flag nor
    the value of one."""
    run = next((Path(a) for a in arguments if os.path.isfile(os.path.join(a, "config.json"))), None)
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if run is None and not argument.startswith("-") and (not before.startswith("-") or "=" in before):
            return Path(argument)
    return run


def file_named(out: Path, endings: Sequence[str], what: str = "") -> Path:
    """The file that ``--out`` names; without an ending, the first of ``endings`` is added.

    Raises `SettingsError` for an ending that is none of them. what: what is to be written, for the sentence."""
    if not out.suffix:
        return out.parent / f"{out.name}{endings[0]}"
    if out.suffix.lower() not in endings:
        fits = " or ".join([", ".join(endings[:-1]), endings[-1]] if len(endings) > 1 else endings)
        raise SettingsError(f"--out: expected a name that ends in {fits}{what and f' for {what}'}; got {out}.")
    return out


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


def _called(field: str, hint: Any) -> str:
    """The name of the flag of a field, which its type may change."""
    own = [meta.name for meta in getattr(hint, "__metadata__", ()) if getattr(meta, "name", None)]
    return [field, *own][-1].replace("_", "-")


def _both(name: str) -> set[str]:
    """A flag and what takes it back, if it is a switch: ``data.whole`` and ``data.no-whole``."""
    group, dot, last = name.rpartition(".")
    return {name, f"{group}{dot}no-{last}"}


def metavar(annotation: Any) -> str:
    """INT, FLOAT, {a,b} ...: what a flag takes, without the None that stands for "not given"."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return "{" + ",".join(map(str, parts)) + "}"
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return "|".join(metavar(part) for part in parts if part is not type(None))
    if typing.get_origin(annotation) is tuple:
        return f"[{metavar(parts[0])} ...]" if parts[-1] is ... else " ".join(map(metavar, parts))
    return "{True,False}" if annotation is bool else getattr(annotation, "__name__", str(annotation)).upper()


def shown(value: Any) -> str:
    """A default as it would be given."""
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
