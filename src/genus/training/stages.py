"""Two models in one run folder: FIRST of the data, then SECOND of its codes (`genus.models.two_stage`).

``RUN/first`` and ``RUN/second`` are ordinary run folders, each of which resumes exactly by itself; the
second's data are named ``stage:first``, so the whole may be moved. ``RUN/config.json`` holds both
configurations. `configure`, `train` and `open_run` take one model or two, written FIRST+SECOND.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from genus import registry
from genus.contract import FitsInClosedForm, GenerativeModel, HasPosterior, refuse
from genus.data import DataOptions, Source
from genus.domain import Domain
from genus.errors import CapabilityError, CheckpointError, SettingsError
from genus.models.two_stage import TwoStage, with_options_of
from genus.settings import explain
from genus.training import checkpoint, config, lock, loop
from genus.training.codes import FIRST_STAGE, PREFIX, codes_of, identity, open_data
from genus.training.config import RunConfig
from genus.training.documents import read_document, refuse_link
from genus.training.parallel import Team
from genus.training.run import Description, Run, build

SHARE = 0.5  # of the budget that the first stage gets
BUDGETS = ("steps", "epochs", "minutes")
SHARED = {"data", "seed", "conditional", *DataOptions.model_fields}
"""What both stages have in common: given once, without a stage's name."""
EACH = {*BUDGETS, "recipe", "seed", "compile", "checkpoint_seconds", "tensorboard", "workers", "accumulate"}
"""What may be given for both."""


class StagedConfig(BaseModel):
    """Two configurations, the second of the first's codes. ``config.json`` of a run of two stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """FIRST+SECOND."""
    first: RunConfig
    second: RunConfig

    @property
    def data(self) -> str:
        """The data of the first stage."""
        return self.first.data

    @property
    def data_options(self) -> DataOptions:
        """How they are read."""
        return self.first.data_options

    @property
    def conditional(self) -> bool:
        """Whether the second stage is given the label."""
        return self.second.conditional

    @property
    def seed(self) -> int:
        """The second stage's."""
        return self.second.seed

    @property
    def settings(self) -> dict[str, Any]:
        """The models' settings, stage by stage."""
        return {"first": self.first.settings, "second": self.second.settings}

    def short_hash(self) -> str:
        """As `RunConfig.short_hash`, of both."""
        both = self.first.short_hash() + self.second.short_hash()
        return hashlib.sha256(both.encode()).hexdigest()[:8]

    def difference(self, other: "StagedConfig") -> list[str]:
        """As `RunConfig.difference`, of both, with the stages' names."""
        pairs = {"first": (self.first, other.first), "second": (self.second, other.second)}
        return [f"{stage} {told}" for stage, (mine, theirs) in pairs.items() for told in mine.difference(theirs)]


# --- the run ----------------------------------------------------------------------------


