import numpy as np
import pytest
import torch

from genus.data import DataOptions, describe, open_source, preview
from genus.errors import SettingsError


@pytest.mark.parametrize(
    ("name", "options"),
    [("digits", {}), ("glyphs", {"colour": "rgb"}), ("furniture", {}), ("8gaussians", {}), ("swissroll", {})],
)
def test_a_preview_shows_something(name, options):
    sheet = preview(open_source(name, DataOptions(limit=40, **options)))
    assert sheet.mode == "RGB"
    pixels = np.asarray(sheet)
    assert pixels.shape[0] > 200
    assert (pixels.min(2) < 200).mean() > 0.01


def test_the_digits_of_a_preview_are_the_digits(tmp_path):
    source = open_source("digits")
    tile = np.asarray(preview(source))[:56, :56, 0][3::7, 3::7]
    assert np.array_equal(tile, (source.train.x[0, 0].float() * 255 / 16).round().byte().numpy())


def test_voxels_and_flat_clouds_are_shown_too(tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).integers(0, 2, (10, 6, 7, 8), dtype=np.uint8))
    assert preview(open_source(str(tmp_path / "v.npy"))).width > 100
    np.save(tmp_path / "c.npy", np.random.default_rng(0).normal(size=(10, 30, 2)))
    assert preview(open_source(str(tmp_path / "c.npy"))).width > 100


def test_a_description_counts(tmp_path):
    source = open_source("digits")
    rows = describe(source)
    assert rows["train items"] == "1,000"
    assert rows["domain"] == "grid 1x8x8, 17 levels"
    assert rows["fingerprint"] == source.fingerprint
    sevens = int((source.train.condition == 7).sum())
    assert f"7 {sevens}" in rows["labels in train"].split(", ")
    rows = describe(open_source("moons"))
    mean = open_source("moons").train.x[:10_000].mean(0)
    assert f"y {mean[1]:.4g} ±" in rows["mean ± deviation"]
    assert torch.isfinite(mean).all()


def test_an_array_of_clips_says_so(tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).integers(0, 2, (10, 6, 7, 8), dtype=np.uint8))
    voxels, clips = (open_source(str(tmp_path / "v.npy"), DataOptions(axes=axes)) for axes in (None, "tyx"))
    assert clips.domain.is_clip and not voxels.domain.is_clip and torch.equal(clips.train.x, voxels.train.x)
    assert preview(clips).size != preview(voxels).size
    with pytest.raises(SettingsError, match=r"v\.npy: axes: .*got 'yx' for \(6, 7, 8\)"):
        open_source(str(tmp_path / "v.npy"), DataOptions(axes="yx"))
    np.save(tmp_path / "f.npy", np.zeros((10, 3)))
    with pytest.raises(SettingsError, match="only grids have them; got vectors of 3 features"):
        open_source(str(tmp_path / "f.npy"), DataOptions(axes="x"))
    with pytest.raises(SettingsError, match="the option 'axes' does not fit"):
        open_source("digits", DataOptions(axes="yx"))
