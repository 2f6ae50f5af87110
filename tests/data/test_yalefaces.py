"""The Yale faces: real ones where the data home has them, malformed archives anywhere."""

import io
import lzma
import os
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from genus.data import DataOptions, Source, open_source, yalefaces
from genus.errors import DataFormatError
from genus.kinds import Grid

HOME = Path(os.environ.get("GENUS_DATA", "/nonexistent"))
needs_faces = pytest.mark.skipif(not (HOME / yalefaces.ARCHIVE).is_file(), reason="needs $GENUS_DATA/yalefaces")


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source("yalefaces")


@needs_faces
def test_every_photograph_is_there_once(source: Source) -> None:
    assert source.domain == Grid(1, (64, 64))
    assert [len(split) for split in source.splits.values()] == [125, 15, 15]
    pictures = torch.cat([split.x for split in source.splits.values()]).flatten(1)
    assert len(pictures.unique(dim=0)) == 155  # nothing is in two splits, or twice in one
    for name in ("validation", "test"):
        assert source.splits[name].condition.tolist() == list(range(15))  # one of each person
    assert source.train.condition.bincount().min() == 8


@needs_faces
def test_attributes_are_what_the_pictures_show(source: Source) -> None:
    splits = source.splits.values()
    glasses, light, expression, person = (
        torch.cat([split.condition if name == "person" else split.attributes[name] for split in splits])
        for name in ("glasses", "light", "expression", "person")
    )
    assert expression.bincount().tolist() == [155 - 15 * 5 + 1, 15, 14, 15, 15, 15]  # person 4 was not caught sad
    assert light.bincount().tolist() == [155 - 44, 14, 15, 15]
    assert person[glasses == 1].bincount(minlength=15).tolist() == [1, 1, 1, 1, 1, 1, 1, 9, 1, 1, 1, 1, 10, 4, 1]
    x = torch.cat([split.x for split in splits]).float()[..., 20:44, :]
    brighter_left = x[..., 8:32].mean((1, 2, 3)) > x[..., 32:56].mean((1, 2, 3))
    left, right = (brighter_left[light == source.attributes["light"].index(side)] for side in ("left", "right"))
    assert left.float().mean() > 0.9 and right.float().mean() < 0.1


@needs_faces
def test_faces_lie_on_each_other(source: Source) -> None:
    """The mean face of half the people resembles that of the others, eyes on eyes; not so where faces are shifted."""
    x = torch.cat([split.x for split in source.splits.values()]).double().squeeze(1)
    ordinary = torch.cat([split.attributes["light"] for split in source.splits.values()]) == 0
    person = torch.cat([split.condition for split in source.splits.values()])

    def likeness(turned: torch.Tensor) -> float:
        odd, even = (turned[ordinary & (person % 2 == k)].mean(0)[12:52, 12:52].flatten() for k in (0, 1))
        return float(torch.corrcoef(torch.stack([odd, even]))[0, 1])

    shifted = torch.stack([face.roll((7 * k % 25 - 12, 11 * k % 25 - 12), (0, 1)) for k, face in enumerate(x)])
    assert likeness(x) > 0.9 > likeness(shifted)


@needs_faces
def test_any_size() -> None:
    small = open_source("yalefaces", DataOptions(size=32, limit=10))
    assert small.domain == Grid(1, (32, 32)) and small.name == "yalefaces (32x32, first 10 of each split)"
    assert set(small.train.attributes) == {"expression", "glasses", "light"}


def test_without_the_archive_a_sentence_says_where_to_put_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    with pytest.raises(DataFormatError, match=r"no file yalefaces/.*GENUS_DATA"):
        open_source("yalefaces", DataOptions(download=True))


def picture(size: tuple[int, int] = yalefaces.PHOTOGRAPH, level: int = 0, kind: str = "gif") -> bytes:
    out = io.BytesIO()
    Image.new("L", size, level).save(out, kind)
    return out.getvalue()


def pack(path: Path, contents: dict[str, bytes]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz", preset=0) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path.read_bytes()


def everyone() -> dict[str, bytes]:
    names = [f"subject{n:02d}.{shot}" for n, row in enumerate(yalefaces._centres(), 1) for shot in row]
    return {name: picture(level=k) for k, name in enumerate(names)}


def test_malformed_archives_are_one_typed_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    path = tmp_path / yalefaces.ARCHIVE
    good = everyone()
    whole = pack(path, good)
    assert [len(split) for split in open_source("yalefaces").splits.values()] == [134, 15, 15]  # nothing twice here
    one = "subject05.sad"
    for content, sentence in {
        b"no archive": "not a readable tar.xz",
        whole[: len(whole) // 2]: "not a readable tar.xz",
        lzma.compress(b"no tar" * 1000): "not a readable tar.xz",
        pack(path, {name: c for name, c in good.items() if name != one}): f"holds no {one}",
        pack(path, good | {one: b"GIF89a no"}): f"{one}: not a readable GIF",
        pack(path, good | {one: picture(kind="png")}): f"{one}: not a readable GIF",
        pack(path, good | {one: picture((100, 100))}): "320 x 243 pixels; got 100 x 100",
        pack(path, good | {one: bytes(2 << 20)}): "larger than 1,024 KiB",
    }.items():
        path.write_bytes(content)
        with pytest.raises(DataFormatError) as caught:
            open_source("yalefaces")
        assert sentence in str(caught.value)


def test_a_photograph_of_two_names_is_taken_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    good = everyone()
    pack(tmp_path / yalefaces.ARCHIVE, good | {"subject03.noglasses": good["subject03.normal"]})
    source = open_source("yalefaces")
    assert sum(map(len, source.splits.values())) == 163
    x = torch.cat([split.x for split in source.splits.values()]).flatten(1)
    assert len(x.unique(dim=0)) == 163