class StagedRun(Run):
    """A run folder with the run of a first stage and that of a second of its codes: one model, `TwoStage`."""

    config: StagedConfig  # type: ignore[assignment]

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        self.path, self.device = Path(path), torch.device(device)
        self.config = _read(self.path / "config.json")

    def _stage(self, name: str, told: RunConfig) -> Run:
        refuse_link(self.path / name)
        if not (self.path / name / "config.json").exists():
            raise CheckpointError(f"{self.path}: the {name} stage is not there yet; the command that began it goes on.")
        run = Run(self.path / name)
        difference = told.difference(run.config)
        if difference:
            raise CheckpointError(
                f"{self.path}: {name} is another run than config.json says ({'; '.join(difference)})."
            )
        return run

    @cached_property
    def first(self) -> Run:
        """The first stage's run."""
        return self._stage("first", self.config.first)

    @cached_property
    def second(self) -> Run:
        """The second stage's run."""
        return self._stage("second", self.config.second)

    @property
    def described(self) -> Description:
        """What the first stage was trained on."""
        return self.first.described

    @property
    def source(self) -> Source:
        """The data of the first stage."""
        return self.first.source

    @property
    def checkpoints(self) -> Path:
        """The second stage's, which is trained last."""
        return self.second.checkpoints

    @property
    def checkpoint(self) -> Path:
        """The second stage's newest."""
        return self.second.checkpoint

    @property
    def model_class(self) -> type[GenerativeModel]:
        """`TwoStage`, with the options of the second stage's samples."""
        return with_options_of(self.second.model_class)

    @cached_property
    def model(self) -> GenerativeModel:
        """Both stages as one model, in evaluation mode."""
        first, second = self.first.model, self.second.model
        try:
            joined = TwoStage(first, second)
        except ValueError as error:
            raise CheckpointError(f"{self.path}: the stages do not fit each other: {error}") from None
        return joined.to(self.device).requires_grad_(False).eval()

    @property
    def state(self) -> dict[str, Any]:
        """The second stage's; the first's before there is one."""
        return self.second.state if (self.path / "second" / "config.json").exists() else self.first.state

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The first stage's records, their terms under its name, and after its last step the second's."""
        prefix = prefixes(*stages_of(self.config.model))[0]
        first = [{_under(prefix, key): value for key, value in record.items()} for record in self.first.metrics]
        last = max((record["step"] for record in first), default=0)
        return first + [{**record, "step": last + record["step"]} for record in self.second.metrics]

    @property
    def training_seconds(self) -> float:
        """Wall-clock seconds of both stages."""
        return self.first.training_seconds + self.second.training_seconds


def _under(prefix: str, key: str) -> str:
    """``train/loss`` as ``train/vae/loss``."""
    split, slash, term = key.partition("/")
    return f"{split}/{prefix}/{term}" if slash else key


def open_run(path: str | Path, device: torch.device | str = "cpu") -> Run:
    """Open a run folder, of one stage or of two. Raises `CheckpointError` if it is none or is damaged.

    device: where its model is put.
    """
    file = Path(path) / "config.json"
    with suppress(FileNotFoundError):  # Run says what is missing
        if "first" in read_document(file):
            return StagedRun(path, device)
    return Run(path, device)


def _read(file: Path) -> StagedConfig:
    """Read and check the ``config.json`` of two stages."""
    try:
        read = StagedConfig.model_validate(read_document(file))
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file; a run folder holds a config.json.") from None
    except ValidationError as error:
        raise CheckpointError(f"{file}: {explain(error, StagedConfig)}") from None
    first, second = (config.checked(stage, file) for stage in (read.first, read.second))
    if read.model != f"{first.model}+{second.model}" or second.data != FIRST_STAGE:
        raise CheckpointError(
            f"{file}: expected the model {first.model}+{second.model} and {FIRST_STAGE!r} for the second stage's data; "
            f"got {read.model[:80]!r} and {second.data[:80]!r}."
        )
    return read.model_copy(update={"first": first, "second": second})


# --- its configuration ------------------------------------------------------------------


def stages_of(model: str) -> tuple[str, str]:
    """The two models of ``FIRST+SECOND``; raises where there are others than two, or unknown ones."""
    names = model.split("+")
    if len(names) != 2:
        raise SettingsError(
            f"expected one model, or two stages FIRST+SECOND; got {len(names)} in {model!r}. More are trained one "
            f"after the other: the codes of a run are data, --data {PREFIX}PATH."
        )
    first, second = names
    for name in names:
        registry.check(name)
    if not issubclass(registry.get(first), HasPosterior):
        told = refuse(registry.get(first), "HasPosterior", "be a first stage")
        raise CapabilityError(f"{model}: {told}")
    return first, second


def prefixes(first: str, second: str) -> tuple[str, str]:
    """What a setting of each stage is called by: the model's name; first and second where both are one model."""
    return (first, second) if first != second else ("first", "second")


def configure(model: str, data: str | None, **given: Any) -> RunConfig | StagedConfig:
    """As `genus.training.config.configure`; and for two stages FIRST+SECOND.

    For two stages, steps, epochs or minutes are those of both, of which the first gets ``share``
    (a half); settings of a stage, fields of its recipe and budgets of its own have its name before
    them: ``{"vqvae.codes": 256, "vae.steps": 100}``. ``first``: the folder of a finished run that is
    the first stage; its data are the data then. ``conditional``: the second stage is given the label.
    Raises before anything is trained where the second cannot model the latents of the first.
    """
    if "+" in model:
        return _configure(model, data, **given)
    if data is None:
        raise SettingsError(f"{model}: say what to train on with data.")
    return config.configure(model, data, **given)


