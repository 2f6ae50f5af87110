"""genus evaluate: runs as ever, and any folder of samples."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from genus.cli.__main__ import main
from genus.data import open_source
from genus.evaluate.dinov2 import _layer_shapes
from genus.prob import noise


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    assert (
        main(["train", "vae", "--data", "digits", "--steps", "5", "--limit", "60", "--out", str(path), "--quiet"]) == 0
    )
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twenty test digits as PNG."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, digit in enumerate(open_source("digits").test.x[:20, 0].numpy()):
        Image.fromarray(np.round(digit * (255 / 16)).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Seventy pictures of 12x12; seven of them are the test split."""
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(70):
        Image.fromarray(np.full((12, 12), 3 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["evaluate", *map(str, arguments)]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_a_folder_of_pictures_against_a_named_source(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = pictures.parent / "deep" / "scores.json"
    text = said(capsys, "--against", "digits", pictures, "--out", out)  # flags may come first
    assert "20 of each" in text and "rounded from 256 to the 17 levels" in text
    assert "Fréchet distance" in text and "uniform" in text and "memorisation: pictures:" in text
    card = json.loads(out.read_text())
    assert card["source"] == "digits" and card["rows"][0]["name"] == "pictures"
    assert not (pictures / "scores.json").exists()


def test_mistakes_are_one_sentence(run: Path, pictures: Path, large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = pictures.parent / "net.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, weights)
    against = (pictures, "--against", "digits")
    for arguments, sentence in {
        (pictures,): "is no run (it holds no config.json)",
        (pictures.parent / "none", "--against", "digits"): "no such file or folder",
        (pictures, "--against", "mnst"): "Did you mean 'mnist'?",
        (pictures, "--against", large): "give --size 12",
        (*against, "--num-samples", 5): "samples have none",
        (*against, "--count", 3): "at least 6 samples",
        (*against, "--features", "network.pth"): "may run code, refused",
        (*against, "--features", weights): "expected the weights of DINOv2",
        (*against, "--features", weights, "--features-sha256", "ab" * 32): "expected the SHA-256 abab",
        (*against, "--features-preset", "raw"): "go with --features FILE",
        (run, "--size", 8): "--size is how to read the data of --against",
        (run, "--against", large): "was trained on grid 1x8x8, 17 levels",
    }.items():
        error = said(capsys, *arguments, code=1).strip()
        assert sentence in error and "\n" not in error


def test_a_run_against_its_own_and_other_data(run: Path, large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "≤" in said(capsys, run, "--count", 20, "--pixels", "mode")  # the model's own options still count
    own = (run / "scores.json").read_text()
    text = said(capsys, run, "--against", "digits", "--count", 20)  # all of the digits: the run saw some
    assert "digits, test split" in text and "≤" in text
    assert (run / "scores.json").read_text() == own
    assert json.loads((run / "scores-against-digits.json").read_text())["source"] == "digits"
    out = large.parent / "there.json"
    assert "≤" in said(capsys, run, "--against", large, "--size", 8, "--out", out)
    assert json.loads(out.read_text())["source"] == "large (8x8, 17 levels)"
    for command in ("evaluate", "report"):
        with pytest.raises(SystemExit) as stop:
            main([command, str(run), "--help"])
        assert stop.value.code == 0
        shown = capsys.readouterr().out
        assert "--features-sha256" in shown and "--pixels" in shown
        assert ("--against" in shown) == (command == "evaluate")


def test_a_feature_network_is_named_by_its_hash(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    width = 64
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, 5, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    } | {f"encoder.layer.0.{name}": shape for name, shape in _layer_shapes(width).items()}
    weights = pictures.parent / "net.safetensors"
    save_file({k: 0.1 * noise.normal(v, noise.stream(k)).numpy() for k, v in shapes.items()}, weights)
    sha = hashlib.sha256(weights.read_bytes()).hexdigest()
    out = pictures.parent / "scores.json"
    arguments = ("--against", "digits", "--count", 8, "--features", weights, "--features-sha256", sha, "--out", out)
    text = said(capsys, pictures, *arguments)
    assert f"sha256: {sha}" in text and "pictures as for dinov2: 224x224" in text and "FID" not in text
    scores = {score["name"]: score["protocol"] for score in json.loads(out.read_text())["rows"][0]["scores"]}
    assert scores["Fréchet distance"]["weights sha256"] == sha
    assert scores["Fréchet distance"]["features"].startswith(f"dinov2 sha256:{sha[:16]}")
