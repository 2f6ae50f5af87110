"""A checkpoint is whole or absent, and damage is noticed."""

import errno
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors
import torch
from trials import run_trial, sign

from genus.errors import CheckpointError
from genus.runs import checkpoint


def make(folder: Path, step: int) -> Path:
    tensors = {"model": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(float(step))}}
    return checkpoint.save(folder, step, tensors, {"best": None})


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = make(tmp_path, 7)
    checkpoint.verify(path)
    assert checkpoint.load_state(path) == {"step": 7, "best": None}
    assert torch.equal(checkpoint.load_tensors(path, "model")["a"], torch.arange(6.0).view(2, 3))


def test_every_flipped_bit_is_noticed_and_the_file_named(tmp_path: Path) -> None:
    path, rng = make(tmp_path, 1), random.Random(0)
    for _ in range(60):
        file = rng.choice([p for p in path.iterdir() if p.name != checkpoint.MANIFEST])
        content = bytearray(file.read_bytes())
        position, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        content[position] ^= bit
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=file.name):
            checkpoint.verify(path)
        content[position] ^= bit
        file.write_bytes(content)
    checkpoint.verify(path)


@pytest.mark.parametrize("manifest", ["", "[]", '{"model.safetensors": 3}', '{"../x": {"bytes": 1, "sha256": "0"}}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, manifest: str) -> None:
    path = make(tmp_path, 1)
    (path / checkpoint.MANIFEST).write_text(manifest)
    with pytest.raises(CheckpointError):
        checkpoint.verify(path)


def test_falls_back_to_the_checkpoint_before(tmp_path: Path) -> None:
    make(tmp_path, 1)
    newest = make(tmp_path, 2)
    (newest / "model.safetensors").write_bytes(b"")
    said: list[str] = []
    assert checkpoint.latest(tmp_path, said.append) == checkpoint.path_of(tmp_path, 1)
    assert "model.safetensors" in said[0]
    assert newest.exists(), "a reader renames nothing"
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint.latest(tmp_path, strict=True)


def test_training_moves_a_damaged_checkpoint_out_of_the_way(tmp_path: Path) -> None:
    make(tmp_path, 1)
    for kept in ("damaged-step-000000002", "damaged-step-000000002-2"):
        (make(tmp_path, 2) / "state.json").write_text("{}")
        with pytest.raises(CheckpointError, match=r"state\.json"):
            checkpoint.recover(tmp_path, strict=True)
        said: list[str] = []
        assert checkpoint.recover(tmp_path, said.append) == checkpoint.path_of(tmp_path, 1)
        assert f"renamed to {kept}" in said[0]
        assert (tmp_path / kept).is_dir()
    assert checkpoint.steps(tmp_path) == [1]


def test_a_save_keeps_a_whole_checkpoint_of_its_step_and_replaces_a_damaged_one(tmp_path: Path) -> None:
    path = make(tmp_path, 3)
    before = (path / checkpoint.MANIFEST).stat().st_mtime_ns
    assert (make(tmp_path, 3) / checkpoint.MANIFEST).stat().st_mtime_ns == before
    (path / "model.safetensors").write_bytes(b"half")
    checkpoint.verify(make(tmp_path, 3))
    assert (tmp_path / "damaged-step-000000003" / "model.safetensors").read_bytes() == b"half"


def test_a_manifest_must_list_what_is_needed_and_all_that_is_there(tmp_path: Path) -> None:
    path = make(tmp_path, 1)
    manifest = path / checkpoint.MANIFEST
    listed = json.loads(manifest.read_text())
    with pytest.raises(CheckpointError, match=r"manifest\.json: does not list average"):
        checkpoint.verify(path, also=["average.safetensors"])
    for name in checkpoint.REQUIRED:
        manifest.write_text(json.dumps({key: entry for key, entry in listed.items() if key != name}))
        with pytest.raises(CheckpointError, match=f"manifest.json: does not list {name}"):
            checkpoint.verify(path)
    manifest.write_text(json.dumps(listed))
    (path / ".DS_Store").write_text("a file browser was here")
    checkpoint.verify(path)
    (path / "extra.safetensors").write_text("")
    with pytest.raises(CheckpointError, match=r"extra\.safetensors: not listed"):
        checkpoint.verify(path)
    (path / "extra.safetensors").unlink()
    (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"lists 'state\.json', which is missing"):
        checkpoint.verify(path)


def test_prune_keeps_what_it_is_told_and_clears_leftovers_of_the_dead(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        make(tmp_path, step)
    dead = ("000000004-999999999", f"000000004-999999999@{checkpoint.HERE}", f"000000004-{os.getpid()}", "old-abc")
    living = (
        f"000000004-{os.getppid()}",
        f"000000004-{os.getppid()}@{checkpoint.HERE}",
        "000000004-1@elsewhere",
        "x-abc",
    )
    for name in (*dead, *living):
        (tmp_path / f".tmp-{name}").mkdir()
    os.utime(tmp_path / ".tmp-old-abc", (0, 0))
    checkpoint.prune(tmp_path, {1, 3})
    assert checkpoint.steps(tmp_path) == [1, 3]
    assert {path.name.removeprefix(".tmp-") for path in tmp_path.glob(".tmp-*")} == set(living)


def test_a_header_that_lies_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = make(tmp_path, 1)
    (path / "model.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="header"):
        checkpoint.load_tensors(path, "model")


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    with pytest.raises(CheckpointError, match="bias"):
        checkpoint.copy_into(module, {"weight": torch.zeros(2, 3)}, tmp_path)
    with pytest.raises(CheckpointError, match="weight"):
        checkpoint.copy_into(module, {"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, tmp_path)


@pytest.mark.parametrize("channels_last", [False, True])
def test_an_optimizer_continues_as_if_it_had_not_stopped(channels_last: bool) -> None:
    """Fused Adam walks moments as flat memory, so the layout must come back too."""

    def fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        layer = torch.nn.Conv2d(2, 3, 3)
        torch.nn.init.constant_(layer.weight, 0.1)
        torch.nn.init.constant_(layer.bias, 0.0)  # type: ignore[arg-type]
        if channels_last:
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return layer, torch.optim.Adam(layer.parameters(), fused=True)

    def step(layer: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        x = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (layer(x) ** 2).sum().backward()
        optimizer.step()

    layer, optimizer = fresh()
    step(layer, optimizer, 1)
    saved = {k: v.contiguous().clone() for k, v in checkpoint.optimizer_tensors(optimizer)}
    weights = {k: v.contiguous().clone() for k, v in layer.state_dict().items()}
    step(layer, optimizer, 2)

    again, restored = fresh()
    again.load_state_dict(weights)
    checkpoint.restore_optimizer(restored, saved)
    step(again, restored, 2)
    assert torch.equal(again.weight, layer.weight)  # type: ignore[arg-type]


def test_manifest_lists_every_file(tmp_path: Path) -> None:
    path = make(tmp_path, 1)
    listed = set(json.loads((path / checkpoint.MANIFEST).read_text()))
    assert listed == {p.name for p in path.iterdir()} - {checkpoint.MANIFEST}


# --- disks that refuse ------------------------------------------------------------------


def check_refused(folder: Path, said: str) -> checkpoint.SaveError:
    """A save of step 2 fails in words, leaves nothing, and step 1 is still whole."""
    with pytest.raises(checkpoint.SaveError, match=said) as caught:
        make(folder, 2)
    assert sorted(path.name for path in folder.iterdir()) == ["step-000000001"]
    assert checkpoint.latest(folder) == checkpoint.path_of(folder, 1)
    return caught.value


@pytest.mark.parametrize("place", ["save_file", "_sync", "_sha256"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, r"disk full: the checkpoint needs 0\.0 MB, [\d.,]+ [MG]B are free in "),
        (errno.EIO, r"cannot be written \(Input/output error\)"),
        (errno.EROFS, r"cannot be written \(Read-only file system\)"),
        (errno.EACCES, r"cannot be written \(Permission denied\)"),
    ],
)
def test_a_disk_that_refuses_is_said_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, code: int, said: str
) -> None:
    make(tmp_path, 1)

    def refuse(*_: object) -> None:
        if place == "save_file":  # safetensors has an error of its own, with the system's number in its text
            raise safetensors.SafetensorError(f"Error while serializing: I/O error: (os error {code})")
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr(checkpoint, place, refuse)
        if place == "_sha256":  # nothing can be verified either while reading fails
            with pytest.raises(checkpoint.SaveError, match=said):
                make(tmp_path, 2)
        else:
            error = check_refused(tmp_path, said)
            assert (error.reason, error.needed) == (os.strerror(code), 28)
            assert error.free > 0
    checkpoint.verify(make(tmp_path, 2))
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_failed_sync_of_the_folder_leaves_what_the_next_try_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last sync comes after the rename: the checkpoint is there, but not sure to outlive a power cut."""
    sync = checkpoint._sync

    def refuse_the_folder(path: Path) -> None:
        if path == tmp_path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(path)

    with monkeypatch.context() as broken:
        broken.setattr(checkpoint, "_sync", refuse_the_folder)
        with pytest.raises(checkpoint.SaveError, match="Input/output error"):
            make(tmp_path, 1)
    checkpoint.verify(make(tmp_path, 1))


def test_a_folder_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(checkpoint.SaveError, match=r"checkpoints cannot be written \((File exists|Not a directory)\)"):
        make(tmp_path / "checkpoints", 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1.5 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    mounting = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "none", str(disk)], capture_output=True)
    if mounting.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounting.stderr.decode()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    """Room for one and a half checkpoints of 1 MB."""
    tensors = {"model": {"a": torch.zeros(250_000)}}
    checkpoint.save(small_disk, 1, tensors, {"best": None})
    with pytest.raises(
        checkpoint.SaveError, match=r"disk full: the checkpoint needs 1\.0 MB, 0\.\d MB are free in"
    ) as caught:
        checkpoint.save(small_disk, 2, tensors, {"best": None})
    assert caught.value.needed == 1_000_000
    assert 0 < caught.value.free < 600_000
    assert [path.name for path in small_disk.iterdir()] == ["step-000000001"]
    assert checkpoint.latest(small_disk, strict=True) == checkpoint.path_of(small_disk, 1)
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    checkpoint.verify(checkpoint.save(small_disk, 2, tensors, {"best": None}))


# --- killed, damaged --------------------------------------------------------------------


def check_kills(folder: Path, count: int) -> None:
    figures = run_trial("kills", folder, count)
    assert (figures["verified"], figures["too_old"], figures["uncleaned"]) == (count, 0, 0)
    assert figures["midway"] > 0, "no kill fell into a save: this test shows nothing"


def test_kills_while_saving(tmp_path: Path) -> None:
    check_kills(tmp_path, 8)


@pytest.mark.slow
def test_a_hundred_kills_while_saving(tmp_path: Path) -> None:
    check_kills(tmp_path, 100)


def check_corruptions(folder: Path, count: int) -> None:
    from trials import corruptions

    figures = corruptions(folder, count, seed=0)
    assert figures == {"damaged": count, "noticed": count, "named": count, "refused": count}


def test_damage_is_noticed_named_and_survived(tmp_path: Path) -> None:
    check_corruptions(tmp_path, 60)


@pytest.mark.slow
def test_five_hundred_damages_are_noticed_named_and_survived(tmp_path: Path) -> None:
    check_corruptions(tmp_path, 500)


def test_without_the_digests_damage_would_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a verification that compares sizes alone lets flipped bits through."""
    from trials import corruptions

    monkeypatch.setattr(checkpoint, "_sha256", lambda stream: "0")
    assert corruptions(tmp_path, 20, seed=0)["noticed"] < 20


# --- what a stranger's checkpoint may hold ----------------------------------------------


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"weight": torch.zeros(2, 3, dtype=torch.int64), "bias": torch.zeros(2)}, "'weight' should be torch.float32"),
        ({"weight": torch.zeros(2, 3), "bias": torch.tensor([0.0, float("nan")])}, "'bias' holds NaN"),
        (
            {"weight": torch.full((2, 3), 1e300, dtype=torch.float64), "bias": torch.zeros(2)},
            "'weight' holds NaN or inf",
        ),
    ],
)
def test_weights_of_another_kind_and_weights_that_are_not_finite_are_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], said: str
) -> None:
    module = torch.nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(CheckpointError, match=said):
        checkpoint.copy_into(module, tensors, tmp_path)
    assert torch.equal(module.weight, before)


