"""Warnings of training in the report: at the top of the page, and marked in the curves."""

from typing import Any

import torch

from genus.contract import Likelihood
from genus.evaluate.score import Row, Score, Scorecard
from genus.kinds import Grid
from genus.report.plots import curves, svg_of, warnings_of
from genus.report.run import RunReport, run_page

EVIL = "<script>alert(1)</script>"
WARNING = {"name": "mode collapse", "seen": f"Samples are alike {EVIL}.", "cure": "Try a lower --learning-rate."}


def metrics(warned: bool) -> list[dict[str, Any]]:
    """A run's records; a warning at step 60."""
    records: list[dict[str, Any]] = [
        {"step": 20 * k, "train/loss": 9.0 - k, "validation/loss": 9.5 - k} for k in range(1, 6)
    ]
    if warned:
        records[1]["symptoms"] = {WARNING["name"]: WARNING["seen"]}
        records[2] |= {"symptoms": {WARNING["name"]: WARNING["seen"]}, "warnings": [WARNING]}
    return records


def page(records: list[dict[str, Any]]) -> str:
    domain = Grid(1, (2, 2), 2)
    x = torch.zeros(4, *domain.shape, dtype=domain.dtype)
    score = Score("negative log-likelihood", 1.0, None, Likelihood.EXACT, "bits/dim", "lower", protocol={"items": 4})
    card = Scorecard("toy", "test", (Row("vae", "model", (score,)),))
    return run_page(RunReport("vae on toy", domain, card, x, x, metrics=records))


def test_warnings_stand_before_the_samples() -> None:
    text = page(metrics(warned=True))
    assert 0 < text.index("<h2>Warnings</h2>") < text.index("mode collapse") < text.index("<h2>Samples</h2>")
    assert "seen at step 60" in text and "Try a lower --learning-rate." in text
    assert EVIL not in text and "&lt;script&gt;" in text


def test_a_healthy_run_has_no_such_section() -> None:
    assert "Warnings" not in page(metrics(warned=False))
    looked = [record | {"symptoms": {}} for record in metrics(warned=False)]
    assert page(looked) == page(metrics(warned=False))


def test_the_curves_mark_the_step_and_draw_nothing_else_of_it() -> None:
    with_warning, without = (curves(metrics(warned)) for warned in (True, False))
    assert with_warning is not None and without is not None
    assert len(with_warning.axes) == len(without.axes) == 1
    lines, bare = with_warning.axes[0].lines, without.axes[0].lines
    assert [line.get_label() for line in lines] == [*(line.get_label() for line in bare), "warning"]
    assert lines[-1].get_xdata() == [60, 60]
    assert svg_of(with_warning) != svg_of(without)


def test_what_is_not_a_warning_is_passed_over() -> None:
    odd: list[Any] = [None, 3, "warnings", {}, [], [3], [{"name": "x"}], [[WARNING]]]
    assert warnings_of([{"step": 1, "warnings": value} for value in odd]) == ()
    assert warnings_of([{"warnings": [WARNING]}, {"step": "x", "warnings": [WARNING]}]) == ()
    assert warnings_of([{"step": 7, "warnings": [WARNING]}]) == ((7, *WARNING.values()),)
