"""Codes as data: what a trained model's encoder says of the data that it was trained on.

``run:PATH`` names the codes of a run wherever a data source is named. They are computed once and
kept frozen in the run's folder, ``codes-<identity>.safetensors``, written whole or not at all; the
identity follows from the weights and the data. So a source of codes is the same in every bit
whenever and wherever it is opened, and what is trained on it resumes exactly.

What is kept of a datum depends on its posterior q(z|x): of one without doubt the codes; of a normal
one mean and log variance, so that training sees a fresh draw in each epoch; of any other one draw.
Data that are drawn anew whenever they are taken (dynamic binarization) are encoded as evaluation
sees them. Labels and attributes are those of the data.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from genus.contract import HasPosterior, Posterior, batches, refusal
from genus.data import DataOptions, Source, TensorSplit
from genus.data.source import annotate
from genus.errors import CheckpointError, SettingsError
from genus.hardware import best_device
from genus.kinds import Domain
from genus.prob import noise
from genus.prob.posterior import Certain, DiagonalNormal
from genus.runs import checkpoint
from genus.runs.documents import read_document
from genus.runs.run import Run
from genus.runs.stages import StagedRun, open_run

AT_ONCE = 256  # data that are encoded together

_OPENING: ContextVar[tuple[Path, ...]] = ContextVar("runs whose codes are being opened", default=())


def open_codes(path: str, options: DataOptions) -> Source:
    """What ``run:PATH`` names; of the options only a limit fits codes."""
    for option, value in options:
        if value not in (None, False) and option != "limit":
            raise SettingsError(f"run:{path}: the option {option!r} does not fit codes; the one that does is limit.")
    return codes_of(Path(path).expanduser())


def codes_of(path: Path) -> Source:
    """The codes of the run in a folder (of its first stage, where it has two) as a source."""
    run = open_run(path)
    run = run.first if isinstance(run, StagedRun) else run
    cls = run.model_class
    if not issubclass(cls, HasPosterior):
        raise refusal(cls, "HasPosterior", f"turn the data of {path} into codes")
    with _opening(run.path):
        source = run.source
    model = run.model
    assert isinstance(model, HasPosterior)
    name = identity(run)
    file = run.path / f"codes-{name}.safetensors"
    if not os.path.lexists(file):
        _freeze(run, source, file)
    kept = checkpoint.load_tensors(run.path, file.stem)
    if kept.keys() != source.splits.keys():
        raise CheckpointError(f"{file}: expected the tensors {', '.join(source.splits)}; got {', '.join(kept)[:200]}.")
    train, validation, test = (
        _split(file, key, kept[key], split, model.latent_domain) for key, split in source.splits.items()
    )
    return replace(
        source,
        name=annotate(source.name, f"codes of {run.config.model}-{name[:8]}"),
        domain=model.latent_domain,
        train=train,
        validation=validation,
        test=test,
        notes=f"Codes of {source.name} as {run.config.model} sees them. {source.notes}".strip(),
        skipped=(),
    )


def identity(run: Run) -> str:
    """What codes depend on: 16 hexadecimal digits of a SHA-256 over the weights, the model and its data."""
    weights = read_document(run.checkpoint / checkpoint.MANIFEST)[f"{run.weights}.safetensors"]
    described = [weights, run.config.model, run.config.settings, run.config.conditional, run.described.fingerprint]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Inside, the data of a run are being opened; its own codes cannot be among them."""
    here = path.resolve()
    if here in _OPENING.get():
        raise CheckpointError(f"{path}: says that it was trained on its own codes; refused.")
    token = _OPENING.set((*_OPENING.get(), here))
    try:
        yield
    finally:
        _OPENING.reset(token)


# --- writing ----------------------------------------------------------------------------


def _freeze(run: Run, source: Source, file: Path) -> None:
    """Encode the splits and write them, unless somebody else was faster: then theirs count."""
    tensors = {name: _encoded(run, split, name).contiguous() for name, split in source.splits.items()}
    temporary = run.path / f".tmp-codes-{os.getpid()}@{checkpoint.HERE}"
    try:
        checkpoint.prune(run.path, set(checkpoint.steps(run.path)))  # what dead writers left
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        whole = temporary / file.name
        save_file(tensors, whole)
        whole.chmod(0o644)  # safetensors writes 0600
        with whole.open("rb") as written:
            os.fsync(written.fileno())
        try:
            os.link(whole, file)  # never over a file that is there
        except FileExistsError:
            pass
        except OSError:  # a disk without hard links
            whole.replace(file)
    except (OSError, safetensors.SafetensorError) as error:
        said = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{run.path}: the codes cannot be written ({said}); copy the run elsewhere.") from None
    finally:
        with suppress(OSError):
            shutil.rmtree(temporary, ignore_errors=True)


@torch.no_grad()
def _encoded(run: Run, split: TensorSplit, name: str) -> Tensor:
    model, generator = run.model.to(best_device()), noise.stream("codes", name)
    assert isinstance(model, HasPosterior)
    domain, rows = model.latent_domain, []
    for batch in batches(split, AT_ONCE):
        x, condition, _ = batch.to(model.device)
        q = model.posterior(x, condition if model.condition is not None else None)
        rows.append(_kept(q, domain, generator).cpu())
    run.model.cpu()
    return torch.cat(rows) if rows else torch.empty(0, *domain.shape, dtype=domain.dtype)


def _kept(q: Posterior, domain: Domain, generator: Generator) -> Tensor:
    """``(B, *latent shape)``, or ``(B, 2, *latent shape)`` with the mean and the log variance."""
    if isinstance(q, DiagonalNormal):
        return torch.stack([q.mean, q.log_var], 1).float()
    codes = q.mean if isinstance(q, Certain) else q.sample(1, generator)[0]
    return codes.to(domain.dtype)


# --- reading ----------------------------------------------------------------------------


def _split(file: Path, name: str, kept: Tensor, split: TensorSplit, domain: Domain) -> TensorSplit:
    """The codes of a split, with its labels. The file may be a stranger's: checked before it is believed."""
    normal = kept.shape == (len(split), 2, *domain.shape) and not domain.discrete
    if not normal and kept.shape != (len(split), *domain.shape):
        raise CheckpointError(
            f"{file}: {name!r} should hold {len(split)} of {domain}; got the shape {tuple(kept.shape)}."
        )
    if kept.dtype != domain.dtype:
        raise CheckpointError(f"{file}: {name!r} should be {domain.dtype}; got {kept.dtype}.")
    try:
        for part in (kept[:, 0], torch.exp(0.5 * kept[:, 1])) if normal else (kept,):
            domain.check(part, name)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from None
    return TensorSplit(kept, split.condition, draw if normal else None, split.attributes)


def draw(kept: Tensor, generator: Generator | None) -> Tensor:
    """Latents drawn from normal posteriors, ``(B, 2, *latent shape)``: the mean and the log variance."""
    mean, log_var = kept.unbind(1)
    return torch.addcmul(mean, torch.exp(0.5 * log_var), noise.normal(tuple(mean.shape), generator))
