"""Signals, two writers, full disks, NaN and too little memory: what a run must live through."""

import errno
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from runs import command, files, finish, reached, start, wait_for

import genus
from genus.contract import Batch
from genus.errors import CheckpointError, GenusError
from genus.hardware import OutOfMemory
from genus.models.flow.realnvp import RealNVP
from genus.models.latent.vae import VAE
from genus.runs import checkpoint
from genus.runs.records import Records
from genus.training import DivergenceError
from genus.training.session import Session

SMALL = {"hidden": (16,), "latent_features": 2, "limit": 100, "batch_size": 16, "clip_norm": None, "quiet": True}
LONG = 100_000


# -- signals --------------------------------------------------------------------------------


def check_signal(folder: Path, name: str, at: int) -> None:
    """A signal at a random moment: saved at the next step, the documented exit code, nothing lost."""
    process = start(command("vae", folder, steps=LONG))
    assert wait_for(folder, reached(folder) + at, process)
    time.sleep(random.Random(at).random() * 0.05)
    began = time.monotonic()
    os.kill(process.pid, getattr(signal, name))
    told, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == 128 + getattr(signal, name), told
    assert f"{name} at step {reached(folder)} of {LONG}" in told
    newest = checkpoint.path_of(folder / "checkpoints", reached(folder))
    checkpoint.verify(newest)
    assert not list((folder / "checkpoints").glob(".tmp-*"))


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGUSR1", marks=pytest.mark.slow)])
def test_a_signal_saves_and_says_so(name: str, tmp_path: Path) -> None:
    check_signal(tmp_path / "run", name, 3)


