import math
from pathlib import Path

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from genus.data import open_source
from genus.data.source import Source, TensorSplit
from genus.evaluate import evaluate
from genus.evaluate._items import Unlabelled
from genus.evaluate.classifier import Classifier
from genus.evaluate.recognition import Judge, homogeneity, judge_of
from genus.kinds import Grid, Label, Vectors, Waveform
from genus.models import Histogram
from genus.prob import noise

LABELS = Label(("dark", "grey", "bright"))
DOMAIN = Grid(1, (4, 4), 9)


def shades(label: Tensor, seed: str = "x") -> Tensor:
    """Pictures whose brightness is their class."""
    return (3 * label.view(-1, 1, 1, 1) + noise.integers(3, (len(label), 1, 4, 4), noise.stream(seed))).to(torch.uint8)


def source() -> Source:
    def split(count: int, seed: str) -> TensorSplit:
        label = torch.arange(count) % 3
        return TensorSplit(shades(label, seed), label)

    return Source("shades", DOMAIN, split(300, "a"), split(90, "b"), split(90, "c"), condition=LABELS)


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    monkeypatch.setenv("GENUS_CACHE", str(tmp_path))
    monkeypatch.setattr("genus.evaluate.classifier.STEPS", (80, 80))
    found = judge_of(source())
    assert found is not None and found.protocol["test accuracy"] == 1
    return found


def test_the_judge_tells_good_samples_from_bad(judge: Judge) -> None:
    real, asked = source().test.x, source().test.condition
    assert asked is not None
    good = {s.name: s for s in judge(shades(asked, "d"), real, asked)}
    assert good["recognition"].value > 0.9 and good["as asked"].value == 1 and good["class balance"].value == 0
    one_class = {s.name: s for s in judge(shades(torch.zeros(90).long()), real, asked)}
    assert one_class["as asked"].value == pytest.approx(1 / 3)
    assert one_class["class balance"].value > 20
    assert "2 of 3 classes missing" in one_class["class balance"].protocol["chi-square"]
    between = 2 + noise.integers(2, tuple(real.shape), noise.stream("h"))  # dark or grey?
    hazy = {s.name: s for s in judge(between.to(torch.uint8), real)}
    assert hazy["recognition"].value < good["recognition"].value - 0.05
    assert "as asked" not in hazy  # nothing was asked for


def test_homogeneity_is_pearsons() -> None:
    a, b = torch.tensor([30, 50, 20, 0]), torch.tensor([10, 60, 25, 0])
    theirs = scipy.stats.chi2_contingency([a[:3].tolist(), b[:3].tolist()], correction=False)
    ours, told = homogeneity(a, b)
    assert ours == pytest.approx(theirs.statistic / theirs.dof)
    assert f"p = {theirs.pvalue:.2g}" in told and "all 3 classes" in told
    assert homogeneity(torch.tensor([5, 0]), torch.tensor([9, 0])) == (1.0, "one class only")


def test_the_card_asks_conditional_models(judge: Judge) -> None:
    data = source()
    model = Histogram(DOMAIN, LABELS)
    model.fit(data.train)
    card = evaluate(model, data, count=60)
    assert card.model["as asked"].value > 0.9
    real = next(row for row in card.rows if row.name == "training items")
    assert real["as asked"].value > 0.9
    plain = Histogram(DOMAIN)
    plain.fit(Unlabelled(data.train))
    with pytest.raises(KeyError):
        evaluate(plain, data, count=60, references=False).model["as asked"]


def test_who_is_judged() -> None:
    split = TensorSplit(torch.zeros(4, 2))
    assert judge_of(Source("table", Vectors(2), split, split, split)) is None
    assert judge_of(open_source("moons")) is None


def test_sounds_are_read_as_pictures() -> None:
    domain = Waveform(600, 8000)
    classifier = Classifier(domain, 3, noise.stream("c"))
    t = torch.arange(600) / 8000
    tones = torch.stack([torch.sin(2 * math.pi * hertz * t) for hertz in (200.0, 1000.0)])
    logits = classifier(domain.codes(tones))
    assert logits.shape == (2, 3) and not torch.allclose(logits[0], logits[1])
    assert isinstance(classifier.trunk, nn.Sequential)
