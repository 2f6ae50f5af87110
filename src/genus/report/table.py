"""Scorecards as rows and columns, for HTML and for the terminal alike.

Only numbers of one meaning share a column. Models are ranked by likelihood among exact
values and bounds; estimates, and models without a likelihood, stand below without a rank.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genus.contract import Likelihood
from genus.evaluate.meaning import MEANING
from genus.evaluate.score import INCIDENTAL, Role, Row, Score, format

GROUPS = {
    "negative log-likelihood": "likelihood",
    "nearest-train ratio": "copying",
    "copied share": "copying",
    "authenticity": "copying",
    "C_T": "copying",
    "sampling speed": "cost",
    "parameters": "cost",
    "peak memory": "cost",
    "training time": "cost",
}
ORDER = ("likelihood", "samples against real data", "copying", "cost")


@dataclass(frozen=True)
class Column:
    """name, unit: the heading. arrow: which way is better. group: the heading above.
    protocol: what all numbers of the column have in common, as a line of text."""

    name: str
    unit: str
    arrow: str
    group: str
    protocol: str
    meaning: tuple[str, str, str]


@dataclass(frozen=True)
class Cell:
    """A printed score; ``best`` if no model of the column is clearly better."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One row: ``rank`` is empty where there is nothing to rank by."""

    rank: str
    name: str
    role: Role
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Columns and lines, and what the reader must know of them."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headings above the headings, with how many columns each spans."""
        spans: dict[str, int] = {}
        for column in self.columns:
            spans[column.group] = spans.get(column.group, 0) + 1
        return list(spans.items())

    @property
    def starts(self) -> list[bool]:
        """Whether a column is the first of its group."""
        return [n == 0 or c.group != self.columns[n - 1].group for n, c in enumerate(self.columns)]

    @property
    def ranked(self) -> bool:
        """Whether any line has a rank."""
        return any(line.rank for line in self.lines)

    @property
    def meanings(self) -> list[tuple[str, str]]:
        """What each number means, once a name."""
        return [(name, MEANING[name]) for name in dict.fromkeys(c.name for c in self.columns) if name in MEANING]


def tabulate(rows: Sequence[Row]) -> Table:
    """Lay rows out: models first (ranked), then real data, then floors."""
    columns = _columns(rows)
    models = sorted((row for row in rows if row.role == "model"), key=lambda row: _standing(row, columns))
    ranks = _ranks(models, columns)
    lines = [_line(row, columns, models, rank) for row, rank in zip(models, ranks, strict=True)]
    for role in ("real", "floor"):
        lines += [_line(row, columns, models, "") for row in rows if row.role == role]
    return Table(tuple(columns), tuple(lines))


def _columns(rows: Sequence[Row]) -> list[Column]:
    scores = {score.meaning: score for row in rows for score in row.scores}
    columns = [
        Column(
            score.name,
            score.unit,
            f"→ {score.ideal:g}" if score.ideal is not None else {"lower": "↓", "higher": "↑", None: ""}[score.better],
            GROUPS.get(score.name, ORDER[1]),
            protocol_line(score.protocol),
            meaning,
        )
        for meaning, score in scores.items()
    ]
    return sorted(columns, key=lambda column: ORDER.index(column.group))


def protocol_line(protocol: dict[str, Any]) -> str:
    """``items: 447; k: 3``, without what may differ from row to row."""
    return "; ".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in protocol.items()
        if key not in INCIDENTAL and value not in ({}, None)
    )


def _score(row: Row, column: Column) -> Score | None:
    return next((score for score in row.scores if score.meaning == column.meaning), None)


def _line(row: Row, columns: Sequence[Column], models: Sequence[Row], rank: str) -> Line:
    cells = []
    for column in columns:
        score = _score(row, column)
        if score is None:
            missing = row.role == "model" or (row.role == "floor" and column.group == "likelihood")
            cells.append(Cell(Likelihood.NONE.symbol if missing else ""))
            continue
        rivals = [rival for model in models if (rival := _score(model, column))]
        cells.append(Cell(format(score), row.role == "model" and len(models) > 1 and _is_best(score, rivals)))
    return Line(rank, row.name, row.role, tuple(cells))


def _is_best(score: Score, rivals: Sequence[Score]) -> bool:
    """No rival is better by more than two standard errors. Estimates contend among themselves only."""
    mine = score.badness
    if mine is None or mine != mine or score.name not in CONTESTED:
        return False
    for rival in rivals:
        theirs = rival.badness
        if theirs is None or (rival.kind is Likelihood.ESTIMATE) != (score.kind is Likelihood.ESTIMATE):
            continue
        error = ((score.stderr or 0) ** 2 + (rival.stderr or 0) ** 2) ** 0.5
        if theirs < mine - 2 * error:
            return False
    return True


CONTESTED = frozenset(MEANING) - {"nearest-train ratio", "parameters", "peak memory", "training time"}
"""Columns in which a best model is marked; cost is given, not contested, but for speed."""


def _likelihood(row: Row, columns: Sequence[Column]) -> Score | None:
    return next((s for c in columns if c.group == "likelihood" and (s := _score(row, c))), None)


def _standing(row: Row, columns: Sequence[Column]) -> tuple[int, float]:
    """Exact values and bounds by value, then estimates, then models without a likelihood by the
    first sample metric that they have."""
    score = _likelihood(row, columns)
    if score is not None:
        return int(score.kind is Likelihood.ESTIMATE), _or_last(score.value)
    sample = next((s for c in columns if c.group == ORDER[1] and (s := _score(row, c)) and s.badness is not None), None)
    return 2, _or_last(sample.badness) if sample else float("inf")


def _or_last(value: float | None) -> float:
    return value if value is not None and value == value else float("inf")


def _ranks(models: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """1, 2, ... among exact values and bounds of the first likelihood column; a place that rests
    on a bound might be better, and is marked so."""
    first = next((column for column in columns if column.group == "likelihood"), None)
    scores = [_score(row, first) if first else None for row in models]
    able = [s for s in scores if s and s.kind in (Likelihood.EXACT, Likelihood.BOUND)]
    if len(able) < 2:
        return ["" for _ in models]
    places = {id(score): str(place) for place, score in enumerate(sorted(able, key=lambda s: _or_last(s.value)), 1)}
    return [places.get(id(score), "") for score in scores]
