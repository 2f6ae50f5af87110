"""From a configuration to a finished run folder: claim it, plan, fit or descend, save."""

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from genus import hardware, registry
from genus.contract import FitsInClosedForm, GenerativeModel, Split
from genus.data import Source
from genus.errors import CheckpointError, SettingsError, brief
from genus.runs import checkpoint, lock
from genus.runs.config import RunConfig
from genus.runs.documents import read_document, write_document
from genus.runs.environment import environment, note
from genus.runs.run import Run, build, open_data
from genus.training.parallel import Team
from genus.training.progress import Display, display
from genus.training.ranking import Ranking, ranking_of
from genus.training.recorder import run_steps
from genus.training.session import Session, View
from genus.training.signals import asked_to_stop


def train(config: RunConfig, out: str | Path | None = None, *, quiet: bool = False, strict: bool = False) -> Run:
    """Train a configuration in the run folder ``out``, or continue where it was stopped.

    The default folder is ``runs/<model>-<data>-<hash of the configuration>``, so the same
    command finds its own run again. Started by torchrun, the processes work as one.

    strict: refuse to fall back to an older checkpoint where the newest is damaged.

    Raises `CheckpointError` where the folder holds another configuration, is in use or
    cannot be written, `DivergenceError` for a NaN, `OutOfMemory`, `Interrupted` after a signal.
    """
    team = Team()
    folder = Path(out) if out is not None else default_folder(config.model, config.data, config.short_hash())
    source = open_data(config, folder)
    with ExitStack() as stack:

        def claim() -> None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock.held(folder))
                _claim(folder, config, source)
            except OSError as error:
                raise CheckpointError(f"{folder}: cannot be written ({error.strerror}); give another --out.") from None

        team.lead(claim)
        quiet = quiet or not team.leads
        for sentence in () if quiet else source.skipped:
            print(f"warning: {sentence}", file=sys.stderr)
        stack.enter_context(torch.random.fork_rng())
        hardware.keep_large_blocks()
        _fit_or_descend(config, source, folder, team, quiet, strict)
    return Run(folder)


def adopt(config: RunConfig, out: str | Path | None, weigh: Callable[[GenerativeModel], object]) -> Run:
    """A run folder for a model that was trained elsewhere; ``weigh`` puts its weights into the untrained one.

    The folder is that of a run before its first step: it samples and scores with these weights, and `train` with the
    same configuration goes on from them. Raises `CheckpointError` as `train` does.
    """
    folder = Path(out) if out is not None else default_folder(config.model, config.data, config.short_hash())
    source = open_data(config, folder)
    condition = source.condition if config.conditional else None
    model = build(config, source.domain, condition, items=len(source.train))
    weigh(model)
    train_split, validation = (View(split, config.conditional) for split in (source.train, source.validation))
    session = Session(config, train_split, validation, model, config.steps or config.recipe.steps)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock.held(folder):
            _claim(folder, config, source)
            session.save(folder / "checkpoints")
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}); give another --out.") from None
    return Run(folder)


def default_folder(model: str, data: str, digest: str) -> Path:
    """Where a run goes when no folder is named."""
    return Path("runs") / f"{model}-{Path(data.removeprefix('run:')).stem or 'data'}-{digest}"


def _claim(folder: Path, config: RunConfig, source: Source) -> None:
    """Write the configuration, or check that the folder already holds this very one."""
    file = folder / "config.json"
    described = {
        "name": source.name,
        "domain": source.domain.to_json(),
        "condition": source.condition.to_json() if source.condition else None,
        "fingerprint": source.fingerprint,
        "items": len(source.train),
    }
    if config.conditional and source.condition is None:
        raise SettingsError(f"{source.name} has no labels, so nothing can be modelled given them.")
    if not file.exists():
        if any(path.name not in lock.FILES for path in folder.iterdir()):
            raise CheckpointError(f"{folder}: not empty and not a run folder; give another --out.")
        write_document(folder / "data.json", described)
        write_document(file, config.model_dump(mode="json"))
        return
    run = Run(folder)
    difference = run.config.difference(config)
    if difference:
        raise CheckpointError(
            f"{folder} holds another run ({'; '.join(difference)}). Give another --out, or the same settings to resume."
        )
    if run.described.fingerprint != source.fingerprint:
        raise CheckpointError(f"{folder}: the data of {source.name} changed since this run began; give another --out.")


