"""genus interpolate, traverse, arithmetic and edit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genus.cli.__main__ import main

COMMANDS = ("interpolate", "traverse", "arithmetic", "edit")


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def trained(folder: Path, model: str, data: str, *more: str) -> Path:
    path = folder / f"{model}-{data}"
    assert main(["train", model, "--data", data, "--out", str(path), "--quiet", *more]) == 0
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "vae": trained(folder, "vae", "glyphs", "--size", "8", "--limit", "200", "--steps", "3"),
        "markov": trained(folder, "markov", "digits", "--conditional", "--limit", "200"),
        "maf": trained(folder, "maf", "moons", "--limit", "200", "--steps", "3", "--conditional"),
    }


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


@pytest.mark.parametrize(
    ("arguments", "name", "line"),
    [
        (("interpolate", "--items", 3, 17, 4, 5), "interpolate-spherical-3-17-4-5", "3 to 17, 4 to 5"),
        (("interpolate", "--count", 2, "--method", "linear"), "interpolate-linear-seed-0", "rows: "),
        (("traverse", "--item", 3, "--directions", 2), "traverse-item-3", "standard deviation"),
        (("traverse", "--directions", 2), "traverse-mean", "latent "),
        (
            ("arithmetic", "--minus", "weight=regular", "--plus", "weight=bold", "--scale", 0, 1),
            "arithmetic-weight=bold-minus-weight=regular",
            "rows: the originals, then scales 0, 1",
        ),
        (
            ("arithmetic", "--minus", "rotation<0", "--plus", "rotation>0", "--to", 3, 4),
            "arithmetic-rotation-above-0-minus-rotation-below-0-to-3-4",
            "columns: test items 3, 4",
        ),
    ],
)
def test_latents_of_pictures(runs, capsys, arguments, name, line) -> None:
    command, *rest = arguments
    text = said(capsys, command, runs["vae"], *rest)
    path = runs["vae"] / "explore" / f"{name}.png"
    assert text.rstrip().endswith(str(path)) and line in text
    assert pixels(path).shape[1] > 100


def test_the_ends_of_a_row_are_the_data(runs, capsys, tmp_path) -> None:
    from genus.training import Run

    said(capsys, "interpolate", runs["vae"], "--items", 3, 17, "--steps", 4, "--out", tmp_path / "row.png")
    row = pixels(tmp_path / "row.png")[..., 0]
    x = Run(runs["vae"]).source.test.x[[3, 17], 0].numpy()
    side = row.shape[0]
    for tile, picture in ((row[:, :side], x[0]), (row[:, -side:], x[1])):
        small = tile[side // 16 :: side // 8, side // 16 :: side // 8]
        assert np.abs(small - picture).max() <= 24  # a palette may cost a little


def test_completions_keep_what_they_should(runs, capsys, tmp_path) -> None:
    said(capsys, "edit", runs["markov"], "--items", 3, 7, "--count", 2, "--out", tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    scale, gap = 22, 11  # pixels of a pixel, and between tiles
    centres = [tile * (8 * scale + gap) + scale * pixel + scale // 2 for tile in range(4) for pixel in range(8)]
    small = sheet[centres[:16]][:, centres].reshape(2, 8, 4, 8, 3).transpose(0, 2, 1, 3, 4)  # row, column of the sheet
    originals, kept, completions = small[:, :1], small[:, 1], small[:, 2:]
    assert np.abs(completions - originals)[:, :, :4].max() <= 48  # a palette may cost a little, twice
    assert np.abs(completions - originals)[:, :, 4:].max() > 100
    assert np.abs(kept - originals[:, 0])[:, :4].max() <= 48
    assert np.abs(kept[:, 4:] - (196, 203, 214)).max() <= 24
    assert "kept: 32 of 64" in said(capsys, "edit", runs["markov"], "--keep", "first", "--rows", 1)


def test_tables_and_conditional_runs(runs, capsys) -> None:
    for command, *rest in (
        ("interpolate",),
        ("traverse",),
        ("arithmetic", "--minus", "label=upper", "--plus", "label=lower"),
    ):
        path = said(capsys, command, runs["maf"], *rest).splitlines()[-1]
        assert pixels(path).shape[1] > 100


def test_mistakes_are_one_sentence(runs, capsys, tmp_path) -> None:
    vae, markov = runs["vae"], runs["markov"]
    for arguments, sentence in {
        ("interpolate", markov): "markov cannot encode",
        ("traverse", markov): "markov cannot encode",
        ("arithmetic", markov, "--minus", "label=1", "--plus", "label=2"): "markov cannot encode",
        ("edit", vae): "vae cannot edit",
        ("interpolate", vae, "--items", 3): "expected two for each row",
        ("interpolate", vae, "--items", 3, 999): "items 0..199",
        ("interpolate", vae, "--count", 0): "--count: expected 1 or more",
        ("interpolate", vae, "--steps", 1): "at least 2",
        ("traverse", vae, "--item", -1): "item -1",
        ("traverse", vae, "--directions", 0): "one direction or more",
        ("arithmetic", vae, "--minus", "weight=thin", "--plus", "weight=bold"): "one of regular, bold",
        ("arithmetic", vae, "--minus", "size=1", "--plus", "weight=bold"): "expected one of family, weight",
        ("arithmetic", vae, "--minus", "label=A", "--plus", "label=B", "--to", "label=C", "label=D"): "or one group",
        ("edit", markov, "--keep", "box=1"): "box=TOP,LEFT,BOTTOM,RIGHT",
        ("edit", tmp_path): "config.json",
    }.items():
        text = said(capsys, *arguments, code=1)
        assert sentence in text and text.count("\n") == 1, text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick(command: str) -> None:
    program = (
        "import sys\nfrom genus.cli.__main__ import main\n"
        f"try:\n    main(['{command}', '--help'])\nexcept SystemExit:\n    sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and f"genus {command} runs/" in done.stdout
