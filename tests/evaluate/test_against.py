"""Samples from anywhere beside real data: the floor for real items, far for noise, flagged for copies."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import Tensor

from genus.data import DataOptions, open_source
from genus.errors import DataFormatError, GenusError, SettingsError
from genus.evaluate.against import compared, in_levels, open_against, score_samples
from genus.evaluate.memorisation import CLEAR, COPIES, verdict
from genus.kinds import Grid
from genus.prob import noise


def as_pictures(folder: Path, x: Tensor, levels: int) -> Path:
    """Pictures ``(N, C, H, W)`` as PNG files of 256 levels, in subfolders as some models write them."""
    (folder / "batch-1").mkdir(parents=True)
    for number, picture in enumerate((x.float() * 255 / (levels - 1)).round().byte().numpy()):
        array = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, 2)
        Image.fromarray(array).save(folder / "batch-1" / f"{number:03d}.png")
    return folder


def digits(part: str, count: int) -> Tensor:
    return open_source("digits").splits[part].x[:count]


def test_real_digits_are_near_and_noise_is_far(tmp_path: Path) -> None:
    opened = open_against(as_pictures(tmp_path / "mine", digits("test", 120), 17), "digits")
    assert torch.equal(opened.samples.sort(0).values, digits("test", 120).sort(0).values)  # back in 17 levels
    assert any("rounded from 256 to the 17 levels" in note for note in opened.notes)
    card = score_samples(opened, name="mine", count=100)
    rows = {row.name: row for row in card.rows}
    assert next(iter(rows)) == "mine" and {"training items", "uniform"} <= set(rows) and card.source == "digits"
    floor, near = rows["uniform"]["Fréchet distance"].value, rows["mine"]["Fréchet distance"].value
    assert near < 0.1 * floor and rows["mine"]["coverage"].value > 0.9
    assert rows["mine"]["nearest-train ratio"].value == pytest.approx(1, abs=0.15)
    assert verdict(rows["mine"]) == CLEAR
    assert all(score.name != "negative log-likelihood" for row in card.rows for score in row.scores)
    snow = noise.integers(256, (100, 1, 8, 8), noise.stream("snow"))
    far = score_samples(open_against(as_pictures(tmp_path / "snow", snow, 256), "digits"), references=False)
    assert far.model["Fréchet distance"].value > 0.9 * floor and far.model["coverage"].value < 0.1


def test_planted_copies_are_flagged(tmp_path: Path) -> None:
    mixed = torch.cat([digits("train", 90), digits("validation", 10)])
    card = score_samples(open_against(as_pictures(tmp_path, mixed, 17), "digits"), references=False)
    assert card.model["nearest-train ratio"].value == 0 and verdict(card.model) == COPIES


def test_as_many_of_both_sides_are_compared(tmp_path: Path) -> None:
    opened = open_against(as_pictures(tmp_path / "many", digits("train", 60), 17), "digits", DataOptions(limit=20))
    assert len(opened.samples) == 60 and len(opened.source.test) == 20  # the limit is of the real data
    assert compared(opened) == 20 and compared(opened, count=12) == 12 and compared(opened, count=99) == 20
    card = score_samples(opened, references=False, seed=1)
    assert card.model["precision"].protocol["items"] == 20
    assert card == score_samples(opened, references=False, seed=1)
    few = open_against(as_pictures(tmp_path / "few", digits("train", 5), 17), "digits")
    with pytest.raises(SettingsError, match=r"at least 6 samples, .*got 5, 447 and 1000"):
        score_samples(few)


def test_what_cannot_be_compared_names_the_remedy(tmp_path: Path) -> None:
    large = as_pictures(tmp_path / "large", torch.zeros(9, 1, 12, 12), 2)
    colour = as_pictures(tmp_path / "colour", noise.integers(256, (9, 3, 8, 8), noise.stream("c")), 256)
    table = tmp_path / "table.csv"
    table.write_text("b,a\n" + "1,2\n" * 9)
    real = tmp_path / "real.csv"
    real.write_text("a,b\n" + "1,2\n" * 9)
    values = tmp_path / "values.npy"
    np.save(values, np.full((9, 8, 8), 17, np.uint8))
    cases: list[tuple[type[GenusError] | type[ValueError], Path, str, str]] = [
        (SettingsError, large, "digits", r"1x12x12.*1x8x8.*give --size 8 \(any size, for both sides\)"),
        (SettingsError, colour, "digits", "channels differ; --colour grey"),
        (SettingsError, colour, "moons", "of one kind"),
        (SettingsError, table, str(real), r"same columns in the same order \(a, b\)"),
        (ValueError, values, "digits", r"expected values 0\.\.16"),
        (DataFormatError, tmp_path / "none", "digits", "no such file or folder"),
    ]
    for kind, path, source, said in cases:
        with pytest.raises(kind, match=said):
            open_against(path, source)
    opened = open_against(large, "digits", DataOptions(size=12))
    assert opened.samples.shape[1:] == opened.source.domain.shape == (1, 12, 12)
    assert open_against(colour, "digits", DataOptions(colour="grey")).samples.shape == (9, 1, 8, 8)
    assert open_against(table, str(table)).samples.shape == (9, 2)


def test_arrays_are_in_the_terms_of_the_real_data(tmp_path: Path) -> None:
    x = digits("test", 30)
    np.savez(tmp_path / "samples.npz", x=x.numpy(), condition=np.arange(30))  # as `genus sample` writes them
    opened = open_against(tmp_path / "samples.npz", "digits")
    assert torch.equal(opened.samples.sort(0).values, x.sort(0).values)


def test_bad_files_are_skipped_where_asked(tmp_path: Path) -> None:
    folder = as_pictures(tmp_path / "mine", digits("test", 30), 17)
    (folder / "batch-1" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(DataFormatError, match=r"broken\.png"):
        open_against(folder, "digits")
    opened = open_against(folder, "digits", DataOptions(skip_bad=True))
    assert len(opened.samples) == 30 and any("1 of 31" in note for note in opened.notes), opened.notes


def as_clouds(folder: Path, clouds: Tensor) -> Path:
    """PLY files in a frame of their own, the points of each cloud shuffled."""
    folder.mkdir()
    for number, cloud in enumerate(clouds):
        shuffled = cloud[noise.permutation(len(cloud), noise.stream("shuffle", number))]
        content = trimesh.PointCloud((3 * shuffled + 1).numpy()).export(file_type="ply")
        (folder / f"{number}.ply").write_bytes(content)
    return folder


def test_clouds_in_another_frame_and_order_are_still_copies(tmp_path: Path) -> None:
    options = DataOptions(limit=24, points=150)  # more than the test for copies looks at: it thins them by place
    source = open_source("furniture", options)
    ratios = {}
    for part in ("train", "test"):
        opened = open_against(as_clouds(tmp_path / part, source.splits[part].x[:16]), "furniture", options)
        assert opened.source.name.endswith("each cloud in the unit sphere)")
        for clouds in (opened.samples, opened.source.test.x):
            assert torch.allclose(clouds.norm(dim=2).amax(1), torch.ones(len(clouds)))
        card = score_samples(opened, references=False)
        assert card.model["MMD-CD"].protocol["clouds"] == 16
        ratios[part] = card.model["nearest-train ratio"].value
        if part == "train":
            assert verdict(card.model) == COPIES
    assert ratios["train"] < 1e-6 and ratios["test"] > 0.5


def test_clouds_of_other_numbers_of_points_are_thinned(tmp_path: Path) -> None:
    cloud = noise.normal((8, 40, 3), noise.stream("cloud"))
    np.save(tmp_path / "clouds.npy", cloud.numpy())
    opened = open_against(tmp_path / "clouds.npy", "furniture", DataOptions(limit=9, points=64))
    assert opened.samples.shape == (8, 40, 3) and opened.source.domain.shape == (40, 3)
    assert any("40 points of each cloud, by lot" in note for note in opened.notes)
    assert not any("unit sphere" in note for note in opened.notes)  # arrays are in the real data's frame
    np.save(tmp_path / "flat.npy", cloud[..., :2].numpy())
    with pytest.raises(SettingsError, match="points in 2-D; furniture"):
        open_against(tmp_path / "flat.npy", "furniture", DataOptions(limit=9))


def test_a_source_in_other_levels() -> None:
    source = open_source("digits")
    bright = in_levels(source, Grid(1, (8, 8), 256))
    assert bright.domain == Grid(1, (8, 8), 256) and bright.name == "digits (256 levels)"
    assert bright.test.x.max() == 255 and torch.equal(bright.test.condition, source.test.condition)
    assert torch.equal(in_levels(bright, source.domain).test.x, source.test.x)
    assert in_levels(source, source.domain) is source and in_levels(source, Grid(1, (9, 9), 2)) is source
