"""Checkpoints that are whole or absent: safetensors and JSON behind a manifest.

A checkpoint is written into a temporary folder, every file synced, a manifest with the
SHA-256 of each file added, and the folder renamed into place: a reader sees all of it or
nothing. Loading verifies the manifest first and falls back to the checkpoint before.

Whoever reads (`latest`) changes nothing; only training (`recover`, `save`, `prune`) moves
damaged checkpoints aside and clears what dead writers left.
"""

import errno
import hashlib
import inspect
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from genus.errors import CheckpointError, brief
from genus.runs.allowance import physical_memory, size
from genus.runs.documents import number, open_plain, read_document, refuse_link

MANIFEST = "manifest.json"
REQUIRED = ("model.safetensors", "state.json")
MAX_HEADER = 16 * 2**20  # bytes; a header of 94 MB takes the parser 33 s and 3 GB
MAX_TENSORS = 100_000
STALE_SECONDS = 3600.0  # a leftover of another machine, untouched for so long, has no writer
HERE = re.sub(r"[^\w.]", "_", socket.gethostname())

Warn = Callable[[str], None]


class SaveError(CheckpointError):
    """A checkpoint could not be written; nothing of it is left, and earlier ones are untouched.

    reason: what the system said ("No space left on device"). needed: bytes of the
    checkpoint. free: bytes free where it was to go.
    """

    def __init__(self, folder: Path, reason: str, needed: int, free: int, full: bool):
        self.reason, self.needed, self.free = reason, needed, free
        super().__init__(
            f"disk full: the checkpoint needs {size(needed)}, {size(free)} are free in {folder}."
            if full
            else f"{folder} cannot be written ({reason})."
        )


# --- writing ----------------------------------------------------------------------------


def save(folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> Path:
    """Write checkpoint ``step`` into ``folder`` and return its path.

    tensors: file stem -> tensors by name. state: what ``state.json`` holds. An existing
    checkpoint of the same step is kept if it verifies (the same run computes the same
    bits) and moved aside otherwise. Raises `SaveError` where the disk refuses; then no
    part of the checkpoint is left.
    """
    target = path_of(folder, step)
    if os.path.lexists(target):
        with suppress(CheckpointError):
            verify(target)
            return target
    temporary = folder / f".tmp-{step:09d}-{os.getpid()}@{HERE}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write(temporary, tensors, {"step": step, **state})
        if os.path.lexists(target):
            set_aside(target)
        temporary.rename(target)
        _sync(folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError | safetensors.SafetensorError):
            needed = sum(tensor.nbytes for named in tensors.values() for tensor in named.values())
            raise _refusal(folder, needed, error) from None
        raise
    return target


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint to ``damaged-<name>``, so that its step can be saved again."""
    aside = path.with_name(f"damaged-{path.name}")
    copies = 1
    while os.path.lexists(aside):
        copies += 1
        aside = path.with_name(f"damaged-{path.name}-{copies}")
    path.rename(aside)
    return aside


def prune(folder: Path, keep: set[int]) -> None:
    """Remove all checkpoints but those of ``keep``, and the leftovers of dead writers.

    Only the holder of the run's lock may call this. The lock does not reach other machines
    on every network disk, so a leftover goes when its writer cannot be alive: its process
    is gone from this machine, or it is this very process (which is not saving now; in a
    container the dead one often had the same number), or it was written elsewhere and not
    touched for an hour. What cannot be removed stays, without an error.
    """
    for step in steps(folder):
        if step not in keep:
            with suppress(OSError):
                _remove(path_of(folder, step))
    for leftover in folder.glob(".tmp-*"):
        if not _has_writer(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


# --- finding and trusting ---------------------------------------------------------------


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, ascending."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read ({error.strerror}).") from None
    found = (int(name[5:]) for name in names if re.fullmatch(r"step-[0-9]{9,15}", name))
    return sorted(step for step in found if path_of(folder, step).name in names)


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lives."""
    return folder / f"step-{step:09d}"


def verify(path: Path, also: Iterable[str] = ()) -> None:
    """Raise a `CheckpointError` naming the first file that is not what the manifest says.

    Every file must be listed and every listed file must be there: with the model's weights
    and the state, and ``also`` these names. Hidden files (a file browser's) do not count.
    """
    for place in (path.parent, path):
        refuse_link(place)
    try:
        manifest = read_document(path / MANIFEST)
        entries = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}
    except (OSError, CheckpointError, ValueError, TypeError, KeyError, OverflowError) as error:
        said = str(error).removeprefix(f"{path / MANIFEST}: ").rstrip(".")
        detail = f" ({said})" if isinstance(error, CheckpointError) else ""
        raise CheckpointError(
            f"{path / MANIFEST}: missing or damaged; the checkpoint cannot be trusted{detail}."
        ) from None
    for name in (*REQUIRED, *also):
        if name not in entries:
            raise CheckpointError(f"{path / MANIFEST}: does not list {name}; the checkpoint cannot be trusted.")
    for name in sorted(file.name for file in path.iterdir()):
        if name not in entries and name != MANIFEST and not name.startswith("."):
            raise CheckpointError(f"{path / name}: not listed in {path / MANIFEST}; the checkpoint cannot be trusted.")
    for name, (count, digest) in entries.items():
        file = path / name
        try:
            if Path(name).name != name:
                raise FileNotFoundError
            with open_plain(file) as stream:
                same = os.fstat(stream.fileno()).st_size == count and _sha256(stream) == digest
        except FileNotFoundError:
            raise CheckpointError(f"{path / MANIFEST}: lists {brief(name)}, which is missing.") from None
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({error.strerror}).") from None
        if not same:
            raise CheckpointError(f"{file}: does not match its SHA-256 in {path / MANIFEST} (damaged or changed).")


