"""A run that is killed and started again ends in the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genus import registry
from genus.training import checkpoint

STEPS = 60
SETTINGS = {
    "nade": ["--hidden", "32"],
    "vae": ["--hidden", "32", "--kl-warmup", "0.5"],
    "realnvp": [],
    "ddpm": ["--timesteps", "10"],
    "dcgan": [],
    "point_diffusion": ["--timesteps", "10"],
    "histogram": [],
    "markov": [],
}
QUICK = ("vae", "dcgan")


def command(model: str, out: Path) -> list[str]:
    data = "furniture" if model == "point_diffusion" else "digits"
    length = ["--steps", str(STEPS), "--batch-size", "16", "--limit", "200"]
    return [sys.executable, "-m", "genus", "train", model, "--data", data, "--out", str(out), "--no-report",
            "--quiet", "--checkpoint-seconds", "0", *length, *SETTINGS[model]]  # fmt: skip


def files(run: Path) -> dict[str, bytes]:
    """Everything of a finished run that must not depend on how often it was stopped."""
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    kept = [*newest.glob("*.safetensors"), newest / "state.json", run / "metrics.jsonl"]
    return {path.name: path.read_bytes() for path in kept if path.exists()}


def kill_in_the_middle(model: str, out: Path) -> None:
    process = subprocess.Popen(command(model, out))
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if any(10 < step < STEPS for step in checkpoint.steps(out / "checkpoints")):
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait(timeout=60) == -signal.SIGKILL, "the run was not stopped in its middle"


def check_resume(model: str, tmp_path: Path) -> None:
    subprocess.run(command(model, tmp_path / "whole"), check=True)
    if model in ("histogram", "markov"):  # over before it can be stopped; the same again must change nothing
        subprocess.run(command(model, tmp_path / "stopped"), check=True)
    else:
        kill_in_the_middle(model, tmp_path / "stopped")
    subprocess.run(command(model, tmp_path / "stopped"), check=True)
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


@pytest.mark.parametrize("model", QUICK)
def test_killed_run_resumes_exactly(model: str, tmp_path: Path) -> None:
    check_resume(model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model", [name for name in registry.names() if name not in QUICK])
def test_every_species_resumes_exactly(model: str, tmp_path: Path) -> None:
    check_resume(model, tmp_path)
