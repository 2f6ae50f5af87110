"""Options that change the pictures change the pictures that they are drawn given, too."""

from dataclasses import replace

import pytest
import torch

from genus.data import DataOptions, Source, TensorSplit
from genus.data.transforms import as_asked, resize, with_channels
from genus.errors import SettingsError
from genus.kinds import Domain, Grid, Label
from genus.prob import noise


def pictures(*shape: int, levels: int = 256) -> torch.Tensor:
    return noise.integers(levels, shape, noise.stream(*shape)).to(torch.uint8)


def source(condition: Domain, given: torch.Tensor) -> Source:
    split = TensorSplit(pictures(6, 3, 8, 12), given)
    return Source("pairs", Grid(3, (8, 12)), split, split, split, condition=condition)


def test_a_condition_of_the_same_shape_keeps_its_ratio() -> None:
    small = source(Grid(3, (4, 6)), pictures(6, 3, 4, 6))
    asked = as_asked(small, DataOptions(size=16))
    assert asked.domain == Grid(3, (16, 16)) and asked.condition == Grid(3, (8, 8))
    assert asked.test.condition is not None
    assert torch.equal(asked.test.condition, resize(small.test.condition, 8))
    assert asked.fingerprint != small.fingerprint and asked.name == "pairs (16x16)"
    with pytest.raises(SettingsError, match=r"4x6 pixels for 8x12 .* multiple of 2"):
        as_asked(small, DataOptions(size=7))


def test_regions_without_an_order_are_never_mixed() -> None:
    regions = pictures(6, 1, 8, 12, levels=5)
    regions[regions == 2] = 3  # the mean of 1 and 3, which must not appear
    asked = as_asked(source(Grid(1, (8, 12), 5, ordered=False), regions), DataOptions(size=24))
    assert asked.test.condition is not None and asked.test.condition.shape == (6, 1, 24, 24)
    assert 2 not in asked.test.condition.unique()


def test_a_condition_of_another_shape_and_a_label_stay() -> None:
    for condition, given in (
        (Grid(1, (5, 5)), pictures(6, 1, 5, 5)), (Label(("a", "b")), torch.arange(6) % 2),
    ):  # fmt: skip
        asked = as_asked(source(condition, given), DataOptions(size=4, colour="grey"))
        assert asked.condition == condition and torch.equal(asked.train.condition, given)


def test_copies_follow_the_colour_and_outlines_do_not() -> None:
    copy = source(Grid(3, (8, 12)), pictures(6, 3, 8, 12))
    grey = as_asked(copy, DataOptions(colour="grey"))
    assert grey.condition == Grid(1, (8, 12))
    assert torch.equal(grey.test.condition, with_channels(copy.test.condition, 1))
    outline = source(Grid(1, (8, 12), 2), pictures(6, 1, 8, 12, levels=2))
    assert as_asked(outline, DataOptions(colour="grey")).condition == outline.condition


def test_binarizing_and_limits() -> None:
    small = source(Grid(3, (4, 6)), pictures(6, 3, 4, 6))
    two = as_asked(small, DataOptions(binarize="threshold", limit=2))
    assert two.domain == Grid(3, (8, 12), 2) and two.condition == small.condition
    assert torch.equal(two.test.condition, small.test.condition[:2])


def test_clips_know_their_size() -> None:
    split = TensorSplit(pictures(3, 1, 2, 4, 4))
    clips = Source("clips", Grid(1, (2, 4, 4), axes="tyx"), split, split, split)
    assert as_asked(clips, DataOptions(size=4)) is clips
    with pytest.raises(SettingsError, match="fits pictures"):
        as_asked(clips, DataOptions(size=8))
    with pytest.raises(SettingsError, match="fits pictures"):  # of voxels, the size is of every axis
        as_asked(replace(clips, domain=Grid(1, (2, 4, 4))), DataOptions(size=4))