def latest(folder: Path, warn: Warn | None = None, strict: bool = False) -> Path | None:
    """The newest checkpoint that verifies; ``warn(sentence)`` hears of newer ones that do not.

    Changes nothing in the folder. strict: raise the `CheckpointError` of the newest instead
    of falling back.
    """
    return _newest(folder, warn, strict, lambda path: None)


def recover(folder: Path, warn: Warn | None = None, strict: bool = False) -> Path | None:
    """As `latest`, for the process that trains: damaged checkpoints are renamed to
    ``damaged-step-...``, so that their steps can be saved again."""
    return _newest(folder, warn, strict, set_aside)


def _newest(folder: Path, warn: Warn | None, strict: bool, put_away: Callable[[Path], Path | None]) -> Path | None:
    refuse_link(folder)
    found = steps(folder)
    for step in reversed(found):
        path = path_of(folder, step)
        try:
            verify(path)
            return path
        except CheckpointError as error:
            if strict:
                raise
            aside = None
            with suppress(OSError):  # a folder that cannot be written still has good checkpoints
                aside = put_away(path)
            renamed = f" It was renamed to {aside.name}." if aside else ""
            next_one = "Falling back to the checkpoint before it." if step > found[0] else "There is none before it."
            if warn:
                warn(f"{error}{renamed} {next_one}")
    return None


# --- reading ----------------------------------------------------------------------------


