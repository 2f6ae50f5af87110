"""Groups in words."""

import pytest
import torch

from genus.data import DataOptions, Source, TensorSplit, open_source
from genus.errors import SettingsError
from genus.explore import members
from genus.kinds import Label, Vectors


@pytest.fixture(scope="module")
def source() -> Source:
    split = TensorSplit(
        torch.zeros(6, 1),
        torch.tensor([0, 0, 1, 1, 2, 2]),
        attributes={"weight": torch.tensor([0, 1, 0, 1, 0, 1]), "turn": torch.linspace(-1, 1, 6)},
    )
    return Source("toy", Vectors(1), split, split, split, Label(("a", "b c", "d")),
                  attributes={"weight": ("regular", "bold"), "turn": ()})  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("label=a", [0, 1]),
        ("label=b c", [2, 3]),
        (" weight = bold ", [1, 3, 5]),
        ("weight=bold,turn<0.5", [1, 3]),
        ("turn>-0.7", [1, 2, 3, 4, 5]),
        ("turn>-0.7,turn<0.7", [1, 2, 3, 4]),
    ],
)
def test_words_name_items(source: Source, words: str, expected: list[int]) -> None:
    assert members(words, source, source.train).tolist() == expected


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("colour=red", "unknown attribute 'colour'; expected one of weight, turn, label"),
        ("weight=heavy", "weight= one of regular, bold; got 'weight=heavy'"),
        ("weight>regular", "weight= one of regular, bold"),
        ("turn=0", "turn is measured, from -1 to 1"),
        ("turn>much", "turn>NUMBER"),
        ("turn>nan", "turn>NUMBER"),
        ("bold", "'bold': expected NAME=VALUE"),
        ("", "expected NAME=VALUE"),
        ("weight=bold,", "expected NAME=VALUE"),
        ("label=a,weight=bold", "at least 2 of the 6 items of toy; got 1"),
    ],
)
def test_what_is_refused_says_what_there_is(source: Source, words: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        members(words, source, source.train)
    assert sentence in str(caught.value)


def test_a_source_that_knows_nothing_says_so() -> None:
    split = TensorSplit(torch.zeros(6, 1))
    with pytest.raises(SettingsError, match="knows no labels and no attributes"):
        members("label=a", Source("bare", Vectors(1), split, split, split), split)


def test_glyphs_know_their_weight() -> None:
    source = open_source("glyphs", DataOptions(limit=60))
    bold = members("weight=bold", source, source.train)
    assert (source.train.attributes["weight"][bold] == 1).all() and len(bold) == source.train.attributes["weight"].sum()
