import io

import pytest
from rich.console import Console

from genus.contract import Likelihood
from genus.evaluate.meaning import MEANING
from genus.evaluate.score import Row, Score, Scorecard
from genus.report.summary import summary
from genus.report.table import Table, tabulate

NLL = "negative log-likelihood"


def model(name: str, nll: float | None = None, kind: Likelihood = Likelihood.EXACT, **others: float) -> Row:
    scores = [] if nll is None else [Score(NLL, nll, 0.01, kind, "bits/dim", "lower", protocol={"items": 9})]
    scores += [Score(key, value, better="higher") for key, value in others.items()]
    return Row(name, "model", tuple(scores))


def line(table: Table, name: str) -> dict[str, object]:
    (found,) = [line for line in table.lines if line.name == name]
    return {"rank": found.rank} | {c.name: cell for c, cell in zip(table.columns, found.cells, strict=True)}


ROWS = [
    Row("uniform", "floor", (Score(NLL, 4.087, None, Likelihood.EXACT, "bits/dim", "lower", protocol={"items": 9}),)),
    model("gan", None, precision=0.9),
    model("ode", 1.0, Likelihood.ESTIMATE, precision=0.5),
    model("vae", 2.2, Likelihood.BOUND, precision=0.7),
    model("made", 2.0, Likelihood.EXACT, precision=0.6),
    Row("training items", "real", (Score("precision", 0.99, better="higher"),)),
]


def test_ranking_is_among_exact_values_and_bounds_alone() -> None:
    table = tabulate(ROWS)
    assert [line.name for line in table.lines] == ["made", "vae", "ode", "gan", "training items", "uniform"]
    assert [line.rank for line in table.lines] == ["1", "2", "", "", "", ""]
    assert line(table, "made")[NLL].best and not line(table, "vae")[NLL].best
    assert line(table, "made")[NLL].text == "= 2.000 ± 0.010"
    assert line(table, "vae")[NLL].text == "≤ 2.200 ± 0.010"
    assert line(table, "gan")[NLL].text == "–"
    assert line(table, "training items")[NLL].text == ""
    assert line(table, "gan")["precision"].best
    assert not line(table, "training items")["precision"].best  # only models contend


def test_models_within_two_standard_errors_share_the_mark() -> None:
    table = tabulate([model("a", 2.00), model("b", 2.02), model("c", 2.05)])
    assert [line.cells[0].best for line in table.lines] == [True, True, False]


def test_a_single_model_is_neither_marked_nor_ranked() -> None:
    table = tabulate([ROWS[0], ROWS[3]])
    assert not table.ranked
    assert not any(cell.best for line in table.lines for cell in line.cells)


def test_numbers_of_different_protocols_get_columns_of_their_own() -> None:
    rows = [
        Row(name, "model", (Score("Fréchet distance", value, better="lower", protocol={"items": items, "seed": seed}),))
        for name, value, items, seed in (("a", 1.0, 100, 0), ("b", 2.0, 100, 1), ("c", 0.5, 50, 0))
    ]
    table = tabulate(rows)
    assert [column.protocol for column in table.columns] == ["items: 100", "items: 50"]
    best = {line.name: [cell.best for cell in line.cells] for line in table.lines}
    assert best == {"a": [True, False], "b": [False, False], "c": [False, True]}


def test_an_ideal_in_the_middle_is_what_is_best() -> None:
    rows = [Row(str(v), "model", (Score("1-NNA-CD", v, ideal=0.5),)) for v in (0.1, 0.45, 0.9)]
    table = tabulate(rows)
    assert [(line.name, line.cells[0].best) for line in table.lines] == [("0.45", True), ("0.1", False), ("0.9", False)]
    assert table.columns[0].arrow == "→ 0.5"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_diverged_is_last_and_never_best(value: float) -> None:
    table = tabulate([model("bad", value), model("good", 3.0)])
    assert [line.name for line in table.lines] == ["good", "bad"]
    assert not table.lines[1].cells[0].best


def test_groups_span_all_columns_and_meanings_come_once() -> None:
    table = tabulate(ROWS)
    assert sum(span for _, span in table.groups) == len(table.columns) == len(table.starts)
    assert table.meanings == [(NLL, MEANING[NLL]), ("precision", MEANING["precision"])]


def test_the_summary_prints_names_as_they_are() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(summary(Scorecard("digits [red]", "test", (*ROWS, model("[bold]odd[/bold]", 3.0)))))
    text = console.export_text()
    for expected in ("digits [red]", "3. [bold]odd[/bold]", "1. made", "= 2.000 ± 0.010", "≤ no worse than", NLL):
        assert expected in text
