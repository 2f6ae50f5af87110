"""Mutated files and bombs: a sentence or a sound source, in seconds, in a gigabyte."""

import fuzzing
import pytest
from fuzzing import BOMBS, FORMATS, good_file, judge, mutated, prepare

from genus.data import pictures, shapes
from genus.geometry import mesh

DEAR = {
    "PNG of 64 Mpx with alpha", "JPEG of 64 Mpx, progressive", "NPZ of 512 MB zeros", "NPZ of 40 x 30 MB zeros",
    "NPZ of 31 MB zeros", "NPZ by bzip2", "NPZ of 60,000 members", "IDX.gz of 1 GB", "TSV.gz of 1 GB",
    "TSV.gz of one line", "TSV.gz of one column", "OBJ of 64 MB blank lines", "OBJ of great polygons",
    "OBJ of 64 MB vertices", "OBJ of 64 MB faces", "OBJ of one line", "OFF of 24 MB", "PLY of mixed polygons",
    "PLY of narrow polygons", "STL of 3 M faces", "XYZ of 100 MB", "GLB of 99,000 nodes", "GLB of 2 M nodes",
    "GLB of 8 MB lists", "CSV of a label of 100 kB",
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_are_read_or_refused_in_one_sentence(kind, tmp_path):
    path = prepare(tmp_path / "f", kind)
    path.write_bytes(good_file(kind))
    assert judge(path, kind) == "accepted"
    outcomes = []
    for seed in range(24):
        path.write_bytes(mutated(good_file(kind), kind, seed))
        outcomes.append(judge(path, kind))
    assert outcomes.count("refused") >= len(outcomes) / 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_a_thousand_mutated_files_of_each_format(kind):
    row = fuzzing.apart("run", kind, 1000)
    assert row["refused"] + row["accepted"] == 1000
    assert row["refused"] >= 400
    assert row["slowest"] < fuzzing.SECONDS
    assert row["peak"] < fuzzing.PEAK


@pytest.mark.parametrize("name", sorted(BOMBS.keys() - DEAR))
def test_small_bombs_are_refused(name, tmp_path):
    kind, make = BOMBS[name]
    path = prepare(tmp_path / "f", kind)
    make(path)
    assert judge(path, kind) == "refused"


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_seconds_and_less_than_a_gigabyte(name):
    row = fuzzing.apart("detonate", name, timeout=900)
    assert row["seconds"] < fuzzing.SECONDS
    assert row["peak"] < fuzzing.PEAK


def test_mutations_change_the_file_and_follow_their_seeds():
    for kind in FORMATS:
        content = good_file(kind)
        files = [mutated(content, kind, seed) for seed in range(8)]
        assert content not in files
        assert len(set(files)) >= 7
        assert files[3] == mutated(content, kind, 3)


def test_the_judge_sees_a_reader_without_its_checks(tmp_path, monkeypatch):
    path = prepare(tmp_path / "f", "obj")

    def outcomes():
        for seed in range(60):
            path.write_bytes(mutated(good_file("obj"), "obj", seed))
            judge(path, "obj")

    outcomes()
    monkeypatch.setattr(mesh, "check_mesh", lambda vertices, faces, where: None)
    with pytest.raises(Exception, match=r".") as caught:
        outcomes()
    assert not isinstance(caught.value, fuzzing.DataFormatError)


def test_the_judge_sees_a_bare_error_and_a_sentence_without_a_place(tmp_path, monkeypatch):
    path = prepare(tmp_path / "f", "png")
    path.write_bytes(good_file("png"))
    monkeypatch.setattr(pictures, "_square", lambda picture, size: [][0])
    with pytest.raises(IndexError):
        judge(path, "png")
    path = prepare(tmp_path / "folder", "xyz")

    path.write_bytes(good_file("xyz"))

    def nameless(path):
        raise fuzzing.DataFormatError("this is damaged.")

    monkeypatch.setattr(shapes, "_read", nameless)
    with pytest.raises(AssertionError, match="damaged"):
        judge(path, "xyz")
