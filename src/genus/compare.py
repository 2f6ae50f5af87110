"""Train and score several models under one written budget, and rank them honestly."""

import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from genus import registry
from genus.errors import SettingsError
from genus.evaluate import Scorecard
from genus.report.comparison import comparison_page
from genus.report.run import RunReport
from genus.report.write import report_of, score
from genus.runs.stages import stages_of
from genus.training import configure, train


def compare(
    models: Sequence[str],
    data: str,
    *,
    out: str | Path,
    minutes: float | None = None,
    steps: int | None = None,
    seeds: int = 1,
    num_samples: int = 1,
    count: int | None = None,
    quiet: bool = False,
    **options: Any,
) -> list[RunReport]:
    """Train each model with its quick recipe under the same budget, score all on the test split.

    Args:
        models: Registry names, and two stages written FIRST+SECOND.
        data: A data source, as for `genus.train`; every model sees the same splits.
        out: The folder: one run folder a model and seed, ``comparison.json``, ``report.html``.
        minutes: Training time of each model (of two stages together) on this machine.
        steps: Training steps of each model, instead of minutes.
        seeds: Train each model with so many seeds; each is a row of its own.
        num_samples: Draws per item for bounds on the likelihood.
        count: Samples and real items compared in the sample metrics.
        quiet: Show no progress.
        options: Options of the data source (``size=16``, ...).

    Returns:
        One `RunReport` a model and seed, in the order of the models.
    """
    if (minutes is None) == (steps is None):
        raise SettingsError("a comparison needs one budget for all: give either minutes or steps.")
    if not models:
        raise SettingsError("a comparison needs at least one model.")
    for model in models:
        stages_of(model) if "+" in model else registry.check(model)
    folder = Path(out)
    reports: list[RunReport] = []
    for model in models:
        for seed in range(seeds):
            name = model if seeds == 1 else f"{model}, seed {seed}"
            if not quiet:
                print(f"{name} on {data}", flush=True)
            config = configure(model, data, minutes=minutes, steps=steps, seed=seed, **options)
            run = train(config, folder / f"{model}-{seed}", quiet=quiet)
            # Floors and real data are the same for all models: they are scored once.
            card = score(run, name=name, references=not reports, num_samples=num_samples, count=count)
            reports.append(report_of(run, without_floors(card, models)))
    budget = {"minutes": minutes, "steps": steps, "seeds": seeds, "recipe": "quick", **machine()}
    write_comparison(folder, reports, budget)
    return reports


def without_floors(card: Scorecard, names: Sequence[str]) -> Scorecard:
    """The card without the floors that take part in the comparison themselves."""
    return replace(card, rows=tuple(row for row in card.rows if row.role != "floor" or row.name not in names))


def write_comparison(folder: Path, reports: Sequence[RunReport], budget: dict[str, Any]) -> Path:
    """Write ``comparison.json`` and ``report.html``; returns the path of the page."""
    cards = [report.scorecard.to_json() for report in reports]
    (folder / "comparison.json").write_text(json.dumps({"budget": budget, "scorecards": cards}, indent=1))
    told = ", ".join(f"{key} {value}" for key, value in budget.items() if value is not None)
    lead = f"Each model was trained under the same budget ({told}) and scored once on data that it never saw."
    path = folder / "report.html"
    path.write_text(comparison_page("genus: a comparison", reports, lead=lead), encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """What timings depend on."""
    return {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
