"""Several processes are one: torchrun on the CPU, with gloo."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import STEPS, command, files, finish, kill_again_and_again, reached, start, wait_for

import genus
from genus.errors import SettingsError
from genus.runs import Run
from genus.training.divergence import check_parts
from genus.training.parallel import Team

TOLERANCE = 1e-4  # relative, of the loss: sums in another order


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["train/loss"] for record in records if "train/loss" in record]


def check_as_one(model: str, folder: Path, processes: int) -> float:
    """The largest relative difference of the logged losses of ``processes`` and of one.

    A flow at its own learning rate amplifies rounding tenfold in ten steps, also of one process
    that takes the batch in two parts; a tenth of the rate shows the sums alone. A rounding of bfloat16
    may choose another code.
    """
    calm = {"realnvp": ["--learning-rate", "1e-4"], "vqvae": ["--precision", "float32"]}.get(model, [])
    finish(command(model, folder / "one", *calm))
    finish(command(model, folder / "several", *calm, processes=processes))
    one, several = losses(folder / "one"), losses(folder / "several")
    assert len(one) == len(several) == STEPS
    return max(abs(a - b) / abs(a) for a, b in zip(one, several, strict=True))


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    assert check_as_one("vae", tmp_path, 2) < TOLERANCE


LEAVING = """
import atexit, time, torch
from pathlib import Path
from genus.training.parallel import Team

def threads():
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text())
        except OSError:  # it ended meanwhile
            pass
    return sum("gloo" in name for name in names)

def left():
    deadline = time.monotonic() + 2
    while threads() and time.monotonic() < deadline:  # a joined thread is listed for a moment
        time.sleep(0.01)
    print(f"left: {threads()}\\n", end="")  # one write: the two share a pipe

atexit.register(left)  # runs after what Team registers: last in, first out
team, layer = Team(), torch.nn.Linear(3, 3)
torch.optim.AdamW(layer.parameters())
layer(team.mean(torch.ones(3))).sum().backward()
print(f"there: {threads()}\\n", end="")
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux lists the threads of a process there")
def test_no_thread_outlives_the_work_of_several(tmp_path: Path) -> None:
    """A thread of gloo that is alive when the interpreter ends may abort the process."""
    script = tmp_path / "leaving.py"
    script.write_text(LEAVING)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    told = finish([*torchrun, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(script)])
    assert told.count("left: 0") == 2 and told.count("there: ") == 2 and "there: 0" not in told


@pytest.mark.slow
@pytest.mark.parametrize(("model", "processes"), [("nade", 2), ("realnvp", 2), ("ddpm", 2), ("vae", 3), ("vqvae", 2)])
def test_several_processes_compute_what_one_does(model: str, processes: int, tmp_path: Path) -> None:
    assert check_as_one(model, tmp_path, processes) < TOLERANCE


def small_run(folder: Path, **settings: Any) -> Run:
    return genus.train("vae", "digits", out=folder, steps=40, batch_size=12, limit=200, hidden=(32,), quiet=True,
                       **settings)  # fmt: skip


def test_parts_of_a_batch_compute_what_the_whole_does(tmp_path: Path) -> None:
    """The negative control is another seed: its losses differ by far more."""
    whole, parts, other = (
        losses(small_run(tmp_path / name, **settings).path)
        for name, settings in (("whole", {}), ("parts", {"accumulate": 3}), ("other", {"seed": 1}))
    )
    assert max(abs(a - b) / abs(a) for a, b in zip(whole, parts, strict=True)) < TOLERANCE
    assert max(abs(a - b) / abs(a) for a, b in zip(whole, other, strict=True)) > 10 * TOLERANCE


def test_workers_change_nothing(tmp_path: Path) -> None:
    none, two = (small_run(tmp_path / str(n), workers=n, binarize="dynamic", ema=0.9) for n in (0, 2))
    assert files(none.path) == files(two.path)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(2, 5), (3, 2)])
def test_killing_one_rank_loses_nothing(processes: int, kills: int, tmp_path: Path) -> None:
    """With three processes the order of sums matters too: it must not depend on where a run began."""
    finish(command("vae", tmp_path / "whole", processes=processes))
    stopped = command("vae", tmp_path / "stopped", processes=processes)
    hits = sum(
        kill_again_and_again(stopped, tmp_path / "stopped", part, seed=part, rank=rank)
        for rank, part in ((0, (kills + 1) // 2), (processes - 1, kills // 2))
        if rank == 0 or reached(tmp_path / "stopped") < STEPS
    )
    assert hits >= (kills + 1) // 2
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


@pytest.mark.slow
def test_a_signal_to_torchrun_stops_all_ranks_at_one_step(tmp_path: Path) -> None:
    line = command("vae", tmp_path / "run", processes=2, steps=5000)
    process = start(line)
    assert wait_for(tmp_path / "run", 3 + random.Random(0).randrange(20), process)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert f"SIGTERM at step {reached(tmp_path / 'run')} of 5000" in told


def test_another_number_of_processes_is_named_at_resume(tmp_path: Path) -> None:
    line = command("vae", tmp_path / "run", steps=2000)
    line.remove("--quiet")
    process = start(line)
    assert wait_for(tmp_path / "run", 2, process)
    os.kill(process.pid, signal.SIGUSR1)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGUSR1, told
    more = start([*line, "--accumulate", "2"])
    assert wait_for(tmp_path / "run", reached(tmp_path / "run") + 2, more)
    os.kill(more.pid, signal.SIGINT)
    told, _ = more.communicate(timeout=60)
    assert "warning: resuming under another environment (" in told and "accumulate 1 → 2)" in told


def test_what_does_not_divide_is_refused_with_a_number_that_does() -> None:
    team = Team()
    team.size, team.rank = 3, 1
    assert team.slice(12) == slice(4, 8)
    with pytest.raises(SettingsError, match="--batch-size 102"):
        team.slice(100)
    with pytest.raises(SettingsError, match="--accumulate 4"):
        check_parts(24, 2, 5)


def test_alone_a_team_changes_nothing() -> None:
    team, layer = Team(), torch.nn.Linear(2, 2)
    values = torch.ones(3)
    assert team.mean(values) is values and team.broadcast({"a": 1}) == {"a": 1}
    assert team.any(True) and not team.any(False)
    team.average_gradients(list(layer.parameters()))
    assert layer.weight.grad is None
    assert team.lead(lambda: "done") == "done"
