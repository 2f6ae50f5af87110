"""Two models in one run folder, trained one after the other (`genus.runs.stages`).

`configure` and `train` take one model or two, written FIRST+SECOND.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from genus import registry
from genus.contract import FitsInClosedForm, HasPosterior
from genus.data import DataOptions, open_source
from genus.errors import CapabilityError, CheckpointError, SettingsError
from genus.kinds import Domain
from genus.models.two_stage import TwoStage
from genus.runs import checkpoint, config, lock
from genus.runs.codes import codes_of, identity
from genus.runs.config import RunConfig
from genus.runs.documents import refuse_link, write_document
from genus.runs.run import FIRST_STAGE, Run, build
from genus.runs.stages import StagedConfig, StagedRun, open_run, prefixes, stages_of
from genus.training import loop
from genus.training.parallel import Team

SHARE = 0.5  # of the budget that the first stage gets
BUDGETS = ("steps", "epochs", "minutes")
SHARED = {"data", "seed", "conditional", *DataOptions.model_fields}
"""What both stages have in common: given once, without a stage's name."""
EACH = {*BUDGETS, "recipe", "seed", "criterion"}
EACH |= {"compile", "checkpoint_seconds", "tensorboard", "workers", "accumulate"}
"""What may be given for both."""


def configure(model: str, data: str | None, **given: Any) -> RunConfig | StagedConfig:
    """As `genus.runs.config.configure`; and for two stages FIRST+SECOND.

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
        source = open_source(data, one.data_options)
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
        write_document(file, given.model_dump(mode="json"))
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
