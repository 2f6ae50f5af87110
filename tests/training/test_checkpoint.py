"""A checkpoint is whole or absent, and damage is noticed."""

import json
import random
from pathlib import Path

import pytest
import torch

from genus.errors import CheckpointError
from genus.training import checkpoint


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


def test_prune_keeps_what_it_is_told_and_clears_leftovers_of_the_dead(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        make(tmp_path, step)
    (tmp_path / ".tmp-000000004-999999999").mkdir()
    checkpoint.prune(tmp_path, {1, 3})
    assert checkpoint.steps(tmp_path) == [1, 3]
    assert not list(tmp_path.glob(".tmp-*"))


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
