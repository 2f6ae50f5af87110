"""CIFAR-10 as JPEG: the real set where the data home has it, malformed archives anywhere."""

import io
import lzma
import os
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from genus.data import DataOptions, cifar10, open_source
from genus.data.packed import members
from genus.errors import DataFormatError
from genus.kinds import Grid

HOME = Path(os.environ.get("GENUS_DATA", "/nonexistent"))


@pytest.mark.skipif(not (HOME / cifar10.ARCHIVE).is_file(), reason="needs $GENUS_DATA/cifar10")
@pytest.mark.slow
def test_the_real_set() -> None:
    source = open_source("cifar10")
    assert [len(split) for split in source.splits.values()] == [45000, 5000, 10000]
    assert source.domain == Grid(3, (32, 32)) and "lossy" in source.notes
    for split in source.splits.values():
        assert split.condition is not None and len(split.condition.bincount().unique()) == 1
    mean = torch.cat([source.train.x, source.validation.x]).float().mean((0, 2, 3))
    torch.testing.assert_close(mean, torch.tensor([125.3, 122.9, 113.9]), atol=0.1, rtol=0)


def picture(level: int, size: int = 32, kind: str = "jpeg") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, size), (level, 0, 255 - level)).save(out, kind)
    return out.getvalue()


def few() -> dict[str, bytes]:
    """Three pictures of each kind for training, one for test."""
    return {
        f"{part}/{kind}/{number:04d}.jpg": picture(20 * k + number)
        for part, count in (("train", 3), ("test", 1))
        for k, kind in enumerate(cifar10.CLASSES)
        for number in range(count)
    }


def pack(path: Path, contents: dict[str, bytes]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz", preset=0) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path.read_bytes()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    monkeypatch.setattr(cifar10, "VALIDATION", 1)
    return tmp_path / cifar10.ARCHIVE


def test_a_small_set(archive: Path) -> None:
    pack(archive, {**few(), "README": b"no picture", "../train/cat/0009.jpg.txt": b"neither"})
    source = open_source("cifar10")
    assert [len(split) for split in source.splits.values()] == [20, 10, 10]
    assert source.validation.condition is not None and source.validation.condition.tolist() == list(range(10))
    assert source.validation.x[3, 0, 0, 0] == pytest.approx(62, abs=3)  # the third cat


def test_what_is_wrong_is_said(archive: Path) -> None:
    with pytest.raises(DataFormatError, match=r"no file cifar10/.*GENUS_DATA"):
        open_source("cifar10", DataOptions(download=True))
    whole, one = pack(archive, few()), "train/cat/0001.jpg"
    for content, sentence in {
        b"no archive": "not a readable tar.xz",
        whole[: len(whole) // 2]: "not a readable tar.xz",
        lzma.compress(bytes(40 << 20), preset=0): "inflate",
        pack(archive, {name: c for name, c in few().items() if "/dog/" not in name}): "expected pictures of each",
        pack(archive, few() | {one: b"\xff\xd8 no"}): "train/cat/0001.jpg: not a picture",
        pack(archive, few() | {one: picture(1, kind="png")}): "train/cat/0001.jpg: not a picture",
        pack(archive, few() | {one: picture(1, 64)}): "expected 32 x 32 pixels; got 64 x 64",
        pack(archive, few() | {one: bytes(1 << 17)}): "larger than 64 KiB",
    }.items():
        archive.write_bytes(content)
        with pytest.raises(DataFormatError) as caught:
            open_source("cifar10")
        assert sentence in str(caught.value)


def test_an_archive_has_a_bound(archive: Path) -> None:
    pack(archive, few())
    assert len(list(members(archive, lambda name: name.startswith("test/"), largest=1 << 16))) == 10
    with pytest.raises(DataFormatError, match="more than 0 MiB"):
        list(members(archive, lambda name: True, largest=1 << 16, most=1000))
