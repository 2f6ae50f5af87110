"""genus compress and genus decompress."""

from pathlib import Path

import numpy as np
import pytest

from genus.cli.__main__ import main
from genus.data import open_source


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "markov", "--data", "digits", "--out", str(path), "--quiet"]) == 0
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_a_file_there_and_back(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = open_source("digits").test.x.numpy()
    np.save(tmp_path / "x.npy", x[:, 0])
    text = said(capsys, "compress", run, tmp_path / "x.npy")
    for row in ("this file", "-log2 p(x)", "raw, 5 bits", "PNG, a file each", "WebP lossless, one sheet", "xz -9"):
        assert row in text
    packed = tmp_path / "x.npy.gnsz"
    assert f"{packed.stat().st_size:,}" in text and "gap: +" in text
    said(capsys, "decompress", run, packed, "--out", tmp_path / "y.npy")
    assert np.array_equal(np.load(tmp_path / "y.npy", allow_pickle=False), x)
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "x.npy.gnsz", "y.npy"}
    assert "exists" in said(capsys, "decompress", run, packed, "--out", tmp_path / "y.npy", code=1)


def test_a_split_there_and_back(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "test.gnsz"
    text = said(capsys, "compress", run, "--split", "test", "--limit", 50, "--out", packed, "--no-rivals", "--block", 9)
    assert "PNG" not in text
    x = open_source("digits").test.x[:50].numpy()
    said(capsys, "decompress", run, packed)
    assert np.array_equal(np.load(tmp_path / "test.gnsz.npy", allow_pickle=False), x)


def test_mistakes_are_one_sentence(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 5, 5), np.uint8))
    (tmp_path / "bad.gnsz").write_bytes(b"PK" + bytes(100))
    for arguments, sentence in {
        ("compress", run): "one of the two",
        ("compress", run, tmp_path / "x.npy", "--split", "test"): "one of the two",
        ("compress", run, "--split", "test", "--limit", 0): "expected 1 or more",
        ("compress", run, tmp_path / "none.npy"): "no such file",
        ("compress", run, tmp_path / "x.npy"): "the run models grid 1x8x8, 17 levels",
        ("decompress", run, tmp_path / "none"): "no such file",
        ("decompress", run, tmp_path / "bad.gnsz"): "not a file that genus compress wrote",
        ("decompress", run, tmp_path / "bad.gnsz", "--out", tmp_path / "x.txt"): "ends in .npy",
    }.items():
        text = said(capsys, *arguments, code=1)
        assert sentence in text and text.count("\n") == 1, text
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "bad.gnsz"}


def test_a_model_with_a_bound_gets_bits_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, packed, out = tmp_path / "vae", tmp_path / "test.gnsz", tmp_path / "test.npy"
    training = ("--data", "digits", "--steps", "2", "--limit", "200", "--out", str(path), "--quiet")
    assert main(["train", "vae", *training]) == 0
    text = said(capsys, "compress", path, "--split", "test", "--limit", 20, "--out", packed, "--no-rivals")
    for words in ("of it initial bits", "-ELBO", "gap: +", "bits a datum"):
        assert words in text
    said(capsys, "decompress", path, packed, "--out", out)
    assert np.array_equal(np.load(out, allow_pickle=False), open_source("digits").test.x[:20].numpy())


def test_a_decoder_without_probabilities_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grey"
    training = ("--data", "digits", "--steps", "2", "--limit", "60", "--out", str(path), "--quiet")
    assert main(["train", "vae", "--decoder", "grey_bce", *training]) == 0
    assert "no probabilities" in said(capsys, "compress", path, "--split", "test", code=1)
