"""One bad file among many: named and stopped, or skipped, counted and reported."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from genus.data import DataOptions, describe, open_source
from genus.errors import DataFormatError, SettingsError
from genus.kinds import Label

SKIP = DataOptions(skip_bad=True)


def shades(split):
    return split.x[:, 0, 0, 0].tolist()


def pictures(folder, count, classes=("",)):
    """Pictures whose grey tells them apart (up to 200 of them)."""
    for k in range(count):
        place = folder / classes[k % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), k % 200).save(place / f"{k:04}.png")


def test_a_bad_file_among_a_thousand_is_named_or_skipped(tmp_path):
    folder = tmp_path / "many"
    pictures(folder, 1000)
    whole = open_source(str(folder))
    (folder / "0500.png").write_bytes((folder / "0500.png").read_bytes()[:40])
    with pytest.raises(DataFormatError, match=r"0500\.png: not a readable PNG"):
        open_source(str(folder))
    source = open_source(str(folder), SKIP)
    assert sum(len(split) for split in source.splits.values()) == 999
    assert source.name == "many (1 of 1000 files skipped)"
    assert source.skipped[0] == "1 of 1000 files skipped."
    assert "0500.png: not a readable PNG" in source.skipped[1]
    assert "1 of 1000 files skipped." in source.notes
    assert "0500.png" in source.notes
    assert source.fingerprint != whole.fingerprint
    assert whole.skipped == ()
    assert "skipped" not in whole.name + whole.notes


def test_the_others_stay_in_their_splits_with_their_labels(tmp_path):
    folder = tmp_path / "p"
    pictures(folder, 60, classes=("cat", "dog"))
    whole = open_source(str(folder))
    bad = {4, 17, 30, 31, 59}
    for k in bad:
        (folder / ("cat", "dog")[k % 2] / f"{k:04}.png").write_bytes(b"not a picture")
    source = open_source(str(folder), SKIP)
    assert source.condition == whole.condition == Label(("cat", "dog"))
    for name, split in source.splits.items():
        assert shades(split) == [shade for shade in shades(whole.splits[name]) if shade not in bad]
        assert split.condition.tolist() == [shade % 2 for shade in shades(split)]
    assert len(source.skipped) == 1 + len(bad)
    assert source.notes.count("not a readable") == 3  # the notes name the first few


def test_the_option_changes_nothing_where_nothing_is_bad(tmp_path):
    pictures(tmp_path / "p", 12)
    one, two = open_source(str(tmp_path / "p")), open_source(str(tmp_path / "p"), SKIP)
    assert one.fingerprint == two.fingerprint
    assert one.notes == two.notes


def test_meshes_and_clouds(tmp_path):
    for k in range(20):
        trimesh.creation.box((1, 1, 1 + k)).export(tmp_path / f"{k}.stl")
    whole = open_source(str(tmp_path), DataOptions(points=8))
    (tmp_path / "3.stl").write_bytes(b"solid nothing\nendsolid nothing\n")
    (tmp_path / "outside.xyz").symlink_to("/etc/hostname")
    source = open_source(str(tmp_path), DataOptions(points=8, skip_bad=True))
    assert source.skipped[0] == "2 of 21 files skipped."
    assert any("3.stl: the mesh has no faces" in reason for reason in source.skipped)
    assert any("leads out of the folder" in reason for reason in source.skipped)
    assert source.name.endswith("(8 points, 2 of 21 files skipped)")
    every = torch.cat([split.x for split in whole.splits.values()]).flatten(1).tolist()
    for split in source.splits.values():  # the points of a shape are a function of its name alone
        assert len(split.attributes["scale"]) == len(split)
        assert all(cloud in every for cloud in split.x.flatten(1).tolist())


def test_rows_of_a_table(tmp_path):
    path = tmp_path / "x.csv"
    rows = [[str(k), str(k * k), "ab"[k % 2]] for k in range(40)]
    write = lambda: path.write_text("\n".join(",".join(row) for row in [["a", "b", "kind"], *rows]))  # noqa: E731
    write()
    whole = open_source(str(path), DataOptions(label="kind"))
    rows[7][1], rows[9][0] = "nan", "oops"
    rows[20].append("5")
    write()
    with pytest.raises(DataFormatError, match="row 9, column 'b'"):
        open_source(str(path), DataOptions(label="kind"))
    source = open_source(str(path), DataOptions(label="kind", skip_bad=True))
    assert source.name == "x.csv (label kind, 3 of 40 rows skipped)"
    assert "row 11, column 'a'" in source.notes
    for name, split in source.splits.items():
        assert split.x[:, 0].tolist() == [k for k in whole.splits[name].x[:, 0].tolist() if k not in (7, 9, 20)]
        assert split.condition.tolist() == [k % 2 for k in split.x[:, 0].tolist()]


def test_where_nothing_is_left_or_nothing_can_be_skipped(tmp_path):
    for k in range(5):
        (tmp_path / f"{k}.png").write_bytes(b"not a picture")
    with pytest.raises(DataFormatError, match=r"none of its 5 files can be read; the first: .*0\.png"):
        open_source(str(tmp_path), SKIP)
    Image.new("L", (2, 2)).save(tmp_path / "0.png")
    with pytest.raises(DataFormatError, match=r"no item of the (train|validation|test) split can be read"):
        open_source(str(tmp_path), SKIP)
    (tmp_path / "x.csv").write_text("a\nb\nc\nd\n")
    with pytest.raises(DataFormatError, match=r"none of its 3 rows can be read; the first: .*row 2"):
        open_source(str(tmp_path / "x.csv"), SKIP)
    np.save(tmp_path / "x.npy", np.zeros((20, 2)))
    for source in ("digits", str(tmp_path / "x.npy")):
        with pytest.raises(SettingsError, match="'skip_bad' does not fit: there are no files or rows to skip"):
            open_source(source, SKIP)


def test_what_is_sound_but_does_not_fit_is_not_skipped(tmp_path):
    for k in range(4):
        np.save(tmp_path / f"{k}.npy", np.random.default_rng(k).normal(size=(30 if k else 5, 3)))
    with pytest.raises(DataFormatError, match=r"0\.npy: expected at least 20 points; got 5"):
        open_source(str(tmp_path), DataOptions(points=20, skip_bad=True))


def test_the_command_line_tells(tmp_path, capsys):
    from genus.cli.__main__ import main

    pictures(tmp_path / "p", 12)
    (tmp_path / "p" / "0003.png").write_bytes(b"not a picture")
    assert main(["data", str(tmp_path / "p"), "--out", str(tmp_path / "o.png")]) != 0
    assert "0003.png" in capsys.readouterr().err
    assert main(["data", str(tmp_path / "p"), "--skip-bad", "--out", str(tmp_path / "o.png")]) == 0
    assert "1 of 12 files skipped" in " ".join(capsys.readouterr().out.split())
    assert "1 of 12 files skipped." in describe(open_source(str(tmp_path / "p"), SKIP))["notes"]
