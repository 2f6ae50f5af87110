"""`genus chain` from outside: forecasts, flags, refusals; and a text from training to samples."""

import re
from pathlib import Path

import pytest

from genus.cli.__main__ import main


def weather(folder: Path) -> Path:
    """A table whose counts are exactly 7 : 3 after sun and 6 : 2 after rain."""
    days = ["sunny"] * 8 + (["rainy"] * 4 + ["sunny"]) * 2 + ["rainy"]
    path = folder / "weather.csv"
    path.write_text("day,weather\n" + "".join(f"{n},{day}\n" for n, day in enumerate(days)))
    return path


def test_a_forecast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["chain", str(weather(tmp_path)), "--column", "weather", "--out", str(tmp_path / "w.png")]
    assert main([*line, "--start", "sunny=0.8,rainy=0.2", "--after", "2"]) == 0
    said = capsys.readouterr().out
    assert "after 2 steps: rainy 47.55 %, sunny 52.45 %" in said
    assert "rainy 54.55 %, sunny 45.45 %" in said and re.search("irreducible +yes", said)
    assert (tmp_path / "w.png").read_bytes()[:4] == b"\x89PNG"
    assert main([*line, "--after", "2"]) == 0
    assert "0.5650" in capsys.readouterr().out  # 0.7^2 + 0.3 * 0.25
    assert main([*line, "--start", "sunny"]) == 0
    assert "after 1 step: rainy 30.00 %, sunny 70.00 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abcabcabca", "no: period 3"),
        ("abcabcabca", "there is no limit: the chain is periodic"),
        ("aab" + "bb", "{b} never left once entered; a left for good one day"),
    ],
)
def test_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    assert main(["chain", str(tmp_path / "t.txt"), "--out", str(tmp_path / "t.png")]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--start", "snow=1"], "the states are rainy, sunny"),
        (["--start", "sunny=x"], "expected a probability for 'sunny'; got 'x'"),
        (["--start", "sunny=0.8"], "probabilities that sum to 1"),
        (["--after", "-1"], "expected 0 steps or more"),
        (["--smoothing", "-1"], "pseudo-counts of 0 or more"),
        (["--by", "town"], "there is none called 'town'"),
    ],
)
def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str) -> None:
    line = ["chain", str(weather(tmp_path)), "--column", "weather", "--out", str(tmp_path / "w.png")]
    assert main([*line, *more]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not (tmp_path / "w.png").exists()


def bottles(folder: Path) -> list[str]:
    """Train on a text; the command's arguments for the run."""
    book, run = folder / "book.txt", folder / "run"
    book.write_text("".join(f"{n} green bottles hanging on the wall,\n" for n in range(300)))
    order = ["train", "markov", "--order", "2", "--data", str(book), "--length", "40", "--out", str(run), "--quiet"]
    assert main([*order, "--no-report"]) == 0
    return [str(run)]


def test_a_text_from_training_to_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", *bottles(tmp_path), "--count", "3"]) == 0
    paths = capsys.readouterr().out.split()[-3:]
    assert [Path(path).suffix for path in paths] == [".png", ".npz", ".txt"]
    written = Path(paths[2]).read_text()
    assert written.count("---\n") == 3 and "gree" in written


@pytest.mark.slow
def test_a_text_has_scores_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = bottles(tmp_path)
    assert main(["evaluate", *run]) == 0
    said = capsys.readouterr().out
    assert "bits/dim" in said and "histogram" in said
    assert main(["report", *run]) == 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
