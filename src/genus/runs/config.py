"""The configuration of a run: one strict, typed JSON document.

Everything a run depends on is in it, and nothing in it names an importable object: the
model is a registry key, its settings are checked against the constructor's signature.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genus import __version__, registry
from genus.contract import GenerativeModel, name_of
from genus.data import DataOptions, data_options, open_source
from genus.errors import CheckpointError, SettingsError, brief
from genus.kinds import Domain
from genus.recipe import Recipe
from genus.runs.documents import read_document
from genus.settings import explain, schema, validate

INCIDENTAL = {"genus", "checkpoint_seconds", "tensorboard", "workers", "accumulate"}
"""Fields that do not change what a run computes (``accumulate``: but for rounding)."""

CALLS = {"recipe", "out", "quiet", "strict", "report"}
"""What else training is told by name."""


class RunConfig(BaseModel):
    """What is trained on what, and how. ``config.json`` of a run folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    genus: str = __version__
    model: str
    settings: dict[str, Any] = {}
    conditional: bool = False
    """Model the data given its condition (a class label), not the data alone."""
    data: str
    data_options: DataOptions = DataOptions()
    recipe_name: str = "quick"
    recipe: Recipe
    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)
    criterion: Literal["loss", "frechet"] = "loss"
    """What the best checkpoint is chosen by: the model's own criterion, or the Fréchet distance of samples."""
    compile: bool = False
    checkpoint_seconds: float = Field(default=30.0, ge=0)
    """Seconds between checkpoints; 0 saves after every step."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too."""
    workers: int = Field(default=0, ge=0, le=1024)
    """Processes that prepare batches ahead; 0 prepares each when it is needed."""
    accumulate: int = Field(default=1, ge=1)
    """Parts in which each batch is worked off, to save memory; the step is that of the whole batch."""

    def short_hash(self) -> str:
        """Eight hexadecimal digits that differ when anything but an incidental field differs."""
        content = self.model_dump(mode="json", exclude=INCIDENTAL)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def difference(self, other: "RunConfig") -> list[str]:
        """Human-readable list of the fields in which two configurations differ."""
        mine, theirs = (_flat(c.model_dump(mode="json", exclude=INCIDENTAL)) for c in (self, other))
        return [
            f"{key}: {mine.get(key)!r} there, {theirs.get(key)!r} here"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]


def configure(
    model: str,
    data: str,
    *,
    recipe: str = "quick",
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    seed: int = 0,
    conditional: bool = False,
    criterion: str = "loss",
    compile: bool = False,
    checkpoint_seconds: float = 30.0,
    tensorboard: bool = False,
    workers: int = 0,
    accumulate: int = 1,
    domain: Domain | None = None,
    **overrides: Any,
) -> RunConfig:
    """Build a configuration from a model, a data source and any flat overrides.

    Each override belongs to the data options, to the recipe or to the model's settings,
    by its name. A recipe named ``quick-vectors`` stands in for ``quick`` on that kind of
    domain; ``domain`` says of which kind the data are where they are not there yet (codes of
    a stage to come). Raises `SettingsError` for names that belong to none, and for more than
    one of steps, epochs and minutes.
    """
    cls = registry.get(model)
    if sum(budget is not None for budget in (steps, epochs, minutes)) > 1:
        raise SettingsError("give one of steps, epochs and minutes, not several.")
    homes = homes_of(cls)
    unknown = overrides.keys() - set().union(*homes)
    if unknown:
        known = ", ".join(sorted(set().union(*homes)))
        raise SettingsError(f"{model}: unknown setting {min(unknown)!r}; expected one of {known}.")
    settings, training, reading = ({k: v for k, v in overrides.items() if k in home} for home in homes)
    options = data_options(**reading)
    recipe = _recipe_name(cls, recipe, lambda: domain or open_source(data, options).domain)
    chosen = cls.recipes[recipe]
    settings = validate(cls, {**chosen.settings, **settings}, f"settings of {model}")
    try:
        return RunConfig(
            model=model,
            settings=json.loads(json.dumps(settings)),
            conditional=conditional,
            data=data,
            data_options=options,
            recipe_name=recipe,
            recipe=Recipe(**{**_averaged(chosen.model_dump(), training), **training, "settings": {}}),
            steps=steps,
            epochs=epochs,
            minutes=minutes,
            seed=seed,
            criterion=criterion,  # type: ignore[arg-type]  # checked here
            compile=compile,
            checkpoint_seconds=checkpoint_seconds,
            tensorboard=tensorboard,
            workers=workers,
            accumulate=accumulate,
        )
    except ValidationError as error:
        raise SettingsError(f"{model}: {explain(error, RunConfig)}") from None


def homes_of(cls: type[GenerativeModel]) -> list[set[str]]:
    """The names of a model's settings, of the fields of a recipe and of the options of the data.

    Raises `SettingsError` for a model one of whose settings has a name that means something else already."""
    own, others = set(schema(cls).model_fields), (set(Recipe.model_fields), set(DataOptions.model_fields))
    twice = own & CALLS.union(RunConfig.model_fields, *others)
    if twice:
        raise SettingsError(
            f"{name_of(cls)}: its setting {min(twice)!r} has the name of a flag of every training; rename it."
        )
    return [own, *others]


def _averaged(recipe: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A recipe without its running average where another is asked for, by the other of its two measures."""
    asked = given.keys() & {"ema", "ema_halflife"}
    return {**recipe, "ema": 0.0, "ema_halflife": 0.0} if asked else recipe


def _recipe_name(cls: type[GenerativeModel], name: str, domain: Callable[[], Domain]) -> str:
    """``name``, or the special one for the data's kind of domain (``codes``: a grid without order) where the model
    has one."""
    if name not in cls.recipes:
        raise SettingsError(f"{name_of(cls)} has no recipe {name!r}; expected one of {', '.join(cls.recipes)}.")
    if not any(key.startswith(f"{name}-") for key in cls.recipes):
        return name
    special = f"{name}-{domain().sort}"
    return special if special in cls.recipes else name


def read_config(path: Path) -> RunConfig:
    """Read and check a ``config.json``. Raises `CheckpointError` (`SettingsError` for the model's
    settings) naming the file and the key."""
    try:
        config = RunConfig.model_validate(read_document(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; a run folder holds a config.json.") from None
    except ValidationError as error:
        raise CheckpointError(f"{path}: {explain(error, RunConfig)}") from None
    return checked(config, path)


def checked(config: RunConfig, path: Path) -> RunConfig:
    """The configuration that ``path`` holds, if its model exists and takes these settings."""
    if config.model not in registry.names():
        expected = ", ".join(registry.names())
        raise CheckpointError(f"{path}: unknown model {brief(config.model)}; expected one of {expected}.")
    settings = validate(registry.get(config.model), config.settings, str(path))
    return config.model_copy(update={"settings": settings})


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