@pytest.mark.slow
def test_twenty_signals_at_random_times(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(20):
        check_signal(tmp_path / "run", rng.choice(["SIGINT", "SIGTERM", "SIGUSR1"]), rng.randint(1, 30))


def test_a_signalled_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    finish(command("vae", tmp_path / "whole"))
    process = start(command("vae", tmp_path / "stopped"))
    assert wait_for(tmp_path / "stopped", 5, process)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    finish(command("vae", tmp_path / "stopped"))
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_breaks_nothing(tmp_path: Path) -> None:
    process = start(command("vae", tmp_path / "run", steps=LONG))
    assert wait_for(tmp_path / "run", 2, process)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert checkpoint.latest(tmp_path / "run" / "checkpoints") is not None


# -- one writer -----------------------------------------------------------------------------


def check_starters(folder: Path, count: int) -> list[float]:
    """One of ``count`` starters trains; the others name it. Returns how long each of them took."""
    began = time.monotonic()
    processes = [start(command("vae", folder, steps=LONG)) for _ in range(count)]
    times: dict[int, float] = {}
    deadline = time.monotonic() + 120
    while len(times) < count - 1 and time.monotonic() < deadline:
        times |= {p.pid: time.monotonic() - began for p in processes if p.pid not in times and p.poll() is not None}
        time.sleep(0.02)
    (holder,) = [p for p in processes if p.poll() is None]
    for process in processes:
        if process is not holder:
            told, _ = process.communicate()
            assert process.returncode == 1 and f"process {holder.pid} on" in told, told
    assert wait_for(folder, 1, holder)
    holder.kill()
    holder.communicate(timeout=30)
    again = start(command("vae", folder, steps=LONG))  # the lock has freed itself
    assert wait_for(folder, reached(folder) + 1, again)
    again.kill()
    again.communicate(timeout=30)
    return sorted(times.values())


def test_two_starters_one_trains(tmp_path: Path) -> None:
    check_starters(tmp_path / "run", 2)


@pytest.mark.slow
def test_ten_starters_one_trains(tmp_path: Path) -> None:
    check_starters(tmp_path / "run", 10)


# -- disks ----------------------------------------------------------------------------------


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_training_outlives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The disk is full from step 10 to step 20; the run ends as one that never met it."""
    whole = genus.train("vae", "digits", steps=30, out=tmp_path / "whole", checkpoint_seconds=0, **SMALL)
    real, save = checkpoint._sync, checkpoint.save
    tried: list[int] = []

    def fails_for_a_while(folder: Path, step: int, *rest: object) -> Path:
        tried.append(step)
        with monkeypatch.context() as patch:
            if 10 <= step < 20:
                patch.setattr(checkpoint, "_sync", full)
            else:
                patch.setattr(checkpoint, "_sync", real)
            return save(folder, step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save", fails_for_a_while)
    monkeypatch.setattr("genus.training.recorder.time.sleep", lambda seconds: None)
    options = {**SMALL, "quiet": False}
    run = genus.train("vae", "digits", steps=30, out=tmp_path / "run", checkpoint_seconds=0, **options)
    assert tried.count(10) == 3  # it tries again, then goes on
    assert files(run.path) == files(whole.path)
    told = capfd.readouterr().err
    assert "disk full" in told and "the checkpoint of step 9 is whole" in told


def test_the_last_checkpoint_must_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genus.training.recorder.time.sleep", lambda seconds: None)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_sync", full)
        with pytest.raises(CheckpointError, match=r"step 5 could not be saved.*disk full"):
            genus.train("vae", "digits", steps=5, out=tmp_path / "run", **SMALL)
    assert genus.train("vae", "digits", steps=5, out=tmp_path / "run", **SMALL).state["finished"]


def test_records_wait_for_the_disk(tmp_path: Path) -> None:
    records = Records(tmp_path / "metrics.jsonl", 0)
    records.write({"step": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", lambda *a, **k: full())
        with pytest.raises(OSError, match="No space"):
            records.write({"step": 2})
    records.write({"step": 3})
    assert [r["step"] for r in Records(tmp_path / "metrics.jsonl", 9).kept] == [1, 2, 3]
    assert [r["step"] for r in Records(tmp_path / "metrics.jsonl", 2).kept] == [1, 2]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A file system of 1.5 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
def test_a_disk_with_room_for_one_checkpoint_and_a_half(small_disk: Path) -> None:
    """A checkpoint of this model takes about 1 MB."""
    options = {**SMALL, "hidden": (450,)}
    with pytest.raises(CheckpointError, match=r"could not be saved: disk full.*the checkpoint of step \d+ is whole"):
        genus.train("vae", "digits", steps=40, out=small_disk / "run", checkpoint_seconds=0, **options)
    checkpoints = small_disk / "run" / "checkpoints"
    kept = checkpoint.steps(checkpoints)
    assert kept and not list(checkpoints.glob(".tmp-*"))
    for step in kept:
        checkpoint.verify(checkpoint.path_of(checkpoints, step))
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    run = genus.train("vae", "digits", steps=40, out=small_disk / "run", checkpoint_seconds=0, **options)
    assert run.state["finished"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot be written \(Not a directory\); give another --out"):
        genus.train("vae", "digits", steps=5, out=tmp_path / "file" / "run", **SMALL)


# -- damaged checkpoints --------------------------------------------------------------------


def test_a_damaged_checkpoint_costs_steps_not_the_run(tmp_path: Path) -> None:
    whole = genus.train("vae", "digits", steps=20, out=tmp_path / "whole", checkpoint_seconds=0, **SMALL)
    run = genus.train("vae", "digits", steps=20, out=tmp_path / "run", checkpoint_seconds=0, **SMALL)
    damaged = checkpoint.path_of(run.checkpoints, 20) / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        genus.train("vae", "digits", steps=20, out=run.path, checkpoint_seconds=0, strict=True, **SMALL)
    again = genus.train("vae", "digits", steps=20, out=run.path, checkpoint_seconds=0, **SMALL)
    assert files(again.path) == files(whole.path)


# -- numbers that are none ------------------------------------------------------------------


def poisoned(where: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a NaN into the loss, the gradient or a weight of the VAE when it takes its ``at``-th step."""
    losses, count = VAE.losses, [0]

    def broken(self: VAE, batch: Batch, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        count[0] += torch.is_grad_enabled()
        now = count[0] == at and torch.is_grad_enabled()
        weight = self.decoder[0].weight  # type: ignore[index]
        if now and where == "weight":
            weight.data[0, 0] = torch.inf
        terms = losses(self, batch, generator)
        if now:
            if where == "term":
                terms["kl"] = terms["kl"] * torch.tensor([1.0] * 3 + [torch.nan] + [1.0] * (len(batch.x) - 4))
                terms["loss"] = terms["reconstruction"] + terms["kl"]
            elif where == "gradient":
                terms["loss"] = terms["loss"] + (weight[0, 0] * 0).sqrt()  # finite, its slope is not
        return terms

    monkeypatch.setattr(VAE, "losses", broken)


@pytest.mark.parametrize(
    ("where", "seconds", "named"),
    [
        ("term", 0, r"step 8: .*the term 'kl' is not finite for training items \d+\."),
        ("gradient", 0, r"step 8: decoder\S+ \(model\) became NaN or infinite by this update \(training items \d"),
        ("gradient", 99, r"step 9: .* decoder\S+ was broken by the update of the step before \(training items \d"),
        ("weight", 0, r"step 8: .* decoder\S+ was broken by the update of the step before \(training items \d"),
    ],
)
def test_a_nan_stops_within_a_step_and_is_named(
    where: str, seconds: float, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"steps": 30, "out": tmp_path / "run", "checkpoint_seconds": seconds, **SMALL}
    with monkeypatch.context() as patch:
        poisoned(where, 8, patch)
        with pytest.raises(DivergenceError, match=named) as caught:
            genus.train("vae", "digits", **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 1
    newest = checkpoint.latest(tmp_path / "run" / "checkpoints")
    if seconds == 0:
        assert newest is not None and checkpoint.load_state(newest)["step"] == 7
        assert all(bool(t.isfinite().all()) for t in checkpoint.load_tensors(newest, "model").values())
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert "diverged" in json.loads(last)
    run = genus.train("vae", "digits", **options)  # type: ignore[arg-type]  # healthy again
    assert run.state["finished"] and "diverged" not in str(run.metrics)


def test_clipped_gradients_are_checked_before_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned("gradient", 8, monkeypatch)
    with pytest.raises(DivergenceError, match=r"step 8: the gradient of model became nan \(training items \d"):
        genus.train("vae", "digits", steps=30, out=tmp_path / "run", **(SMALL | {"clip_norm": 1.0}))


@pytest.mark.parametrize("at_start", [False, True])
def test_data_that_are_not_finite_are_named(at_start: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Session.batch

    def holed(self: Session, number: int) -> Batch:
        made = batch(self, number)
        x = torch.where((made.index == 17)[:, None], torch.nan, made.x)  # type: ignore[call-overload]
        return made._replace(x=x)

    named = "the data are not finite: training items 17[.]"
    if at_start:
        monkeypatch.setattr(RealNVP, "initialise", lambda model, split: model.flow.standardise.mean.fill_(torch.nan))
        named = r"standardise\.mean is not finite from the start: look at the data"
    else:
        monkeypatch.setattr(Session, "batch", holed)
    with pytest.raises(DivergenceError, match=named):
        genus.train("realnvp", "moons", steps=40, out=tmp_path / "run", batch_size=64, limit=100, quiet=True)


def test_too_little_memory_comes_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = VAE.losses

    def hungry(self: VAE, batch: Batch, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        if len(batch.x) > 8 and torch.is_grad_enabled():
            torch.empty(10**15)
        return losses(self, batch, generator)

    monkeypatch.setattr(VAE, "losses", hungry)
    with pytest.raises(OutOfMemory, match=r"batch of 16; try --accumulate 2, .* parts of 8 .* or --batch-size 8"):
        genus.train("vae", "digits", steps=5, out=tmp_path / "run", **SMALL)
    run = genus.train("vae", "digits", steps=5, out=tmp_path / "run", accumulate=2, **SMALL)
    assert run.state["finished"]


def test_errors_are_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A programming error stays one: only memory and NaN are explained."""

    def broken(self: VAE, batch: Batch, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(VAE, "losses", broken)
    with pytest.raises(RuntimeError, match="a bug") as caught:
        genus.train("vae", "digits", steps=5, out=tmp_path / "run", **SMALL)
    assert not isinstance(caught.value, GenusError)
