"""A number with its protocol, and the card that lays such numbers side by side."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from genus.contract import Likelihood

Role = Literal["model", "floor", "real"]

INCIDENTAL = frozenset({"seed", "batch_size", "num_samples", "options", "samples", "unseen", "verdict", "chi-square"})
"""Protocol entries that may differ between two numbers of the same meaning: a bound with
more samples is a tighter bound of the same thing, a verdict is what came out. All other
entries must agree."""


@dataclass(frozen=True)
class Score:
    """One number, and everything that one must know to compare it with another.

    name: what is measured, a key of `genus.evaluate.meaning.MEANING`.
    stderr: standard error of ``value``, in the same unit; None where there is none.
    kind: what sort of likelihood it is; None for other numbers.
    better: in which direction it improves; None where neither direction is an improvement.
    ideal: the value of perfect samples where it is not an extreme (1-NNA: 0.5).
    protocol: plain JSON values: how many items, which features, squared or not.
    """

    name: str
    value: float
    stderr: float | None = None
    kind: Likelihood | None = None
    unit: str = ""
    better: Literal["lower", "higher"] | None = None
    ideal: float | None = None
    protocol: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            json.dumps(self.protocol, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"score {self.name!r}: expected a protocol of plain JSON values; {error}.") from None

    @property
    def meaning(self) -> tuple[str, str, str]:
        """Two scores may share a column of a table only where this is equal."""
        told = {key: value for key, value in self.protocol.items() if key not in INCIDENTAL}
        return self.name, self.unit, json.dumps(told, sort_keys=True)

    @property
    def badness(self) -> float | None:
        """What ranking minimises: distance from the ideal, or the value signed by direction;
        None where the number ranks nothing."""
        if self.ideal is not None:
            return abs(self.value - self.ideal)
        return {"lower": self.value, "higher": -self.value, None: None}[self.better]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; infinities and NaN are written as strings, for JSON has none."""
        fields = asdict(self)
        fields["kind"] = None if self.kind is None else self.kind.name.lower()
        return {key: _plain(value) if isinstance(value, float) else value for key, value in fields.items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Score":
        """Read what `to_json` wrote; raises a ValueError that names what does not fit."""
        try:
            known = dict(fields)
            for number in ("value", "stderr", "ideal"):
                if known.get(number) is not None:
                    known[number] = float(known[number])
            if known.get("kind") is not None:
                known["kind"] = Likelihood[known["kind"].upper()]
            return cls(**known)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"not a score: {fields!r} ({error}).") from None


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def format(score: Score) -> str:
    """``≤ 1.043 ± 0.004``: the kind's symbol, the value, and its standard error to one digit."""
    symbol = f"{score.kind.symbol} " if score.kind else ""
    if score.kind is Likelihood.NONE:
        return score.kind.symbol
    error = score.stderr or 0.0
    if not math.isfinite(error) or not math.isfinite(score.value) or error <= 1e-9 * abs(score.value):
        return symbol + number(score.value)
    decimals = min(max(-math.floor(math.log10(error / 2)), 0), 6)  # 1.5 and 15 keep two digits
    return f"{symbol}{score.value:,.{decimals}f} ± {error:,.{decimals}f}"


def number(value: float) -> str:
    """A number for reading: whole numbers in full, others to four significant digits and no more
    than three decimals, unless they are small."""
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer():
        return f"{value:,.0f}"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -5:
        return f"{value:.2e}"
    if exponent < -1:
        return f"{value:.{2 - exponent}f}".rstrip("0")
    places = min(3 - exponent, 3)
    return f"{round(value, places):,.{max(places, 0)}f}"


@dataclass(frozen=True)
class Row:
    """The scores of one model, one floor or of real data."""

    name: str
    role: Role
    scores: tuple[Score, ...]

    def __getitem__(self, name: str) -> Score:
        """The first score of a name; raises a KeyError that lists the names there are."""
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(f"{self.name} has no score {name!r}; it has {', '.join(s.name for s in self.scores) or 'none'}.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"name": self.name, "role": self.role, "scores": [score.to_json() for score in self.scores]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Row":
        """Read what `to_json` wrote."""
        return cls(fields["name"], fields["role"], tuple(map(Score.from_json, fields["scores"])))


@dataclass(frozen=True)
class Scorecard:
    """Rows of scores on one split of one data source, and on nothing else."""

    source: str
    split: str
    rows: tuple[Row, ...]

    @property
    def model(self) -> Row:
        """The first model's row; raises a ValueError where there is none."""
        for row in self.rows:
            if row.role == "model":
                return row
        raise ValueError(f"the scorecard of {self.source} has no row of a model.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"source": self.source, "split": self.split, "rows": [row.to_json() for row in self.rows]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Scorecard":
        """Read what `to_json` wrote; raises a ValueError that says what does not fit."""
        try:
            return cls(fields["source"], fields["split"], tuple(map(Row.from_json, fields["rows"])))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a scorecard: {error!r} is missing or of the wrong type.") from None


def merge(cards: Iterable[Scorecard]) -> list[Scorecard]:
    """One card for each (source, split): all models; each floor and real row once.

    Numbers on different data never share a card.
    """
    rows: dict[tuple[str, str], dict[tuple[object, ...], Row]] = {}
    for position, card in enumerate(cards):
        table = rows.setdefault((card.source, card.split), {})
        for row in card.rows:
            key = (row.role, row.name, position if row.role == "model" else None)
            before = table[key].scores if key in table else ()
            known = {score.meaning for score in before}
            table[key] = Row(row.name, row.role, before + tuple(s for s in row.scores if s.meaning not in known))
    return [Scorecard(*key, tuple(table.values())) for key, table in rows.items()]
