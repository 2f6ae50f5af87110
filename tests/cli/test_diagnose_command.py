"""genus diagnose, and its section in the report."""

import json
from pathlib import Path

import pytest
from PIL import Image

from genus.cli.__main__ import main


def trained(folder: Path, model: str, data: str, *more: str) -> Path:
    path = folder / f"{model}-{data}"
    assert main(["train", model, "--data", data, "--out", str(path), "--quiet", "--limit", "200", *more]) == 0
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    small = ("--hidden", "16", "--steps", "3", "--conditional")
    return {
        "vae": trained(folder, "vae", "digits", *small),
        "moons": trained(folder, "vae", "moons", "--latent-features", "2", *small),
        "markov": trained(folder, "markov", "digits"),
        "edm": trained(folder, "edm", "moons", "--width", "8", "--steps", "3"),
    }


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_numbers_pictures_and_warnings(runs, capsys) -> None:
    text = said(capsys, "diagnose", runs["vae"], "--items", 40, "--samples", 8)
    for line in ("active units", "information I(x; z)", "shuffled latents", "effective", "from p(z): plain"):
        assert line in text
    assert "warning: posterior collapse" in text  # after three steps no latent tells anything
    told = json.loads((runs["vae"] / "diagnosis.json").read_text())
    assert told["split"] == "test" and told["items"] == 40 and [p["draws"] for p in told["bound"]] == [1, 2, 4, 8]
    for name in ("diagnosis", "diagnosis-reconstructions"):
        with Image.open(runs["vae"] / "explore" / f"{name}.png") as picture:
            assert picture.width > 400
    assert said(capsys, "diagnose", runs["vae"], "--items", 40, "--samples", 8) == text


def test_two_latents_have_an_exact_value(runs, capsys, tmp_path) -> None:
    text = said(capsys, "diagnose", runs["moons"], "--items", 20, "--samples", 4, "--out", tmp_path / "x.png")
    assert "exact log p(x)" in text and "a grid of" in text and (tmp_path / "x-reconstructions.png").exists()


def test_the_curse_needs_no_run(capsys, tmp_path, monkeypatch) -> None:
    from genus.evaluate import curse

    kept = curse.curse
    monkeypatch.setattr(curse, "curse", lambda seed: kept((1, 8), draws=64, items=8, seed=seed))
    text = said(capsys, "diagnose", "--curse", "--out", tmp_path / "curse.svg")
    assert "latents" in text and (tmp_path / "curse.svg").read_bytes().startswith(b"<?xml")


def test_mistakes_are_one_sentence(runs, capsys) -> None:
    for arguments, sentence in {
        ("diagnose", runs["markov"]): "markov cannot be diagnosed: it does not sign HasPosterior",
        ("diagnose", "--items", 3): "path of a run folder, or --curse",
        ("diagnose", runs["vae"], "--curse"): "path of a run folder, or --curse",
        ("diagnose", runs["vae"], "--items", 1): "2 items or more",
        ("diagnose", runs["vae"], "--samples", 0): "1 draw or more",
    }.items():
        text = said(capsys, *arguments, code=1)
        assert sentence in text and text.count("\n") == 1, text


def test_the_report_has_the_section_where_there_is_a_posterior(runs, capsys) -> None:
    from genus.report.diagnosis import section_elements, section_of
    from genus.report.page import page
    from genus.runs import Run

    for name, heading in (("vae", True), ("moons", True), ("markov", False)):
        run = Run(runs[name])
        elements = section_elements(section_of(run.model, run.source.test), run.domain)
        assert ("What the bound hides" in page("a page", elements)) == heading
    assert "Warning: posterior collapse" in page("a page", section_elements(section_of(*of(runs["vae"])), domain(runs)))


def of(path: Path):
    from genus.runs import Run

    run = Run(path)
    return run.model, run.source.test


def domain(runs: dict[str, Path]):
    from genus.runs import Run

    return Run(runs["vae"]).domain


def test_samplers_of_a_diffusion_model_by_calls(runs, capsys) -> None:
    text = said(capsys, "diagnose", runs["edm"], "--items", 30, "--calls", 3, 9)
    told = json.loads((runs["edm"] / "samplers.json").read_text())
    found = [(point["sampler"], point["calls"]) for point in told["points"]]
    names = ("ancestral", "ddim", "ddim, eta 1", "dpm_solver", "dpm_solver, eta 1")
    one = [(name, calls) for name in names for calls in (3, 9)]
    assert found == [*one, ("heun", 3), ("heun", 9), ("runge_kutta", 9)]  # of three calls runge_kutta takes no step
    assert text.count("heun") == 2 and "training items" in text and "along the probability flow" in text
    with Image.open(runs["edm"] / "explore" / "samplers.png") as picture:
        assert picture.width > 400
    assert main(["report", str(runs["edm"]), "--count", "20"]) == 0
    page = (runs["edm"] / "report.html").read_text()
    assert "Samplers" in page and "30 samples to as many held-out items" in page


def test_damaged_curves_are_named(runs, capsys) -> None:
    path = runs["edm"] / "samplers.json"
    path.write_text('{"items": 3, "points": [{}]}')
    assert "samplers.json: expected the curves of samplers" in said(capsys, "report", runs["edm"], code=1)
    path.unlink()
