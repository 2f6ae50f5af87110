import json
import math

import pytest

from genus.contract import Likelihood
from genus.evaluate.score import Row, Score, Scorecard, format, merge, number


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (Score("nll", 1.04321, 0.0041, Likelihood.BOUND), "≤ 1.043 ± 0.004"),
        (Score("nll", 1.04321, 0.0015, Likelihood.EXACT), "= 1.0432 ± 0.0015"),
        (Score("nll", 98.21, 2.4, Likelihood.ESTIMATE), "~ 98 ± 2"),
        (Score("nll", 8.000000000000002, 1e-17, Likelihood.EXACT), "= 8.000"),
        (Score("nll", 0.0, None, Likelihood.NONE), "–"),
        (Score("d", 0.5), "0.500"),
        (Score("d", -0.0123, 0.03), "-0.01 ± 0.03"),
        (Score("d", math.inf, 1.0, Likelihood.EXACT), "= inf"),
        (Score("d", math.nan, math.nan), "nan"),
    ],
)
def test_format(score: Score, text: str) -> None:
    assert format(score) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (652824, "652,824"),
        (1132262.4, "1,132,000"),
        (0.005, "0.005"),
        (9.9996, "10.000"),
        (2.5e-7, "2.50e-07"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_json_round_trip_holds_every_field_and_infinity() -> None:
    scores = (
        Score("a", math.inf, 0.1, Likelihood.BOUND, "nats", "lower", None, {"items": 3, "k": None}),
        Score("b", 0.4, ideal=0.5),
    )
    card = Scorecard("digits", "test", (Row("vae", "model", scores), Row("uniform", "floor", ())))
    text = json.dumps(card.to_json(), allow_nan=False)
    assert Scorecard.from_json(json.loads(text)) == card


@pytest.mark.parametrize(
    "damaged",
    [
        {"name": "a"},
        {"name": "a", "value": "x"},
        {"name": "a", "value": 1, "kind": "perfect"},
        {"name": "a", "value": 1, "n": 2},
    ],
)
def test_damaged_json_is_a_value_error(damaged: dict) -> None:
    with pytest.raises(ValueError, match="not a score"):
        Score.from_json(damaged)


def test_protocol_must_be_plain_json() -> None:
    with pytest.raises(ValueError, match="plain JSON"):
        Score("a", 1.0, protocol={"model": object()})


def test_meaning_ignores_seeds_and_tells_item_counts_apart() -> None:
    a, b, c = (Score("a", 1.0, protocol=p) for p in ({"items": 5, "seed": 0}, {"items": 5, "seed": 9}, {"items": 6}))
    assert a.meaning == b.meaning != c.meaning


def test_merge_never_mixes_sources_and_keeps_floors_once() -> None:
    floor = Row("uniform", "floor", (Score("a", 8.0),))
    cards = [
        Scorecard(source, "test", (Row(name, "model", (Score("a", value),)), floor))
        for source, name, value in (("x", "m", 1.0), ("y", "m", 2.0), ("x", "m", 3.0))
    ]
    merged = merge(cards)
    assert [(card.source, [row.name for row in card.rows]) for card in merged] == [
        ("x", ["m", "uniform", "m"]),
        ("y", ["m", "uniform"]),
    ]
    assert [row["a"].value for row in merged[0].rows] == [1.0, 8.0, 3.0]


def test_merge_adds_scores_of_another_protocol_to_a_floor() -> None:
    few, many = (Score("a", float(n), protocol={"items": n}) for n in (5, 9))
    cards = [Scorecard("x", "test", (Row("uniform", "floor", (score,)),)) for score in (few, many, few)]
    assert merge(cards)[0].rows[0].scores == (few, many)
