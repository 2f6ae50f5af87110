"""docs/adding-a-kind.md, followed to the letter in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import genus
from genus.kinds import Domain

PAGE = Path(__file__).parent.parent / "docs" / "adding-a-kind.md"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of genus that has the page's kind in it, and a file of winds from two directions."""
    folder = tmp_path_factory.mktemp("stranger")
    shutil.copytree(Path(genus.__file__).parent, folder / "genus", ignore=shutil.ignore_patterns("__pycache__"))
    block = re.search(r"```python\n# src/(genus/kinds/\S+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block, "the page has lost its code block"
    file = folder / block[1]
    assert not file.exists(), f"{block[1]} exists already: give the page another example"
    file.write_text(block[2])
    random = np.random.default_rng(0)
    north = random.normal(0, 12, (600, 1)) % 360  # on both sides of the seam
    np.savetxt(folder / "winds.deg", np.hstack([north, random.normal(200, 20, (600, 1))]), "%.3f")
    return folder


def python(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Run Python on the copy; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(copy: Path) -> Path:
    """A run of an existing model on the page's kind."""
    python(copy, "-m", "genus", "train", "maf", "--data", "winds.deg", "--steps", "40", "--out", "run", "--quiet")
    return copy / "run"


def test_a_file_is_read_and_drawn(copy: Path) -> None:
    told = python(copy, "-m", "genus", "data", "winds.deg")
    assert re.search(r"domain +2 angles", told) and re.search(r"train items +480", told)
    assert (copy / "runs" / "winds.png").stat().st_size > 5000


def test_a_file_that_is_none_of_it_is_refused_in_a_sentence(copy: Path) -> None:
    (copy / "broken.deg").write_text("north south\n")
    told = python(copy, "-m", "genus", "data", "broken.deg", fails=True)
    assert "broken.deg: could not convert string 'north' to float" in told and "Traceback" not in told


def test_models_are_checked_on_it(copy: Path) -> None:
    said = python(copy, "-m", "genus", "verify", "maf")
    assert "all checks passed" in said
    code = "from genus.testing.subjects import subjects; from genus import registry;"
    code += "print(*(s.domain.kind for s in subjects(registry.get('maf'))))"
    assert "angles" in python(copy, "-c", code).split()


def test_it_is_compared_on_the_circle(copy: Path) -> None:
    code = (
        "import torch; from genus.kinds.angles import Angles; domain = Angles(1);"
        "x = torch.tensor([[359.0], [1.0], [181.0]]); metric = domain.metric(lambda: x, 0); ready = metric.prepare(x);"
        "print(*metric.between(ready, ready)[0].tolist(), domain.error(x[:1], x[1:2]))"
    )
    same, near, far, *error = python(copy, "-c", code).split()
    assert float(near) < 0.1 * float(far) and float(same) < 1e-3
    assert " ".join(error) == "mean difference of an angle: 2 degrees"


def test_it_trains_samples_scores_and_reports(copy: Path, run: Path) -> None:
    assert json.loads((run / "data.json").read_text())["domain"]["kind"] == "angles"
    told = python(copy, "-m", "genus", "sample", "run", "--count", "20", "--out", "some")
    assert "some.png" in told and np.load(copy / "some.npz")["x"].shape == (20, 2)
    told = python(copy, "-m", "genus", "evaluate", "run")
    assert "Gaussian" in told and "copied share" in told
    scores = (run / "scores.json").read_text()
    assert "circle-pca-4/winds.deg" in scores and "root mean square difference of features" in scores
    python(copy, "-m", "genus", "report", "run")
    page = (run / "report.html").read_text()
    assert "maf on winds.deg" in page and page.count("data:image/png") >= 1


def test_samples_from_anywhere_are_compared_with_it(copy: Path, run: Path) -> None:
    np.save(copy / "theirs.npy", np.random.default_rng(1).normal([0, 200], [12, 20], (60, 2)))
    told = python(copy, "-m", "genus", "evaluate", "theirs.npy", "--against", "winds.deg")
    assert "2 angles" in told and "Fréchet distance" in told


def test_the_page_names_only_what_exists() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(names) > 20
    for name in names:
        assert hasattr(Domain, name) or name in Domain.__annotations__, f"Domain has no {name}"


def test_the_page_names_everything() -> None:
    text = PAGE.read_text()
    asked = {name for name in (*vars(Domain), *Domain.__annotations__) if not name.startswith("_")}
    missing = sorted(name for name in asked - {"discrete", "num_dims", "states", "to_json"} if f"`{name}`" not in text)
    assert not missing, f"the page does not name {', '.join(missing)}"
