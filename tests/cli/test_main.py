"""The command line from outside: quick help, one-sentence errors, honest exit codes."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genus.cli.__main__ import COMMANDS, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "genus", *arguments], capture_output=True, text=True, timeout=300)


def test_help_does_not_import_torch_and_lists_every_command() -> None:
    program = "import sys; from genus.cli.__main__ import main; main(['--help']); sys.exit('torch' in sys.modules)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, "torch was imported"
    assert all(name in done.stdout for name in COMMANDS)
    assert time.monotonic() - began < 5  # a second on a quiet machine; benchmarks/ measures


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        try:
            code = main([name, "--help"])
        except SystemExit as stop:
            code = stop.code  # type: ignore[assignment]
        assert code == 0, name
        assert f"genus {name}" in capsys.readouterr().out


def test_unknown_commands_and_models_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "unknown command 'trian'" in (err := capsys.readouterr().err) and "Did you mean 'train'?" in err
    assert main(["xyzzy"]) == 2
    assert "Did you mean" not in capsys.readouterr().err
    assert main(["train", "vea", "--data", "digits"]) == 1
    assert "Did you mean 'vae'?" in capsys.readouterr().err


def bad_inputs(folder: Path) -> dict[str, Path]:
    """One malformed file of each kind."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(9):
        Image.new("L", (8, 8), number).save(pictures / f"{number}.png")
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"garbage")
    meshes = folder / "meshes"
    meshes.mkdir()
    for number in range(9):
        (meshes / f"{number}.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (meshes / "empty.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    lies = folder / "lies-idx3-ubyte"
    lies.write_bytes(bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (60000, 28, 28)) + bytes(100))
    objects = folder / "objects.npz"
    np.savez(objects, x=np.array([{"a": 1}], dtype=object))
    table = folder / "table.csv"
    table.write_text("a,b\n1,2\n3,nan\n" + "5,6\n" * 20)
    return {"broken.png": pictures, "empty.obj": meshes, lies.name: lies, objects.name: objects, table.name: table}


def test_malformed_input_is_one_sentence_that_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for named, path in bad_inputs(tmp_path).items():
        assert main(["train", "vae", "--data", str(path), "--out", str(tmp_path / "run"), "--steps", "1"]) == 1
        said = capsys.readouterr().err.strip()
        assert named in said and "\n" not in said and "Traceback" not in said
        assert not (tmp_path / "run").exists()


def test_the_main_job(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run("train", "vae", "--data", "digits", "--steps", "30", "--limit", "100", "--out", str(out), "--report")
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    done = run("sample", str(out), "--count", "9")
    assert done.returncode == 0, done.stderr
    assert all(Path(line).exists() for line in done.stdout.split())
    done = run("evaluate", str(out))
    assert done.returncode == 0, done.stderr
    assert "≤" in done.stdout and "histogram" in done.stdout
    assert run("sample", str(tmp_path)).returncode == 1
