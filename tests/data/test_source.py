import pytest
import torch
from pydantic import ValidationError

from genus.data import DataOptions, Source, TensorSplit, open_source
from genus.errors import SettingsError
from genus.kinds import Grid, Label
from genus.prob import noise


def grey_source(levels: int = 256, side: int = 6) -> Source:
    def split(key: str, count: int) -> TensorSplit:
        x = noise.integers(levels, (count, 1, side, side), noise.stream(key)).to(torch.uint8)
        return TensorSplit(x, noise.integers(3, (count,), noise.stream(key, "y")))

    domain = Grid(1, (side, side), levels)
    return Source("grey", domain, split("a", 40), split("b", 8), split("c", 9), condition=Label(("p", "q", "r")))


def test_a_batch_gathers_items_conditions_and_numbers():
    split = grey_source().train
    index = torch.tensor([7, 0, 7, 39])
    batch = split.batch(index)
    assert torch.equal(batch.x, split.x[index])
    assert batch.x.dtype == torch.uint8
    assert torch.equal(batch.condition, split.condition[index])
    assert torch.equal(batch.index, index)


def test_dynamic_binarization_draws_anew_from_the_generator():
    source = open_source("digits", DataOptions(binarize="dynamic"))
    index = torch.arange(200)
    one, same, other = (source.train.batch(index, noise.stream(k)).x for k in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert source.domain.levels == 2
    source.domain.check(one)


def test_dynamic_binarization_has_the_grey_value_as_probability():
    split = open_source("digits", DataOptions(binarize="dynamic")).train
    n = 400
    p = split.x[:50].double() / 16
    mean = torch.stack([split.batch(torch.arange(50), noise.stream(k)).x.double() for k in range(n)]).mean(0)
    random = (p > 0) & (p < 1)
    z = (mean - p)[random] / (p * (1 - p) / n).sqrt()[random]
    assert torch.equal(mean[~random], p[~random])
    assert abs(z.mean()) < 4 / z.numel() ** 0.5
    assert 0.9 < z.std() < 1.1


def test_evaluation_without_a_generator_does_not_depend_on_the_batches():
    options = DataOptions(binarize="dynamic")
    split, again = open_source("digits", options).test, open_source("digits", options).test
    whole = split.batch(torch.arange(len(split))).x
    parts = torch.cat([again.batch(torch.arange(k, min(k + 100, len(again)))).x for k in range(0, len(again), 100)])
    assert torch.equal(whole, parts)
    assert not torch.equal(whole[0], whole[1])


def test_every_option_that_changes_the_data_changes_the_name_and_the_fingerprint():
    options = [{}, {"binarize": "dynamic"}, {"binarize": "threshold"}, {"size": 4}, {"colour": "rgb"}, {"limit": 50}]
    sources = [open_source("digits", DataOptions(**o)) for o in options]
    assert len({s.name for s in sources}) == len(options)
    assert len({s.fingerprint for s in sources}) == len(options)
    assert sources[0].fingerprint == open_source("digits").fingerprint
    assert sources[1].name == "digits (binarized dynamically)"
    assert sources[2].name == "digits (thresholded)"


def test_the_fingerprint_sees_a_single_pixel():
    one, two = grey_source(), grey_source()
    assert one.fingerprint == two.fingerprint
    two = grey_source()
    two.test.x[3, 0, 2, 2] ^= 1
    assert one.fingerprint != two.fingerprint


def test_options_that_do_not_fit_are_refused_by_name():
    with pytest.raises(SettingsError, match="'size' does not fit"):
        open_source("moons", DataOptions(size=8))
    with pytest.raises(SettingsError, match="'points' does not fit"):
        open_source("digits", DataOptions(points=8))
    with pytest.raises(SettingsError, match="'holdout' does not fit"):
        open_source("digits", DataOptions(holdout=0))
    with pytest.raises(ValidationError):
        DataOptions(colour=3)


def test_every_option_has_a_description():
    assert all(field.description for field in DataOptions.model_fields.values())


def test_thresholding_cuts_at_half():
    grey, binary = open_source("digits"), open_source("digits", DataOptions(binarize="threshold"))
    assert torch.equal(binary.train.x, (grey.train.x > 8).to(torch.uint8))
    assert binary.domain == Grid(1, (8, 8), 2)


def test_pictures_are_resized_and_recoloured():
    source = open_source("digits", DataOptions(size=12, colour="rgb"))
    assert source.domain == Grid(3, (12, 12), 17)
    x = source.validation.batch(torch.arange(20)).x
    source.domain.check(x)
    assert torch.equal(x[:, 0], x[:, 2])
    mean = open_source("digits").validation.x[:20].float().mean()
    assert abs(x.float().mean() - mean) < 0.35  # of 16 levels


def test_attributes_must_be_one_an_item():
    with pytest.raises(ValueError, match="one value for each of 4 items"):
        TensorSplit(torch.zeros(4, 2), attributes={"weight": torch.zeros(3)})


def test_limit_cuts_every_split():
    source = open_source("moons", DataOptions(limit=7))
    assert [len(split) for split in source.splits.values()] == [7, 7, 7]
    assert torch.equal(source.train.x, open_source("moons").train.x[:7])
