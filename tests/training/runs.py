"""Runs as processes of their own, to be killed, signalled and compared byte for byte."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from genus.runs import checkpoint

STEPS = 60
SETTINGS = {
    "nade": ["--hidden", "32"],
    "vae": ["--hidden", "32", "--kl-warmup", "0.5", "--ema", "0.99"],
    "vqvae": ["--hidden", "8", "--residual", "4", "--codes", "16", "--code-features", "4", "--revive", "0.5"],
    "vqvae2": ["--hidden", "8", "--residual", "4", "--codes", "16", "--code-features", "4", "--revive", "0.5"],
    "autoencoder": ["--hidden", "16", "--latent-features", "4"],
    "iwae": ["--hidden", "16", "--latent-features", "4", "--importance-samples", "3"],
    "realnvp": [],
    "ddpm": ["--timesteps", "10", "--variance", "learned", "--objective", "bound", "--importance"],
    "edm": ["--width", "8"],
    "flow_matching": ["--width", "8"],
    "vdm": ["--timesteps", "10", "--width", "8"],
    "d3pm": ["--timesteps", "10", "--width", "8"],
    "diffusion2015": ["--timesteps", "10", "--width", "8"],
    "dcgan": [],
    "point_diffusion": ["--timesteps", "10"],
    "made": ["--hidden", "32"],
    "deep_nade": ["--hidden", "32"],
    "conv_nade": ["--features", "8", "--blocks", "1"],
    "pixelcnn": ["--features", "8", "--blocks", "2"],
    "gated_pixelcnn": ["--features", "8"],
    "multiscale_pixelcnn": ["--features", "8", "--dilations", "1"],
    "pixelrnn": ["--features", "8", "--layers", "1"],
    "pixelcnn_pp": ["--features", "8", "--depth", "1", "--stages", "2", "--mixtures", "3"],
    "nice": [],
    "glow": ["--dequantization", "variational"],
    "maf": [],
    "spline_flow": [],
    "joint_table": ["--size", "4", "--binarize", "threshold"],
    "full_context": ["--size", "4", "--binarize", "threshold"],
    "wavenet": ["--cycles", "1", "--dilations", "1", "2", "--residual", "4", "--skip", "8", "--length", "64"],
}
DATA = {  # the others: digits
    "point_diffusion": "furniture",
    "maf": "moons",
    "spline_flow": "moons",
    "wavenet": "tones",
}


def command(model: str, out: Path, *more: str, processes: int = 1, steps: int = STEPS) -> list[str]:
    """``genus train`` of a small run that saves after every step; under torchrun for more than one process."""
    data = DATA.get(model, "digits")
    start = [sys.executable, "-m"]
    if processes > 1:
        start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m"]
        start[3:3] = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    length = ["--steps", str(steps), "--batch-size", "12", "--limit", "200"]
    return [*start, "genus", "train", model, "--data", data, "--out", str(out), "--no-report", "--quiet",
            "--checkpoint-seconds", "0", *length, *SETTINGS.get(model, []), *more]  # fmt: skip


def environment() -> dict[str, str]:
    """One thread a process: what two processes share with one."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def start(line: list[str]) -> subprocess.Popen[str]:
    """Start a command as the head of a process group of its own."""
    return subprocess.Popen(
        line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(line: list[str]) -> str:
    """Run a command to its end, which must be a good one."""
    process = start(line)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return told


def files(run: Path) -> dict[str, bytes]:
    """Everything of a finished run that must not depend on how often it was stopped."""
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    kept = [*newest.glob("*.safetensors"), newest / "state.json", run / "metrics.jsonl"]
    return {path.name: path.read_bytes() for path in kept if path.exists()}


def reached(run: Path) -> int:
    """The step of the newest checkpoint."""
    return max(checkpoint.steps(run / "checkpoints"), default=0)


def wait_for(run: Path, step: int, process: subprocess.Popen[str]) -> bool:
    """Wait until the run has saved ``step``; False if it ended before."""
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if reached(run) >= step:
            return True
        time.sleep(0.002)
    return False


def kill_again_and_again(line: list[str], run: Path, kills: int, seed: int, rank: int | None = None) -> int:
    """SIGKILL the command ``kills`` times at random steps and moments, each time starting it again,
    and let it end. rank: under torchrun, kill this process only. Returns the kills that hit."""
    rng, hits = random.Random(seed), 0
    for number in range(kills):
        process = start(line)
        target = reached(run) + rng.randint(1, max(1, (STEPS - reached(run)) // (kills - number + 1)))
        if wait_for(run, target, process):
            time.sleep(rng.random() * 0.05)
            victim = process.pid if rank is None else worker(process.pid, rank)
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                victim = 0
            hits += bool(victim) and process.wait(timeout=120) != 0
        process.communicate(timeout=120)
    finish(line)
    return hits


def worker(torchrun: int, rank: int) -> int:
    """The process id of a rank started by torchrun."""
    children = [int(pid) for pid in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()]
    for pid in children:
        if f"\0RANK={rank}\0".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
            return pid
    raise AssertionError(f"rank {rank} of {torchrun} not found")
