"""Checkpoints that are whole or absent: safetensors and JSON behind a manifest.

A checkpoint is written into a temporary folder, every file synced, a manifest with the
SHA-256 of each file added, and the folder renamed into place: a reader sees all of it or
nothing. Loading verifies the manifest first and falls back to the checkpoint before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from genus.errors import CheckpointError

MANIFEST = "manifest.json"
MAX_HEADER = 16 * 2**20  # bytes; a header of 94 MB takes the parser 33 s and 3 GB


def save(folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> Path:
    """Write checkpoint ``step`` into ``folder`` and return its path.

    tensors: file stem -> tensors by name. state: what ``state.json`` holds. An existing
    checkpoint of the same step is kept (the same run computes the same bits).
    """
    target = folder / f"step-{step:09d}"
    if target.exists():
        return target
    temporary = folder / f".tmp-{step:09d}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for stem, named in tensors.items():
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in named.items()},
                  temporary / f"{stem}.safetensors")  # fmt: skip
    (temporary / "state.json").write_text(json.dumps({"step": step, **state}, indent=1))
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in temporary.iterdir()}
    (temporary / MANIFEST).write_text(json.dumps(files, indent=1))
    for path in temporary.iterdir():
        path.chmod(0o644)  # safetensors writes 0600
        _sync(path)
    _sync(temporary)
    temporary.rename(target)
    _sync(folder)
    return target


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, ascending."""
    found = folder.glob("step-*") if folder.is_dir() else ()
    return sorted(int(path.name[5:]) for path in found if path.name[5:].isdigit())


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lives."""
    return folder / f"step-{step:09d}"


def verify(path: Path) -> None:
    """Raise a `CheckpointError` naming the first file that is not what the manifest says."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        entries = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise CheckpointError(f"{path / MANIFEST}: missing or damaged; the checkpoint cannot be trusted.") from None
    for name, (size, digest) in entries.items():
        file = path / name
        if Path(name).name != name or file.is_symlink() or not file.is_file():
            raise CheckpointError(f"{file}: named in the manifest, but missing.")
        if file.stat().st_size != size or sha256(file) != digest:
            raise CheckpointError(f"{file}: does not match its SHA-256 in the manifest (damaged or changed).")


def latest(folder: Path, warn: Any = None) -> Path | None:
    """The newest checkpoint that verifies; ``warn(sentence)`` hears of those that do not."""
    for step in reversed(steps(folder)):
        try:
            verify(path_of(folder, step))
            return path_of(folder, step)
        except CheckpointError as error:
            if warn:
                warn(f"{error} Falling back to the checkpoint before it.")
    return None


def load_tensors(path: Path, stem: str) -> dict[str, Tensor]:
    """The tensors of one safetensors file of a checkpoint."""
    file = path / f"{stem}.safetensors"
    try:
        with file.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
        if header > min(MAX_HEADER, file.stat().st_size):
            raise CheckpointError(f"{file}: the header claims {header:,} bytes; refused.")
        return load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}).") from None


def load_state(path: Path) -> dict[str, Any]:
    """The ``state.json`` of a checkpoint."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        state["step"] = int(state["step"])
        return state
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / 'state.json'}: cannot be read ({error}).") from None


def prune(folder: Path, keep: set[int]) -> None:
    """Remove all checkpoints but those of ``keep``, and leftovers of dead writers."""
    for step in steps(folder):
        if step not in keep:
            _remove(path_of(folder, step))
    for leftover in folder.glob(".tmp-*"):
        if not _alive(int(leftover.name.rsplit("-", 1)[-1])):
            shutil.rmtree(leftover, ignore_errors=True)


def copy_into(module: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights, with names and shapes compared before anything is copied."""
    own = module.state_dict()
    wrong = sorted(own.keys() ^ tensors.keys()) or sorted(n for n in own if own[n].shape != tensors[n].shape)
    if wrong:
        raise CheckpointError(f"{path}: the weights do not fit the model; first difference: {wrong[0]!r}.")
    module.load_state_dict(tensors)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """An optimizer's state as named tensors: ``<parameter number>/<key>``."""
    for number, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                yield f"{number}/{key}", value


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`. Moments get their parameter's memory layout back:
    a fused step walks both as flat memory."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split("/")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    doomed = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    path.rename(doomed)  # a reader never meets half a checkpoint
    shutil.rmtree(doomed, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
