"""Faces that are what their conditions say."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from genus.cli import data as command
from genus.data import DataOptions, captions, list_sources, open_source, portraits
from genus.data.transforms import with_channels
from genus.errors import SettingsError
from genus.explore.groups import members
from genus.geometry import faces
from genus.geometry.faces import motion, record, render
from genus.kinds import Grid, Label, Tokens, Vectors

DOMAINS = {
    "label": Label(("neutral", "smile", "sad", "surprised")),
    "attributes": Vectors(14, tuple(portraits.MEASURED)),
    "caption": Tokens(captions.LENGTH, len(captions.NAMES), captions.NAMES),
    "map": Grid(1, (32, 32), 10, ordered=False),
    "outline": Grid(1, (32, 32), 2),
    "lowres": Grid(3, (8, 8)),
}


@pytest.fixture(scope="module")
def many() -> tuple[record.Faces, np.ndarray, np.ndarray]:
    return portraits.items("train", 3000)


@pytest.fixture(scope="module")
def drawn(many) -> faces.Drawing:
    return faces.draw(many[0].at(slice(0, 400)), 32)


def names(choices: tuple[str, ...], numbers: np.ndarray) -> list[str]:
    return [choices[number] for number in numbers]


def test_the_listing_and_the_splits() -> None:
    listed = {entry.name: entry.domain for entry in list_sources()}
    assert listed["portraits"] == str(Grid(3, (32, 32))) and listed["portraits-clips"] == str(
        Grid(3, (8, 32, 32), axes="tyx")
    )
    assert portraits.COUNTS == {"train": 10_000, "validation": 1000, "test": 2000}
    source = open_source("portraits", DataOptions(limit=30))
    assert [len(split) for split in source.splits.values()] == [30, 30, 30]
    together = torch.cat([split.x.flatten(1) for split in source.splits.values()])
    assert len(together.unique(dim=0)) == 90
    assert set(source.attributes) == set(source.train.attributes)


@pytest.mark.parametrize("condition", DOMAINS)
def test_each_condition_is_of_its_domain(condition) -> None:
    source = open_source("portraits", DataOptions(limit=24, condition=condition))
    assert source.domain == Grid(3, (32, 32)) and source.condition == DOMAINS[condition]
    for split in source.splits.values():
        source.domain.check(split.x)
        source.condition.check(split.condition)
        assert split.condition.dtype == source.condition.dtype and len(split.condition.unique(dim=0)) > 1
    given = "" if condition == "label" else f"given {condition}, "
    assert source.name == f"portraits ({given}first 24 of each split)"
    assert torch.equal(source.train.x, open_source("portraits", DataOptions(limit=40)).train.x[:24])
    happy = members("expression=smile,style=shaded", source, source.train)
    assert 0 < len(happy) < 24


def test_item_i_is_a_function_of_i_whatever_is_asked_for() -> None:
    small, large = (open_source("portraits", DataOptions(limit=k, condition="attributes")) for k in (7, 20))
    assert torch.equal(small.test.x, large.test.x[:7]) and torch.equal(small.test.condition, large.test.condition[:7])
    assert large.fingerprint == open_source("portraits", DataOptions(limit=20, condition="attributes")).fingerprint
    assert large.fingerprint != open_source("portraits", DataOptions(limit=20)).fingerprint
    finer = open_source("portraits", DataOptions(limit=7, size=50, colour="grey"))
    assert finer.domain == Grid(1, (50, 50)) and finer.name == "portraits (50x50, in grey, first 7 of each split)"
    for name, values in finer.train.attributes.items():
        assert torch.equal(values, large.train.attributes[name][:7])
    grey = open_source("portraits", DataOptions(limit=7, colour="grey"))
    assert torch.equal(grey.test.x, with_channels(small.test.x, 1))


def test_a_face_does_not_depend_on_its_neighbours_or_on_how_much_is_asked_for(many, drawn) -> None:
    alone = [faces.draw(many[0].at([i]), 32) for i in range(5)]
    for number in range(3):
        assert (np.concatenate([one[number] for one in alone]) == drawn[number][:5]).all()
    assert (faces.pictures(many[0].at(slice(0, 40)), 32) == drawn.picture[:40]).all()


def test_they_are_the_same_bits_everywhere(drawn) -> None:
    """Only operations that IEEE 754 rounds in one way go into a pixel, so this holds on any machine."""
    digest = hashlib.sha256(b"".join(part[:64].tobytes() for part in drawn)).hexdigest()
    assert digest[:16] == "42e82afcc54065b7"


def test_boxes_cut_nothing_off(many, monkeypatch) -> None:
    """Every layer is painted in a box that holds all of it, however far a head is turned and leans."""
    f = many[0].at(slice(0, 80))
    f = replace(f, turn=np.sign(f.turn) * motion.FARTHEST, tilt=np.sign(f.tilt) * 1.0)
    boxed = faces.draw(f, 32)
    monkeypatch.setattr(render, "LAYERS", tuple(layer._replace(box=None) for layer in render.LAYERS))
    whole = faces.draw(f, 32)
    assert all((one == other).all() for one, other in zip(boxed, whole, strict=True))


@pytest.mark.parametrize("size", [16, 33, 256])
def test_any_size(size) -> None:
    few = {"limit": 12 if size < 100 else 2, "size": size}
    source = open_source("portraits", DataOptions(**few, condition="outline"))
    assert source.train.x.shape[1:] == (3, size, size)
    share = source.train.condition.double().mean()
    assert 0.02 < share < 0.45
    assert source.train.x.float().std() > 30


def test_maps_agree_with_the_causes(many, drawn) -> None:
    f = many[0].at(slice(0, 400))
    counts = np.stack([(drawn.region == k).sum((1, 2, 3)) for k in range(len(faces.REGIONS))], 1)
    has = dict(zip(faces.REGIONS, (counts > 0).T, strict=True))
    assert (has["glasses"] == (f.glasses > 0)).all()
    assert (has["hat"] == (f.hat > 0)).all()
    assert (has["beard"] == (f.beard > 0)).all()
    assert (has["hair"] == (f.hair != record.BALD)).all()
    assert (has["eyes"] <= ((f.closed == 0) & (f.glasses != record.SUNGLASSES))).all()
    assert has["eyes"][(f.closed == 0) & (f.glasses == 0) & (f.hat == 0)].mean() > 0.97
    for name in ("background", "skin", "mouth", "clothes"):
        assert has[name].all()
    long = counts[:, faces.REGIONS.index("hair")]
    assert long[f.hair >= record.STRAIGHT].mean() > 1.8 * long[f.hair == record.SHORT].mean()


def test_outlines_are_lines_where_regions_meet(drawn) -> None:
    share = drawn.outline.mean((1, 2, 3))
    assert share.min() > 0.1 and share.max() < 0.4
    head, background = drawn.region[:, 0] != 0, drawn.region[:, 0] == 0
    border = head[:, :, 1:] & background[:, :, :-1]
    assert drawn.outline[:, 0, :, 1:][border].mean() > 0.5 > 3 * drawn.outline[:, 0][background].mean()


def test_lowres_is_the_mean_of_the_area() -> None:
    source = open_source("portraits", DataOptions(limit=24, size=64, colour="grey", condition="lowres"))
    assert source.condition == Grid(1, (16, 16))
    mean = torch.nn.functional.avg_pool2d(source.train.x.double(), 4)
    assert (source.train.condition.double() - mean).abs().max() <= 0.5
    with pytest.raises(SettingsError, match="multiple of 4; got 30"):
        open_source("portraits", DataOptions(limit=2, size=30, condition="lowres"))


def test_attributes_are_what_they_are_called(many) -> None:
    f = many[0]
    x = dict(zip(portraits.MEASURED, portraits.attributes(f).T, strict=True))
    assert set(portraits.BINARY) == set(x) - {"turn", "tilt", "light", "skin"}
    for name in portraits.BINARY:
        assert set(x[name].tolist()) == {0.0, 1.0}
    assert x["turn"].min() >= -1 and x["turn"].max() <= 1 and x["skin"].min() >= 0 and x["skin"].max() <= 1
    assert (x["smile"].numpy() == (f.expression == 1)).all()
    assert (x["sunglasses"] <= x["glasses"]).all() and not (x["beard"] * x["moustache"]).any()
    # causes that nothing hides are independent of each other
    share = torch.stack([x[name] for name in ("smile", "glasses", "hat", "beard", "drawn")])
    assert (torch.corrcoef(share).fill_diagonal_(0).abs() < 4.5 / len(f) ** 0.5).all()


def facts(text: str) -> dict[str, str]:
    """What a caption says, read from it: for the test alone, and by other means than it was written."""
    colour, words = r"(black|brown|red|blond|grey|blue|green|yellow)", set(re.findall(r"\w+", text))
    said = {
        "expression": next(k for k, pair in enumerate(captions.MOODS) if words & set(pair)),
        "style": next(k for k, pair in enumerate(captions.MEDIA) if words & set(pair)),
        "glasses": ("round" in words) * 1 or ("square" in words) * 2 or ("sunglasses" in words) * 3,
        "beard": ("moustache" in words) * 1 or ("beard" in words) * 2,
        "closed": int("closed eyes" in text),
    }
    style = re.search(r"(bald|short|spiky|curly|bun|long straight|long wavy)", text)
    said["hair"] = ("bald", "short", "spiky", "curly", "bun", "long straight", "long wavy").index(style[1])
    if said["hair"]:
        said["hair_colour"] = record.HAIR_COLOURS.index(re.search(rf"{colour} hair", text)[1])
    hat = re.search(rf"{colour} (cap|beanie|hat)", text)
    said["hat"] = captions.HAT_NAMES.index(hat[2]) if hat else 0
    if hat:
        said["hat_colour"] = record.HAT_COLOURS.index(hat[1])
    if ground := re.search(r"(\w+) background", text):
        said["background"] = record.BACKGROUNDS.index(ground[1])
    return said


def test_captions_say_what_is_there(many) -> None:
    f, wording, _ = many
    codes = captions.captions(f, wording)
    captions.CAPTIONS.check(codes)
    written = captions.texts(codes)
    assert torch.equal(captions.tokens(written), codes)
    assert len(set(written)) > 0.9 * len(f)
    assert set(codes.flatten().tolist()) == set(range(len(captions.NAMES)))  # every word is of use
    for form in (r"^an? \w+ of an? \w+", r"^this \w+ shows", r"person who is \w+[.,]", r"^\w+, \w+ (bald )?person"):
        assert sum(re.search(form, text) is not None for text in written) > len(f) / 8
    for i, text in enumerate(written):
        for name, value in facts(text).items():
            assert getattr(f, name)[i] == value, (name, text)
        if found := re.search(r"looking to the (left|right)", text):
            assert f.turn[i] * (1 if found[1] == "right" else -1) > captions.ASIDE
        if found := re.search(r"(light|tan|brown|dark) skin", text):
            assert captions.SKINS.index(found[1]) == min(int(4 * f.skin[i]), 3)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\s\s|,,|, \.| ,", text), text


def test_the_longest_caption_fits(many) -> None:
    """A face with everything, in every wording."""
    f = many[0].at([0])
    most = {"hair": record.STRAIGHT, "beard": 2, "closed": 1, "glasses": 1, "hat": 1, "style": 1, "expression": 2}
    f = replace(f, turn=np.array([-1.0]), **{name: np.array([value]) for name, value in most.items()})
    choices = np.array(np.meshgrid(*[[0.0, 0.55]] * 8, np.arange(4) / 4)).reshape(9, -1).T
    longest = max(len(captions.words_of(captions.caption(f, 0, u))) for u in choices)
    assert 40 < longest <= captions.LENGTH


def test_unknown_words_are_named_with_the_nearest() -> None:
    assert captions.tokens(["A smiling person, in front of a blue background."]).shape == (1, captions.LENGTH)
    with pytest.raises(ValueError, match=r"no word 'smilling'; the nearest are smiling"):
        captions.tokens(["a smilling person"])
    with pytest.raises(ValueError, match="no word 'xyzzyq'; the words are"):
        captions.tokens(["a person", "xyzzyq"])
    with pytest.raises(ValueError, match="no word '<pad>'"):
        captions.tokens(["a <pad> person"])
    with pytest.raises(ValueError, match=r"expected 1 to 48 words.*got 0"):
        captions.tokens([""])
    with pytest.raises(ValueError, match="got 60"):
        captions.tokens(["a " * 60])
    with pytest.raises(ValueError, match="captions: expected shape"):
        captions.texts(torch.zeros(2, 5, dtype=torch.uint8))


def test_clips_begin_with_the_still_and_do_what_they_say() -> None:
    clips = open_source("portraits-clips", DataOptions(limit=60))
    assert clips.domain == Grid(3, (8, 32, 32), axes="tyx") and clips.condition == Label(motion.MOTIONS)
    assert clips.name == "portraits-clips (first 60 of each split)"
    stills = open_source("portraits", DataOptions(limit=60))
    for name, split in clips.splits.items():
        clips.domain.check(split.x)
        assert torch.equal(split.x[:, :, 0], stills.splits[name].x)
        assert set(split.condition.tolist()) == {0, 1, 2, 3}
    x, does = clips.train.x.float(), clips.train.condition
    change = (x[:, :, 1:] - x[:, :, :1]).abs().mean((1, 3, 4))
    assert (change[:, 3] > 0.2).all()  # there is motion in every clip
    assert torch.equal(x[does == motion.BLINK][:, :, 7], x[does == motion.BLINK][:, :, 0])  # eyes open again
    assert (change[does != motion.BLINK][:, -1] > 0.3).all()


def test_clips_are_drawn_at_any_size_and_in_grey() -> None:
    clips = open_source("portraits-clips", DataOptions(limit=2, size=40, colour="grey"))
    assert clips.domain == Grid(1, (8, 40, 40), axes="tyx") and clips.test.x.shape == (2, 1, 8, 40, 40)
    assert clips.name == "portraits-clips (40x40, in grey, first 2 of each split)"
    still = open_source("portraits", DataOptions(limit=2, size=40, colour="grey"))
    assert torch.equal(clips.test.x[:, :, 0], still.test.x)


def test_motions_move_the_causes(many) -> None:
    f, _, u = many
    does = motion.motions(f, u)
    assert (np.bincount(does) > len(f) / 8).all()
    assert not ((does == motion.BLINK) & ((f.closed == 1) | (f.glasses == record.SUNGLASSES))).any()
    assert not ((does == motion.SMILE) & (f.expression == 1)).any()
    frames = motion.moving(f, does, 8)
    turn, lids, bow = (getattr(frames, name).reshape(-1, 8) for name in ("turn", "lids", "bow"))
    assert (turn[:, 0] == f.turn).all() and (lids[:, 0] == f.lids).all() and np.abs(turn).max() <= motion.FARTHEST
    assert (turn[does == motion.LEFT][:, -1] < f.turn[does == motion.LEFT] - 0.45).all()
    assert (turn[does == motion.RIGHT][:, -1] > f.turn[does == motion.RIGHT] + 0.45).all()
    assert (lids[does == motion.BLINK].min(1) == 0).all()
    assert (bow[does == motion.SMILE][:, -1] > 0.09).all()


@pytest.mark.parametrize(("name", "options", "told"), [
    ("portraits", {"size": 8}, "expected a size of 16 to 256; got 8"),
    ("portraits-clips", {"size": 300}, "expected a size of 16 to 256; got 300"),
    ("portraits-clips", {"limit": 2, "condition": "map"}, "'condition' does not fit"),
    ("moons", {"condition": "label"}, "'condition' does not fit"),
    ("portraits", {"limit": 2, "points": 5}, "'points' does not fit"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(name, options, told) -> None:
    with pytest.raises(SettingsError, match=told):
        open_source(name, DataOptions(**options))


def test_the_command_shows_them_with_any_condition(tmp_path, capsys) -> None:
    for condition in ("caption", "map"):
        out = tmp_path / f"{condition}.png"
        arguments = ["portraits", "--condition", condition, "--limit", "10", "--out", str(out)]
        assert command.main(arguments) == 0
        assert out.stat().st_size > 1000
    printed = " ".join(capsys.readouterr().out.split())
    assert f"sequences of {captions.LENGTH} tokens" in printed and "10 codes" in printed
