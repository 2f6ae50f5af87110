"""Several models under one budget: one table, floors once, honest refusals."""

import json
from pathlib import Path

import pytest

from genus.cli.__main__ import main
from genus.compare import compare
from genus.errors import GenusError
from genus.training import configure
from genus.training.session import validation_steps


def test_models_share_a_budget_and_a_table(tmp_path: Path) -> None:
    reports = compare(["histogram", "vae"], "digits", out=tmp_path, steps=20, limit=60, quiet=True)
    assert [report.scorecard.model.name for report in reports] == ["histogram", "vae"]
    rows = [(row.name, row.role) for report in reports for row in report.scorecard.rows]
    assert rows.count(("histogram", "model")) == 1
    assert ("histogram", "floor") not in rows, "a floor that takes part is not shown twice"
    assert ("uniform", "floor") in rows
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["budget"]["steps"] == 20
    page = (tmp_path / "report.html").read_text()
    assert "histogram" in page and "vae" in page and "steps 20" in page


def test_seeds_are_rows_of_their_own(tmp_path: Path) -> None:
    reports = compare(["histogram"], "digits", out=tmp_path, steps=1, seeds=2, limit=60, quiet=True)
    assert [report.scorecard.model.name for report in reports] == ["histogram, seed 0", "histogram, seed 1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "vae", "--data", "digits"], "one budget"),
        (["--models", "vea", "--data", "digits", "--steps", "1"], "Did you mean 'vae'"),
        (["--models", "vae", "--data", "digitz", "--steps", "1"], "Did you mean 'digits'"),
        (["--models", "point_diffusion", "--data", "digits", "--steps", "1"], "models points data"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments, "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err


def test_budgets_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="one budget"):
        compare(["vae"], "digits", out=tmp_path, steps=1, minutes=1.0)


def test_a_recipe_can_depend_on_the_kind_of_data() -> None:
    assert configure("realnvp", "moons").recipe_name == "quick-vectors"
    assert configure("realnvp", "digits").recipe_name == "quick"


@pytest.mark.parametrize("steps", [1, 7, 100, 12345])
def test_validation_ends_with_the_last_step_and_starts_early(steps: int) -> None:
    chosen = sorted(validation_steps(steps))
    assert chosen[-1] == steps and chosen[0] == max(1, -(-steps // 320))