def _configure(
    model: str,
    data: str | None,
    *,
    first: str | Path | None = None,
    share: float = SHARE,
    conditional: bool = False,
    **given: Any,
) -> StagedConfig:
    names = stages_of(model)
    reading, shared, own = _sorted(model, names, given)
    budgets = _budgets(model, names, {key: shared.pop(key, None) for key in BUDGETS}, own, share, first is None)
    if first is not None:
        told = [*(f"{prefixes(*names)[0]}.{key}" for key in own[0]), *reading]
        if told:
            raise SettingsError(
                f"{model}: {told[0]} does not go with first: that run brings its settings and its data."
            )
        run = Run(first)
        if run.config.model != names[0] or data not in (None, run.config.data):
            raise SettingsError(f"{model}: {first} is a run of {run.config.model} on {run.config.data}.")
        one, coder = run.config, run.model
        described = run.described.condition
        condition = run._domain(described) if described else None
    else:
        if data is None:
            raise SettingsError(f"{model}: say what to train on with data.")
        one = config.configure(names[0], data, **{**shared, **reading, **budgets[0], **own[0]})
        source = open_data(data, one.data_options)
        coder, condition = build(one, source.domain, None), source.condition
    assert isinstance(coder, HasPosterior)
    if conditional and condition is None:
        raise SettingsError(f"{one.data} has no labels, so nothing can be modelled given them.")
    refused = registry.get(names[1]).refuses(coder.latent_domain)
    if refused:
        raise CapabilityError(f"{model}: {names[0]} has {coder.latent_domain} for latents; {refused}")
    settings = {**shared, "conditional": conditional, **budgets[1], **own[1]}
    two = config.configure(names[1], FIRST_STAGE, domain=coder.latent_domain, **settings)
    _try(coder, two, coder.latent_domain, condition if conditional else None)
    return StagedConfig(model=model, first=one, second=two)


def _try(coder: Any, two: RunConfig, latents: Domain, condition: Domain | None) -> None:
    """Put the untrained stages together: what does not fit should be said before the first is trained."""
    if coder.condition is not None and condition is None:
        raise SettingsError("the first stage was trained given labels; so must the second be: add conditional.")
    TwoStage(coder, build(two, latents, condition))


def _sorted(
    model: str, names: tuple[str, str], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], tuple[dict[str, Any], dict[str, Any]]]:
    """Flat settings as those of the data, those of both stages, and each stage's own."""
    calls = prefixes(*names)
    reading: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    own: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for key, value in given.items():
        stage, dot, name = key.rpartition(".")
        if dot and stage in calls and name not in SHARED:
            own[calls.index(stage)][name] = value
        elif key in DataOptions.model_fields:
            reading[key] = value
        elif key in EACH:
            shared[key] = value
        elif dot and stage in calls:
            raise SettingsError(f"{model}: {name!r} is common to both stages; give it without {stage!r}.")
        else:
            hint = f"{calls[0]}.{key} or {calls[1]}.{key}" if not dot else f"{calls[0]}.{name} or {calls[1]}.{name}"
            raise SettingsError(f"{model}: unknown setting {key!r}; a stage's own go by its name, such as {hint}.")
    return reading, shared, own