def _fit_or_descend(config: RunConfig, source: Source, folder: Path, team: Team, quiet: bool, strict: bool) -> None:
    condition = source.condition if config.conditional else None
    train_split, validation = (View(split, config.conditional) for split in (source.train, source.validation))
    checkpoints = folder / "checkpoints"

    def make(steps: int) -> Session:
        model = build(config, source.domain, condition, items=len(source.train)).to(team.device)
        return Session(config, train_split, validation, model, steps, team, ranking)

    if issubclass(registry.get(config.model), FitsInClosedForm):
        model = build(config, source.domain, condition, items=len(source.train))
        with display(1, quiet=quiet) as shown:
            team.lead(lambda: _fit(model, train_split, folder, shown.say, strict))
        return
    rankings: list[tuple[Ranking | None, str]] = [(None, "")]
    team.lead(lambda: rankings.append(ranking_of(config, source)))  # who validates
    ranking, about = rankings[-1]
    steps = _planned_steps(config, folder, make, team)
    with display(steps, quiet=quiet) as shown, asked_to_stop() as stop:
        session = make(steps)
        found = team.lead(lambda: _found(checkpoints, shown, strict))
        if found is not None:
            session.restore(checkpoints / found)
            shown.say(f"resuming at step {session.step} of {steps}")
        if about:
            shown.say(about)
        parts = team.size * config.accumulate
        if parts > 1 and session.model.reads_batch:
            shown.say(
                f"warning: {config.model} takes statistics of its batch, and each of the {parts} parts its own; "
                "this is not the run that whole batches give."
            )
        if team.leads and session.step < steps:
            here = environment(team.device, team.size, config.accumulate)
            shown.say_if(note(folder / "environment.jsonl", session.step, here))
        run_steps(session, folder, shown, stop)


def _found(checkpoints: Path, shown: Display, strict: bool) -> str | None:
    """The name of the newest good checkpoint; clears what dead writers left."""
    found = checkpoint.recover(checkpoints, shown.say, strict)
    checkpoint.prune(checkpoints, set(checkpoint.steps(checkpoints)))
    return found.name if found else None


def _planned_steps(config: RunConfig, folder: Path, make: Callable[[int], Session], team: Team) -> int:
    """How many steps the budget buys. Minutes are turned into steps once, by timing
    throw-away steps, and the number is kept: so a resumed run is still exact."""
    if config.minutes is not None:
        file = folder / "plan.json"
        planned = team.lead(lambda: _plan(file))
        if planned is None:
            planned = make(10**9).steps_within(config.minutes * 60)
            team.lead(lambda: write_document(file, {"minutes": config.minutes, "steps": planned}))
        return planned
    if config.epochs is not None:
        trial = make(1)
        return math.ceil(config.epochs * len(trial.split) / (config.recipe.batch_size * trial.turns))
    return config.steps or config.recipe.steps


def _plan(file: Path) -> int | None:
    """The steps of ``plan.json``; None before there is one."""
    try:
        steps = read_document(file).get("steps")
    except FileNotFoundError:
        return None
    if not isinstance(steps, int) or steps < 1:
        raise CheckpointError(f"{file}: 'steps' should be a whole number from 1; got {brief(steps)}.")
    return steps


def _fit(model: GenerativeModel, split: Split, folder: Path, warn: Callable[[str], None], strict: bool) -> None:
    assert isinstance(model, FitsInClosedForm)
    if checkpoint.recover(folder / "checkpoints", warn, strict):
        return
    began = time.monotonic()
    model.fit(split)
    with (folder / "timing.jsonl").open("a") as timing:
        timing.write(json.dumps({"step": 1, "seconds": time.monotonic() - began, "data": len(split)}) + "\n")
    state: dict[str, Any] = {"steps": 1, "best_step": 1, "best": None, "finished": True, "sums": {}, "counted": 0}
    checkpoint.save(folder / "checkpoints", 1, {"model": model.state_dict()}, state)
