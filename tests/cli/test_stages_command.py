"""Two stages from the command line: trained, sampled, scored, shown; their codes as data."""

from pathlib import Path

import pytest

from genus.cli.__main__ import main
from genus.compare import compare
from genus.runs import open_run

TINY = ["--limit", "60", "--quiet", "--vae.hidden", "8", "--vae.latent-features", "3", "--vae.batch-size", "20"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    more = ["--steps", "8", "--conditional", "--realnvp.batch-size", "20", "--realnvp.hidden", "8", "--out", str(out)]
    assert main(["train", "vae+realnvp", "--data", "digits", *TINY, *more]) == 0
    return out


def test_every_command_takes_the_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(trained)
    options = ["--label", "3", "--temperature", "0.5", "--pixels", "mode"]
    assert main(["sample", run, "--count", "4", *options]) == 0
    assert main(["evaluate", run, "--limit", "10", "--count", "12"]) == 0
    said = capsys.readouterr().out
    assert "vae+realnvp" in said and "≤" in said
    assert main(["interpolate", run, "--items", "3", "7"]) == 0


@pytest.mark.slow
def test_the_report_is_of_both(trained: Path) -> None:
    assert main(["report", str(trained), "--limit", "10", "--count", "12"]) == 0
    page = (trained / "report.html").read_text()
    assert "vae+realnvp on digits" in page and "loss against training step" in page
    assert {"train/vae/loss", "train/loss"} <= {key for record in open_run(trained).metrics for key in record}


def test_codes_are_shown_and_trained_on(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", f"run:{trained}", "--out", str(tmp_path / "codes.png")]) == 0
    said = capsys.readouterr().out
    assert "vectors of 3 features" in said and "codes of vae-" in said
    assert (tmp_path / "codes.png").stat().st_size > 0
    out = tmp_path / "maf"
    line = [
        "train",
        "maf",
        "--data",
        f"run:{trained}",
        "--steps",
        "2",
        "--quiet",
        "--out",
        str(out),
        "--batch-size",
        "20",
    ]
    assert main(line) == 0
    assert main(["data", f"run:{trained}", "--size", "3"]) == 1
    assert "does not fit codes" in capsys.readouterr().err


def test_help_lists_the_flags_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "vae+realnvp", "--help"])
    said = capsys.readouterr().out
    for flag in ("--vae.latent-features", "--realnvp.couplings", "--vae.learning-rate", "--realnvp.steps", "--share"):
        assert flag in said
    with pytest.raises(SystemExit):
        main(["train", "vae+vae", "--help"])
    assert "--second.latent-features" in capsys.readouterr().out


def test_refusals_are_one_sentence(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line, said in (
        (["train", "realnvp+vae", "--data", "digits"], "HasPosterior"),
        (["train", "vae+realnvp"], "what to train on"),
        (["train", "vae+realnvp", "--first", str(trained / "second")], "a run of realnvp"),
        (["compress", str(trained), "--split", "test", "--limit", "3"], "compress"),
    ):
        assert main(line) == 1
        told = capsys.readouterr().err.strip()
        assert said in told and "\n" not in told


@pytest.mark.slow
def test_two_stages_take_part_in_a_comparison(tmp_path: Path) -> None:
    reports = compare(["vae+realnvp", "histogram"], "digits", out=tmp_path, steps=8, count=20, quiet=True, limit=60)
    assert [report.scorecard.model.name for report in reports] == ["vae+realnvp", "histogram"]
    assert (tmp_path / "report.html").exists()