def _budgets(
    model: str,
    names: tuple[str, str],
    both: Mapping[str, Any],
    own: tuple[dict[str, Any], dict[str, Any]],
    share: float,
    from_the_start: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The budget of each stage; a stage that needs no time leaves it to the other."""
    given = {key: value for key, value in both.items() if value is not None}
    if not 0 < share < 1:
        raise SettingsError(f"{model}: share is the first stage's part of the budget, between 0 and 1; got {share}.")
    if len(given) > 1:
        raise SettingsError("give one of steps, epochs and minutes, not several.")
    if given and any(key in BUDGETS for settings in own for key in settings):
        raise SettingsError(
            f"{model}: give {next(iter(given))} for both stages, or a budget for each of them; not both."
        )
    idle = [not from_the_start, issubclass(registry.get(names[1]), FitsInClosedForm)]
    idle[0] |= issubclass(registry.get(names[0]), FitsInClosedForm)
    parts = (0.0, 1.0) if idle[0] else (1.0, 0.0) if idle[1] else (share, 1 - share)

    def part(value: float, of: float) -> float:
        return max(1, round(value * of)) if "steps" in given else value * of

    first, second = ({key: part(value, of) for key, value in given.items() if of} for of in parts)
    return first, second


# --- training it ------------------------------------------------------------------------


def train(
    given: RunConfig | StagedConfig,
    out: str | Path | None = None,
    *,
    first: str | Path | None = None,
    quiet: bool = False,
    strict: bool = False,
) -> Run:
    """As `genus.training.loop.train`; of two stages, one after the other in one folder.

    first: the run of the first stage, as in `configure`; it is copied to ``out/first``. The same
    call again goes on with whichever stage was stopped.
    """
    if isinstance(given, RunConfig):
        return loop.train(given, out, quiet=quiet, strict=strict)
    team = Team()
    folder = Path(out) if out is not None else loop.default_folder(given.model, given.data, given.short_hash())
    with ExitStack() as stack:

        def claim() -> None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock.held(folder))
                _claim(folder, given)
                if first is not None:
                    _adopt(Path(first), folder / "first")
            except OSError as error:
                raise CheckpointError(f"{folder}: cannot be written ({error.strerror}); give another --out.") from None

        def say(sentence: str) -> None:
            if team.leads and not quiet:
                print(sentence, file=sys.stderr)

        team.lead(claim)
        one = folder / "first"
        if not team.lead(lambda: _is_finished(one)):
            say(f"stage 1 of 2: {given.first.model} on {given.data}")
            loop.train(given.first, one, quiet=quiet, strict=strict)
        say(f"stage 2 of 2: {given.second.model} on the codes of {given.first.model}")
        team.lead(lambda: codes_of(one) and None)  # one process encodes, the others find the file
        loop.train(given.second, folder / "second", quiet=quiet, strict=strict)
    return StagedRun(folder)


def _claim(folder: Path, given: StagedConfig) -> None:
    """Write the configuration, or check that the folder already holds this very one."""
    file = folder / "config.json"
    if not file.exists():
        if any(path.name not in lock.FILES for path in folder.iterdir()):
            raise CheckpointError(f"{folder}: not empty and not a run folder; give another --out.")
        loop.write_json(file, given.model_dump(mode="json"))
        return
    run = open_run(folder)
    difference = run.config.difference(given) if isinstance(run, StagedRun) else [f"of {run.config.model}"]
    if difference:
        raise CheckpointError(
            f"{folder} holds another run ({'; '.join(difference)}). Give another --out, or the same settings to resume."
        )


def _is_finished(path: Path) -> bool:
    """Whether the run in a folder, if there is one, has reached its end."""
    return (path / "config.json").exists() and bool(Run(path).state.get("finished"))


def _adopt(first: Path, target: Path) -> None:
    """Copy a finished run, whole or not at all."""
    run = Run(first)
    if not _is_finished(first):
        raise CheckpointError(f"{first}: not finished; train it to its end first.")
    if target.exists():
        if identity(Run(target)) != identity(run):
            raise CheckpointError(f"{target} holds another run than {first}; give another --out.")
        return
    temporary = target.with_name(f".tmp-first-{os.getpid()}@{checkpoint.HERE}")
    checkpoint.prune(target.parent, set())  # what dead writers left
    for source in (first, run.checkpoints, run.checkpoint):
        refuse_link(source)
    kept = ("config.json", "data.json", "metrics.jsonl", "timing.jsonl", "environment.jsonl", "plan.json")
    for file in [*(first / name for name in kept), *sorted(run.checkpoint.iterdir())]:
        place = temporary / file.relative_to(first)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            shutil.copyfile(file, place, follow_symlinks=False)
    temporary.rename(target)
