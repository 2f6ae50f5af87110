import json
import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, GenerativeModel, IsConditional
from genus.data import DataOptions, open_source
from genus.data.source import Source, TensorSplit
from genus.evaluate import Scorecard, evaluate
from genus.evaluate.floors import Gaussian, Uniform
from genus.evaluate.meaning import MEANING
from genus.evaluate.memorisation import CLEAR, COPIES, neighbours, verdict
from genus.evaluate.speed import parameter_count, peak_memory, sampling_speed
from genus.kinds import Grid, Points, Vectors
from genus.prob import noise


class Copier(GenerativeModel, IsConditional):
    """Samples training items of the wanted class; has no likelihood."""

    paper, domains = "a test", (Grid, Points)

    def __init__(self, source: Source, conditional: bool = False):
        super().__init__(source.domain, source.condition if conditional else None)
        self.batch = source.train.batch(torch.arange(len(source.train)))
        self.asked: list[Tensor | None] = []

    tiny = classmethod(lambda cls, domain, condition=None: cls(domain))

    def losses(self, batch: Batch, generator=None) -> dict:
        return {"loss": batch.x.flatten(1).sum(1).float()}

    def _sample(self, count, condition, generator, *, sharpness: int = 0) -> Tensor:
        self.asked.append(condition)
        if condition is None:
            return self.batch.x[noise.integers(len(self.batch.x), (count,), generator)]
        return torch.stack([self.batch.x[self.batch.condition == label][0] for label in condition])


def test_a_uniform_model_on_digits() -> None:
    source = open_source("digits")
    card = evaluate(Uniform(source.domain), source, name="mine", count=100, limit=50)
    model = card.model
    assert model["negative log-likelihood"].value == pytest.approx(math.log2(17))
    rows = {row.name: row for row in card.rows}
    assert rows["uniform"].role == "floor"
    assert rows["uniform"]["negative log-likelihood"].value == pytest.approx(math.log2(17))
    if "histogram" in rows:
        assert rows["histogram"]["negative log-likelihood"].value < 3
    assert rows["training items"]["nearest-train ratio"].value == 0  # the planted copies
    assert rows["validation items"]["nearest-train ratio"].value == pytest.approx(1, abs=0.2)
    said = {name: verdict(row) for name, row in rows.items() if row.role == "real"}
    assert said == {"training items": COPIES, "planted copies": COPIES, "validation items": CLEAR}
    assert rows["planted copies"]["copied share"].value == pytest.approx(0.9, abs=0.03)
    sampled = [score for score in model.scores if "error" in score.protocol]
    assert len(sampled) == 10 and all(score.stderr is not None for score in sampled)
    assert rows["training items"]["Fréchet distance"].value < 0.2 * model["Fréchet distance"].value
    assert model["Fréchet distance"].protocol["items"] == 100
    assert "genus-classifier/digits" in model["Fréchet distance"].protocol["features"]
    assert {score.name for row in card.rows for score in row.scores} <= set(MEANING)
    assert Scorecard.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_a_scorecard_is_a_function_of_its_seed() -> None:
    source = open_source("digits")

    def scores(seed: int) -> list:
        card = evaluate(Uniform(source.domain), source, count=60, limit=20, seed=seed, references=False)
        assert [row.role for row in card.rows] == ["model"]
        return [score for score in card.model.scores if score.name not in ("sampling speed", "peak memory")]

    assert scores(0) == scores(0) != scores(1)


def test_conditions_and_options_reach_the_model() -> None:
    source = open_source("digits")
    model = Copier(source, conditional=True)
    card = evaluate(model, source, count=40, batch_size=16, references=False, options={"sharpness": 3})
    assert [None if c is None else len(c) for c in model.asked] == [16, 16, 8, 16, 16, 16]  # then three for the speed
    assert card.model["nearest-train ratio"].value == 0  # it copies
    assert all(score.name != "negative log-likelihood" for score in card.model.scores)
    with pytest.raises(TypeError, match="unknown"):
        evaluate(model, source, count=10, references=False, options={"unknown": 1})


def test_point_clouds_get_shape_metrics() -> None:
    source = open_source("furniture", DataOptions(limit=24))
    small = Source(
        "few", source.domain, *(TensorSplit(split.batch(torch.arange(24)).x) for split in source.splits.values())
    )
    card = evaluate(Copier(small), small, count=12)
    assert [row.role for row in card.rows] == ["model", "real", "real", "real"]
    names = [score.name for score in card.model.scores]
    assert (
        {"MMD-CD", "COV-EMD", "1-NNA-CD", "JSD", "nearest-train ratio", "sampling speed"} <= set(names) <= set(MEANING)
    )
    assert card.model["MMD-CD"].protocol["clouds"] == 12
    assert card.model["nearest-train ratio"].value == 0
    found = neighbours(small.test.x, small, count=3)
    assert found["Planted copies"].distance[:, 0].tolist() == [0, 0, 0]
    assert (found["Held-out items"].distance[:, 0] > 0).all()


def test_vectors_have_a_gaussian_floor() -> None:
    x = noise.normal((900, 2), noise.stream("v")) * torch.tensor([1.0, 50.0])
    source = Source("plane", Vectors(2), TensorSplit(x[:500]), TensorSplit(x[500:700]), TensorSplit(x[700:]))
    model = Gaussian(source.domain)
    model.fit(source.train)
    rows = {row.name: row for row in evaluate(model, source, name="mine").rows}
    assert rows["Gaussian"]["negative log-likelihood"] == rows["mine"]["negative log-likelihood"]
    assert rows["mine"]["coverage"].value > 0.8  # it is the truth
    assert rows["mine"]["negative log-likelihood"].unit == "nats"


def test_given_samples_are_used_and_checked() -> None:
    source = open_source("digits")
    model = Uniform(source.domain)
    copies = source.train.batch(torch.arange(30)).x
    card = evaluate(model, source, samples=copies, limit=5, references=False)
    assert card.model["nearest-train ratio"].value == 0
    assert card.model["precision"].protocol["items"] == 30
    with pytest.raises(ValueError, match="at least 40 samples"):
        evaluate(model, source, samples=copies, count=40)
    with pytest.raises(ValueError, match="built for"):
        evaluate(Uniform(Grid(1, (3, 3), 2)), source)


def test_speed_parameters_and_memory() -> None:
    class Slow(Uniform):
        calls = 0

        def _sample(self, count, condition, generator) -> Tensor:
            Slow.calls += 1
            return super()._sample(count, condition, generator)

    model = Slow(Grid(1, (2, 2), 4))
    model.weight = torch.nn.Parameter(torch.zeros(3, 5))
    speed = sampling_speed(model, 8)
    assert Slow.calls == 3 and speed.value > 0 and speed.protocol["batch"] == 8
    assert parameter_count(model).value == 15
    memory = peak_memory()
    assert memory is None or 50 < memory.value < 1e6  # torch alone takes more than 50 MiB
