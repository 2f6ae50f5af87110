"""From a run folder to what people look at: scores, samples as files, the HTML report."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genus.data import Source
from genus.errors import CheckpointError, SettingsError
from genus.evaluate import Scorecard, evaluate
from genus.evaluate.memorisation import neighbours
from genus.evaluate.samplers import SamplerCurves
from genus.evaluate.scorecard import draw
from genus.kinds import Domain, Label, names_of
from genus.report.diagnosis import section_of
from genus.report.noise import film_of
from genus.report.pictures import sheet
from genus.report.run import RunReport, run_page
from genus.runs import Run
from genus.runs.documents import read_document

SHOWN, DOTS = 40, 500  # items of a sheet; rows of a table, which are dots
SAMPLERS = "samplers.json"  # in a run folder: curves of `genus diagnose`


def score(
    run: Run, *, name: str | None = None, against: Source | None = None, out: Path | None = None, **settings: Any
) -> Scorecard:
    """Score a run on held-out data (`genus.evaluate.evaluate` takes the settings) and keep the result
    as JSON in ``out``: by default ``scores.json`` in the run folder.

    against: other data than the run's own, of the same domain; the default file is then
    ``scores-against-NAME.json``, so that the run's own scores stay.
    """
    source = against or run.source
    if source.domain != run.domain:
        raise SettingsError(
            f"{run.path} was trained on {run.domain}; {source.name} gives {source.domain}: they cannot be compared. "
            "Options such as --size and --colour say how to read the data of --against."
        )
    if run.condition is not None and source.condition != run.condition:
        raise SettingsError(f"{run.path} was trained with {run.condition}; {source.name} has {source.condition}.")
    card = evaluate(run.model, source, name=name or run.config.model, **settings)
    if out is None:
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", source.name).strip("-.")
        out = run.path / ("scores.json" if against is None else f"scores-against-{slug}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(card.to_json(), indent=1), encoding="utf-8")
    return card


def report_of(run: Run, card: Scorecard, *, seed: int = 0, options: dict[str, Any] | None = None) -> RunReport:
    """What the report of a run is made of: its scores, and samples beside real data."""
    held_out = run.source.splits[card.split]
    shown = DOTS if run.domain.scattered else SHOWN
    real = held_out.batch(torch.arange(min(shown, len(held_out))))
    samples = draw(run.model, len(real.x), real.condition, seed, options=options)
    return RunReport(
        title=f"{run.config.model} on {run.source.name}",
        domain=run.domain,
        scorecard=card,
        samples=samples,
        real=real.x,
        config=run.config.model_dump(mode="json"),
        metrics=run.metrics,
        neighbours=neighbours(samples[:SHOWN], run.source, seed=seed),
        training_seconds=run.training_seconds,
    )


def write_run_report(run: Run, **settings: Any) -> Path:
    """Score a run and write its ``report.html``; returns the path."""
    card = score(run, **settings)
    path = run.path / "report.html"
    seed = settings.get("seed", 0)
    report = report_of(run, card, seed=seed, options=settings.get("options"))
    split = run.source.splits[card.split]
    found, film = section_of(run.model, split, seed), film_of(run.model, split, seed)
    page = run_page(replace(report, diagnosis=found, film=film, samplers=kept_curves(run)))
    path.write_text(page, encoding="utf-8")
    return path


def kept_curves(run: Run) -> SamplerCurves | None:
    """What `genus diagnose` found of the run's samplers; None where it was not asked."""
    path = run.path / SAMPLERS
    try:
        fields = read_document(path)
    except FileNotFoundError:
        return None
    try:
        return SamplerCurves.from_json(fields)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def conditions(run: Run, count: int, label: str | None) -> Tensor | None:
    """The conditions of ``count`` samples: one label for all, or all labels in turn."""
    condition = run.condition
    if not isinstance(condition, Label):
        if label is not None:
            raise SettingsError(f"{run.path} was trained without labels; --label needs a run with --conditional.")
        return None
    if label is None:
        return torch.arange(count) % condition.count
    if label not in condition.names:
        raise SettingsError(f"unknown label {label!r}; expected one of {', '.join(condition.names)}.")
    return torch.full((count,), condition.names.index(label))


def sample_endings(domain: Domain, count: int) -> list[str]:
    """What the name of one file may end in that holds ``count`` samples of a domain."""
    return [".png", ".npz", *filter(None, (domain.ending(count),))]


def write_samples(run: Run, samples: Tensor, condition: Tensor | None, out: Path) -> list[Path]:
    """Write samples to the file ``out`` (`sample_endings` lists what its name may end in). Where it has no ending: to
    ``out.png`` (a sheet), ``out.npz`` (x and, where there is one, condition), and files of the kind (`Domain.file`):
    one of all, or one each in the folder ``out``. Returns the paths."""
    domain = run.domain.of(samples)  # of as many points as were asked for
    parts = [(out, samples)]
    if not out.suffix:
        parts = [(out.parent / f"{out.name}{ending}", samples) for ending in sample_endings(domain, len(samples))]
        if not domain.ending(len(samples)) and (each := domain.ending(1)):
            parts += [(out / f"{n:04d}{each}", samples[n : n + 1]) for n in range(len(samples))]
    names = names_of(run.condition)
    labels = [names[int(label)] for label in condition] if names and condition is not None else []
    for path, some in parts:
        path.parent.mkdir(parents=True, exist_ok=True)
        match path.suffix.lower():
            case ".png":
                content = sheet(some, domain)
            case ".npz":
                content = _arrays(x=some, condition=condition)
            case _:
                content = domain.file(some, labels if len(some) == len(labels) else ())
        path.write_bytes(content)
    return [path for path, _ in parts]


def _arrays(**tensors: Tensor | None) -> bytes:
    """An .npz file of those that there are."""
    out = io.BytesIO()
    np.savez_compressed(out, **{k: t.numpy() for k, t in tensors.items() if t is not None})  # type: ignore[arg-type]
    return out.getvalue()
