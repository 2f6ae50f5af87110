"""genus interpolate, traverse, arithmetic, edit and reconstruct."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genus.cli.__main__ import main

COMMANDS = ("interpolate", "traverse", "arithmetic", "edit", "reconstruct")


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
        "digits": trained(folder, "vae", "digits", "--conditional", "--limit", "200", "--steps", "3"),
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
        (("traverse", "--directions", 2), "traverse-mean", "latent-"),
        (
            ("traverse", "--range", "prior", "--directions", 2, "--steps", 3),
            "traverse-prior-mean",
            "from the 1 % to the 99 % quantile of the prior, in steps of equal probability",
        ),
        (("traverse", "--plane", 4, 7, "--steps", 3), "plane-latent-4-latent-7-mean", "latent-7, standard deviation"),
        (("traverse", "--plane", "pca-1", "pca-2", "--item", 3, "--steps", 3), "plane-pca-1-pca-2-item-3", "pca-2, "),
        (("reconstruct", "--items", 3, 4), "reconstruct-3-4", "root mean square error of an entry: "),
        (("reconstruct", "--rows", 20), "reconstruct-seed-0", "20 test items, the first 16 shown"),
        (
            ("edit", "--move", "weight=bold", "--items", 3, 4, "--scale", 0.5, 1),
            "edit-weight=bold-3-4",
            "columns: originals, reconstructions, scale 0.5, scale 1",
        ),
        (
            ("edit", "--move", "weight=bold-regular:2", "pca-1:2", "latent-7:-3", "--items", 3),
            "edit-weight=bold-regular-2-pca-1-2-latent-7--3-3",
            "latent-7: -3 standard deviations",
        ),
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
    from genus.runs import Run

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


def tiles(path: Path, size: int, rows: int, columns: int) -> np.ndarray:
    """The grey pictures of a sheet, ``(rows, columns, size, size)``: the pixel in the middle of each enlarged one."""
    sheet = pixels(path)[..., 0]
    scale = next(s for s in range(1, 200) if rows * (size * s + max(2, s // 2)) - max(2, s // 2) == len(sheet))
    gap = max(2, scale // 2)
    assert sheet.shape[1] == columns * (size * scale + gap) - gap
    down, across = (
        [n * (size * scale + gap) + scale * pixel + scale // 2 for n in range(count) for pixel in range(size)]
        for count in (rows, columns)
    )
    return sheet[down][:, across].reshape(rows, size, columns, size).transpose(0, 2, 1, 3)


def as_shown(x: object, levels: int) -> np.ndarray:
    return (np.asarray(x) * (255 / (levels - 1))).round()[:, 0]


def test_originals_stand_above_their_reconstructions(runs, capsys, tmp_path) -> None:
    from genus.runs import Run

    text = said(capsys, "reconstruct", runs["digits"], "--items", 3, 17, 5, "--out", tmp_path / "sheet.png")
    run, sheet = Run(runs["digits"]), tiles(tmp_path / "sheet.png", 8, 2, 3)
    x, labels, _ = run.source.test.batch(torch.tensor([3, 17, 5]))
    again = run.model.decode(run.model.encode(x, condition=labels), condition=labels)
    assert np.abs(sheet[0] - as_shown(x, 17)).max() <= 24  # a palette may cost a little
    assert np.abs(sheet[1] - as_shown(again, 17)).max() <= 24
    assert np.abs(sheet[1] - sheet[0]).max() > 100
    rmse = (x.double() - again.double()).square().mean().sqrt()
    assert f"root mean square error of an entry: {rmse:.4g} of 16 levels" in text


def test_another_label_the_same_latents(runs, capsys, tmp_path) -> None:
    from genus.runs import Run

    text = said(capsys, "edit", runs["digits"], "--items", 3, 17, "--label", 0, 8, "--out", tmp_path / "sheet.png")
    run, sheet = Run(runs["digits"]), tiles(tmp_path / "sheet.png", 8, 2, 4)
    x, labels, _ = run.source.test.batch(torch.tensor([3, 17]))
    z = run.model.encode(x, condition=labels)
    for column, condition in ((1, labels), (2, torch.tensor([0, 0])), (3, torch.tensor([8, 8]))):
        assert np.abs(sheet[:, column] - as_shown(run.model.decode(z, condition=condition), 17)).max() <= 24
    assert "columns: originals, reconstructions, label 0, label 8" in text
    both = said(capsys, "edit", runs["digits"], "--rows", 1, "--label", 3, "--move", "pca-1", "--scale", -1, 1)
    assert "label 3 at scale -1, label 3 at scale 1" in both


def test_your_own_picture_goes_through_a_run(runs, capsys, tmp_path) -> None:
    ramp = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (60, 1))
    Image.fromarray(np.stack([ramp, ramp, ramp], 2)).save(tmp_path / "me.jpg")
    own = ("--picture", tmp_path / "me.jpg", "--out", tmp_path / "sheet.png")
    said(capsys, "reconstruct", runs["digits"], *own, "--picture-label", 3)
    shown = tiles(tmp_path / "sheet.png", 8, 2, 1)[0, 0]
    assert np.abs(shown - np.linspace(12, 243, 8)).max() < 24  # greyed, cut, resized, in 17 levels
    text = said(capsys, "edit", runs["vae"], *own, "--move", "pca-1:2")
    assert "rows: me.jpg" in text
    said(capsys, "edit", runs["markov"], *own, "--picture-label", 3, "--count", 2)
    assert np.abs(tiles(tmp_path / "sheet.png", 8, 1, 4)[0, 0] - shown).max() <= 24


def test_a_plane_of_a_conditional_run_has_one_label(runs, capsys) -> None:
    text = said(capsys, "traverse", runs["digits"], "--plane", "--steps", 3, "--label", 3)
    assert text.splitlines()[-1].endswith("-mean-3.png") and text.count("standard deviation") == 2


def test_tables_and_conditional_runs(runs, capsys) -> None:
    for command, *rest in (
        ("interpolate",),
        ("traverse",),
        ("arithmetic", "--minus", "label=upper", "--plus", "label=lower"),
        ("edit", "--move", "label=upper-lower"),
        ("reconstruct",),
        ("traverse", "--range", "prior"),
    ):
        path = said(capsys, command, runs["maf"], *rest).splitlines()[-1]
        assert pixels(path).shape[1] > 100


def test_mistakes_are_one_sentence(runs, capsys, tmp_path) -> None:
    vae, markov, digits, picture = runs["vae"], runs["markov"], runs["digits"], tmp_path / "picture.png"
    Image.new("L", (8, 8)).save(picture)
    for arguments, sentence in {
        ("interpolate", markov): "markov cannot encode",
        ("traverse", markov): "markov cannot encode",
        ("arithmetic", markov, "--minus", "label=1", "--plus", "label=2"): "markov cannot encode",
        ("edit", vae): "give --move",
        ("edit", vae, "--keep", "top"): "vae cannot edit",
        ("edit", vae, "--move", "pca-1", "--keep", "top"): "give flags of one kind",
        ("edit", vae, "--scale", 1): "expected --move, too",
        ("edit", vae, "--move", "pca-99"): "pca-1..20",
        ("edit", vae, "--move", "weight=thin"): "one of regular, bold",
        ("edit", vae, "--move", "weight=bold:much"): "a finite number",
        ("edit", vae, "--label", "A"): "train it with --conditional",
        ("edit", digits, "--label", "x"): "expected one of 0, 1",
        ("edit", markov, "--move", "pca-1"): "markov cannot encode",
        ("edit", vae, "--move", "pca-1", "--picture", tmp_path / "none.png"): "no such file",
        ("edit", vae, "--move", "pca-1", "--picture", "a.png", "--items", 3): "give one of them",
        ("edit", vae, "--move", "pca-1", "--picture-label", "A"): "expected --picture",
        ("reconstruct", digits, "--picture", picture): "give the pictures'",
        ("reconstruct", vae, "--picture", picture, "--picture-label", "A"): "train it with --conditional",
        ("reconstruct", runs["maf"], "--picture", picture): "in grey or colour",
        ("reconstruct", markov): "markov cannot encode",
        ("traverse", vae, "--plane", 3): "expected two latents, or none",
        ("traverse", vae, "--plane", 3, 3): "at right angles",
        ("traverse", vae, "--plane", 3, 20): "latent-0..19",
        ("traverse", vae, "--plane", "--reach", 2): "go by quantiles",
        ("traverse", vae, "--plane", "--directions", 2): "a plane has two directions",
        ("traverse", vae, "--plane", "--steps", 1): "at least 2",
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
