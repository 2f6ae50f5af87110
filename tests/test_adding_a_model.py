"""docs/adding-a-model.md, followed to the letter in a copy of the package."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import genus

PAGE = Path(__file__).parent.parent / "docs" / "adding-a-model.md"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of genus that has the page's model in it."""
    folder = tmp_path_factory.mktemp("stranger")
    shutil.copytree(Path(genus.__file__).parent, folder / "genus", ignore=shutil.ignore_patterns("__pycache__"))
    block = re.search(r"```python\n# src/(genus/models/\S+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block, "the page has lost its code block"
    file = folder / block[1]
    assert not file.exists(), f"{block[1]} exists already: give the page another example"
    file.write_text(block[2])
    return folder


def python(folder: Path, *arguments: str) -> str:
    """Run Python on the copy; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_registry_and_the_api_know_it(copy: Path) -> None:
    code = (
        "import genus, pathlib; from genus import registry;"
        "assert pathlib.Path(genus.__file__).is_relative_to(pathlib.Path.cwd()), genus.__file__;"
        "print(registry.family('factorized'), registry.get('factorized').__name__, genus.models.Factorized.__name__)"
    )
    assert python(copy, "-c", code).split() == ["autoregressive", "Factorized", "Factorized"]


def test_it_passes_every_check(copy: Path) -> None:
    said = python(copy, "-m", "genus", "verify", "factorized")
    assert "all checks passed" in said
    assert "total_mass" in said and "condition_changes_the_distribution" in said


def test_the_command_line_lists_it_and_explains_its_settings(copy: Path) -> None:
    row = next(line for line in python(copy, "-m", "genus", "models").splitlines() if line.startswith("factorized"))
    assert "autoregressive" in row and "=" in row
    assert "Standard deviation of the first logits" in python(copy, "-m", "genus", "train", "factorized", "--help")


def test_the_readme_table_has_it(copy: Path) -> None:
    table = python(copy, "-c", "from genus.report.capabilities import markdown; print(markdown())")
    assert "factorized" in table


def test_it_trains_on_data(copy: Path) -> None:
    python(copy, "-m", "genus", "train", "factorized", "--data", "digits", "--steps", "20", "--out", "run", "--quiet")
    assert list((copy / "run" / "checkpoints").iterdir())


def test_the_page_names_only_what_exists() -> None:
    text = PAGE.read_text()
    for file in re.findall(r"`(?:genus|tests)/[\w/]+\.py`", text):
        place = file.strip("`").replace("genus/", "src/genus/", 1) if file.startswith("`genus") else file.strip("`")
        assert (PAGE.parent.parent / place).exists(), file
    for module, name in re.findall(r"from (genus[\w.]*) import (\w+)", text):
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