def shapes(path: Path, stem: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of one safetensors file; none of them is read.

    The sizes that the file declares are compared with its own. Raises `CheckpointError`
    naming the file.
    """
    with _opened(path / f"{stem}.safetensors") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def load_tensors(path: Path, stem: str) -> dict[str, Tensor]:
    """The tensors of one safetensors file of a checkpoint, in memory of their own.

    A header over 16 MB or 100,000 tensors is refused before it is parsed. Raises
    `CheckpointError` naming the file.
    """
    with _opened(path / f"{stem}.safetensors") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def load_state(path: Path, required: Iterable[str] = ()) -> dict[str, Any]:
    """The ``state.json`` of a checkpoint, with the types of the keys that `Run` and training
    read checked, and those of ``required`` there. Raises `CheckpointError` naming file and key."""
    file = path / "state.json"
    try:
        state = read_document(file, finite=False)  # a logged term may have been NaN
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file.") from None
    for key in ("step", *required):
        if key not in state:
            raise CheckpointError(f"{file}: the key {key!r} is missing.")
    for key in state.keys() & {"step", "steps", "best_step", "counted"}:
        if not isinstance(state[key], int) or isinstance(state[key], bool) or not 0 <= state[key] < 10**15:
            raise CheckpointError(f"{file}: {key!r} should be a whole number from 0; got {brief(state[key])}.")
    if state.get("best") is not None:
        number(state, "best", str(file))
    if not isinstance(state.get("finished", False), bool):
        raise CheckpointError(f"{file}: 'finished' should be true or false; got {brief(state['finished'])}.")
    sums = state.get("sums", {})
    if not isinstance(sums, dict) or not all(type(value) in (int, float) for value in sums.values()):
        raise CheckpointError(f"{file}: 'sums' should be numbers by name; got {brief(sums)}.")
    if path.name.startswith("step-") and path.name != path_of(path.parent, state["step"]).name:
        raise CheckpointError(f"{file}: 'step' is {state['step']}, but the folder is {path.name}.")
    return state


def copy_into(module: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights. Before anything is copied, names, shapes and kinds of number are compared
    with the model's, and values that are not finite refused where the model's own are."""
    own = module.state_dict()
    compare_shapes(module, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, path)
    for name, value in tensors.items():
        if _kind(value) != _kind(own[name]):
            raise CheckpointError(
                f"{path}: the weights do not fit the model; {name!r} should be {own[name].dtype}, not {value.dtype}."
            )
        if not torch.isfinite(value.to(own[name].dtype)).all() and torch.isfinite(own[name]).all():
            raise CheckpointError(f"{path}: the tensor {name!r} holds NaN or infinity; use an earlier checkpoint.")
    module.load_state_dict(tensors)


def compare_shapes(module: torch.nn.Module, given: dict[str, tuple[int, ...]], path: Path) -> None:
    """Raise a `CheckpointError` unless names and shapes are those of the module's tensors."""
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    wrong = sorted(own.keys() ^ given.keys()) or sorted(name for name in own if own[name] != given[name])
    if wrong:
        have, want = given.get(wrong[0], "missing"), own.get(wrong[0], "none of that name")
        raise CheckpointError(
            f"{path}: the weights do not fit the model; first difference: {brief(wrong[0])} "
            f"(in the file: {have}, in the model: {want})."
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """An optimizer's state as named tensors: ``<parameter number>/<key>``."""
    for parameter, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                yield f"{parameter}/{key}", value


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`. Moments get their parameter's memory layout back:
    a fused step walks both as flat memory. Raises `CheckpointError` for names, shapes or
    values that this optimizer cannot have written."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    keys = _keys_of(optimizer)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        match = re.fullmatch(r"([0-9]{1,9})/(\w+)", name)
        if not match or int(match[1]) >= len(parameters) or match[2] not in keys:
            raise CheckpointError(f"optimizer state: {brief(name)} is none of its tensors; another optimizer's?")
        parameter, key = parameters[int(match[1])], match[2]
        wanted = parameter.shape if keys[key] else torch.Size()
        if value.shape != wanted or not value.is_floating_point():
            kind = f"{value.dtype} {tuple(value.shape)}"
            raise CheckpointError(f"optimizer state: {name!r} should be real and {tuple(wanted)}; got {kind}.")
        if not torch.isfinite(value).all() or (not keys[key] and value < 0):
            raise CheckpointError(f"optimizer state: {name!r} holds values that no optimizer writes.")
        if keys[key]:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(match[1]), {})[key] = value
    for place, values in state.items():
        for key in keys:
            if key not in values:
                raise CheckpointError(f"optimizer state: '{place}/{key}' is missing.")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return _sha256(stream)


# --- parts ------------------------------------------------------------------------------


def _write(folder: Path, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    for stem, named in tensors.items():
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in named.items()},
                  folder / f"{stem}.safetensors")  # fmt: skip
    (folder / "state.json").write_text(json.dumps(state, indent=1))
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in folder.iterdir()}
    (folder / MANIFEST).write_text(json.dumps(files, indent=1))
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes 0600
        _sync(path)
    _sync(folder)


def _refusal(folder: Path, needed: int, error: Exception) -> SaveError:
    """What the system said, in words; safetensors hands on its number in the text only."""
    told = re.search(r"os error (\d+)", str(error))
    code = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    reason = os.strerror(code) if code else str(error)
    place = next((p for p in (folder, *folder.parents) if p.is_dir()), Path())
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        free = 0
    return SaveError(folder, reason, needed, free, full=code in (errno.ENOSPC, errno.EDQUOT))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    doomed = path.with_name(f".tmp-{path.name}-{os.getpid()}@{HERE}")
    path.rename(doomed)  # a reader never meets half a checkpoint
    shutil.rmtree(doomed, ignore_errors=True)


def _has_writer(leftover: Path) -> bool:
    """Whether somebody may still be writing into a temporary folder (see `prune`)."""
    match = re.fullmatch(r"\.tmp-(?:.*-)?([0-9]{1,9})(?:@([\w.]+))?", leftover.name)
    if match and match[2] in (None, HERE):
        return int(match[1]) != os.getpid() and _alive(int(match[1]))
    try:
        touched = max(path.lstat().st_mtime for path in (leftover, *leftover.iterdir()))
    except OSError:
        return False
    return time.time() - touched < STALE_SECONDS


def _alive(pid: int) -> bool:
    if pid == 0:  # would ask for this process' own group
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _sha256(stream: Any) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file whose header was found bounded; every failure a `CheckpointError`."""
    try:
        _check_header(file)
        with safetensors.safe_open(file, framework="pt") as opened:
            yield opened
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file.") from None
    except CheckpointError:
        raise
    except Exception as error:  # SafetensorError; and what torch raises for shapes and types that it cannot hold
        raise CheckpointError(f"{file}: cannot be read ({brief(str(error), 200)[1:-1]}).") from None


def _check_header(file: Path) -> None:
    """Raise a `CheckpointError` for a header that would take the parser long, before it is parsed:
    each tensor costs one brace, and each of its numbers at most one comma."""
    with open_plain(file) as stream:
        count = os.fstat(stream.fileno()).st_size
        claimed = int.from_bytes(stream.read(8), "little")
        if claimed > min(MAX_HEADER, count - 8):
            raise CheckpointError(f"{file}: the header claims {claimed:,} bytes of {count:,}; refused.")
        if count > physical_memory():
            raise CheckpointError(f"{file}: {size(count)} do not fit into the memory of this machine.")
        header = stream.read(claimed)
    tensors = header.count(b"{") - 1
    if tensors > MAX_TENSORS or header.count(b",") > 10 * MAX_TENSORS:
        raise CheckpointError(f"{file}: the header names over {MAX_TENSORS:,} tensors or numbers for them; refused.")


def _kind(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "bool"
    return "real" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "integer"


def _keys_of(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """What this optimizer keeps for a parameter, and whether it has the parameter's shape:
    seen by letting one of the same kind and settings take a step."""
    inner = getattr(optimizer, "optimizer", optimizer)  # a wrapper's
    group, takes = inner.param_groups[0], inspect.signature(type(inner)).parameters
    trial = torch.zeros(2, 3, device=group["params"][0].device, requires_grad=True)
    trial.grad = torch.zeros_like(trial)
    again = type(inner)([trial], **{key: value for key, value in group.items() if key in takes and key != "params"})
    again.step()
    return {key: value.shape == trial.shape for key, value in again.state[trial].items() if isinstance(value, Tensor)}