def test_a_tensor_that_the_model_itself_makes_infinite_may_be_so(tmp_path: Path) -> None:
    module = torch.nn.Module()
    module.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    checkpoint.copy_into(module, {"mask": torch.tensor([float("-inf"), 0.0])}, tmp_path)


def adam() -> tuple[torch.optim.Optimizer, dict[str, torch.Tensor]]:
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer, {name: value.clone() for name, value in checkpoint.optimizer_tensors(optimizer)}


@pytest.mark.parametrize(
    "change",
    [
        {"9/exp_avg": torch.zeros(2)},
        {"-1/exp_avg": torch.zeros(2)},
        {"exp_avg": torch.zeros(2)},
        {"0/exp_avg/x": torch.zeros(2)},
        {"\u0661/exp_avg": torch.zeros(2)},  # a digit, but no number of ours
        {"9999999999999999999/exp_avg": torch.zeros(2)},
        {"0/momentum_buffer": torch.zeros(2, 3)},
        {"0/exp_avg": torch.zeros(3, 2)},
        {"0/exp_avg": torch.zeros(2, 3, dtype=torch.int64)},
        {"0/exp_avg": torch.full((2, 3), float("inf"))},
        {"0/step": torch.tensor(-3.0)},
        {"0/step": torch.zeros(1)},
        {"0/exp_avg": None},
        {"0/step": None},
    ],
)
def test_an_optimizer_state_that_no_optimizer_wrote_is_refused(change: dict[str, torch.Tensor | None]) -> None:
    optimizer, tensors = adam()
    changed = {name: value for name, value in (tensors | change).items() if value is not None}
    with pytest.raises(CheckpointError, match="optimizer state"):
        checkpoint.restore_optimizer(optimizer, changed)
    checkpoint.restore_optimizer(optimizer, tensors)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_optimizer_of_a_recipe_is_restored(name: str) -> None:
    from genus.recipe import Recipe
    from genus.training.optimizer import make_optimizer

    layer = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(Recipe(optimizer=name), layer.parameters())  # type: ignore[arg-type]
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    saved = {key: value.clone() for key, value in checkpoint.optimizer_tensors(optimizer)}
    again = make_optimizer(Recipe(optimizer=name), layer.parameters())  # type: ignore[arg-type]
    checkpoint.restore_optimizer(again, saved)
    assert saved.keys() == dict(checkpoint.optimizer_tensors(again)).keys() != set()
    checkpoint.restore_optimizer(again, {})  # before the first step there is none


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"step": "1"}, "'step'"),
        ({"step": True}, "'step'"),
        ({"step": 2}, "folder is step-000000001"),
        ({"best": "low"}, "'best'"),
        ({"finished": 1}, "'finished'"),
        ({"sums": {"a": "b"}}, "'sums'"),
        ({"counted": -1}, "'counted'"),
    ],
)
def test_a_state_of_wrong_types_names_file_and_key(tmp_path: Path, state: dict[str, object], said: str) -> None:
    path = make(tmp_path, 1)
    (path / "state.json").write_text(json.dumps({"step": 1} | state))
    sign(path)
    checkpoint.verify(path)
    with pytest.raises(CheckpointError, match=rf"state\.json: .*{said}"):
        checkpoint.load_state(path)
    with pytest.raises(CheckpointError, match=r"'steps' is missing"):
        checkpoint.load_state(make(tmp_path, 4), required=["steps"])


def test_tensors_outlive_their_file(tmp_path: Path) -> None:
    path = make(tmp_path, 1)
    tensors = checkpoint.load_tensors(path, "model")
    with (path / "model.safetensors").open("r+b") as file:
        file.truncate(0)  # a map of the file would end the process here
    assert torch.equal(tensors["a"], torch.arange(6.0).view(2, 3))


def test_checkpoints_elsewhere_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", 1)
    (tmp_path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="checkpoints: a symbolic link"):
        checkpoint.latest(tmp_path / "checkpoints")
