"""A run and data become a file; the same run and the file become the data again.

Guarantee: with the same weights, version of torch and family of processors the data come back bit
for bit, whatever the number of threads and whatever else the process does (`genus.compress.coder`
says why). In another environment they usually do. Never does anything else come back: a digest of
the data is in the file, and what does not match it is refused.
"""

import hashlib
import json
import platform
import warnings
from pathlib import Path

import torch
from torch import Tensor

import genus
from genus.compress import bits_back, coder
from genus.compress.container import MOST_BYTES, Archive, Header, pack, unpack
from genus.contract import GenerativeModel, HasConditionals, HasPosterior, name_of, require
from genus.errors import CapabilityError, CheckpointError, DataFormatError, SettingsError
from genus.kinds import classes_of
from genus.runs import Run


def compress(run: Run, x: Tensor, condition: Tensor | None = None, *, block: int | None = None) -> bytes:
    """Data ``(N, *domain.shape)`` as the bytes of a file of about ``-log2 p(x)`` bits, or -ELBO for models with
    a bound (and then, once, the initial bits: `genus.compress.bits_back`).

    condition: the labels, for conditional runs; they are kept too, at log2(classes) bits each.
    block: data worked off side by side (default 128, 16 with bits back, fewer where data are large); more is
    faster and takes more memory, and the file is as short. Raises a `CapabilityError` for models that
    cannot, and a ValueError for data that are not of the run's domain.
    """
    model = codable(run.model)
    model.domain.check(x)
    if not len(x):
        raise ValueError("expected at least one datum to compress; got none.")
    if x.numel() * model.domain.dtype.itemsize > MOST_BYTES:
        raise SettingsError(f"{x.numel():,} entries are more than one file holds; give --limit, and several files.")
    usual, most = _blocks(model)
    block = usual if block is None else block
    if not 1 <= block <= most:
        raise SettingsError(f"block: expected 1..{most} data of {model.domain}; got {block}.")
    labels, initial = _labels(model, condition, len(x)), None
    if isinstance(model, HasConditionals):
        payload = coder.encode(model, x, labels, block=block)
    else:
        payload, initial = bits_back.encode(model, x, labels, block=block)
    domain = _plain(model.domain.to_json())
    header = Header(count=len(x), block=block, domain=domain, environment=environment(), initial=initial)
    return pack(Archive(identity(run), digest(x, condition), header, payload))


def decompress(run: Run, content: bytes, where: str = "the file") -> tuple[Tensor, Tensor | None]:
    """The data of a file, and their labels for conditional runs, bit for bit as they were.

    Raises a `DataFormatError` for a file that is damaged, and a `CheckpointError` where ``run`` is
    not the one that it was made with, or does not compute the same here as there (another version
    or processor, of which a warning tells first).
    """
    archive, model = unpack(content, where), codable(run.model)
    if archive.domain != model.domain:
        raise CheckpointError(f"{where}: holds {archive.domain}; {run.path} is a model of {model.domain}.")
    if archive.model != identity(run):
        raise CheckpointError(
            f"{where}: compressed with another model than that of {run.path}: the weights or the settings differ "
            "(did training go on?)."
        )
    if archive.header.block > _blocks(model)[1]:
        raise DataFormatError(f"{where}: blocks of {archive.header.block} are too large for {model.domain}.")
    there, here = archive.header.environment, environment()
    changed = ", ".join(
        f"{key} {there.get(key)} there, {here[key]} here" for key in here if there.get(key) != here[key]
    )
    if changed:
        warnings.warn(f"{where} was written elsewhere ({changed}); it may not decode here.", stacklevel=2)
    reason = f"{changed}: decode it where it was made" if changed else "the payload was made for other data"
    try:
        x, condition = _decode(model, archive)
    except DataFormatError as error:
        raise DataFormatError(f"{where}: cannot be decoded: {error} ({reason}).") from None
    if digest(x, condition) != archive.data:
        raise DataFormatError(f"{where}: the decoded data are not those that were coded ({reason}).")
    return x, condition


def codable(model: GenerativeModel) -> GenerativeModel:
    """The model, if it can code data without loss; else a `CapabilityError` in one sentence."""
    if not isinstance(model, HasPosterior):
        require(model, HasConditionals, "compress")
    if model.domain.levels is None or model.domain.levels > coder.MOST_LEVELS:
        raise CapabilityError(f"only data of at most {coder.MOST_LEVELS:,} levels can be coded; got {model.domain}.")
    if model.condition is not None and not classes_of(model.condition):
        raise CapabilityError(f"only labels can be coded as a condition; {name_of(model)} has {model.condition}.")
    if not isinstance(model, HasConditionals):
        bits_back.check(model)
    return model


def identity(run: Run) -> bytes:
    """What probabilities depend on: the first 16 bytes of a SHA-256 over the model's name, settings, domain
    and condition, and the SHA-256 of every tensor of its weights."""
    model, condition = run.model, run.condition
    described = [run.config.model, run.config.settings, run.domain.to_json(), condition and condition.to_json()]
    whole = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        whole.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(hashlib.sha256(flat.view(torch.uint8).numpy().data).digest())
    return whole.digest()[:16]


def digest(x: Tensor, condition: Tensor | None = None) -> bytes:
    """Eight bytes of BLAKE2b over the data, and the labels where there are any."""
    whole = hashlib.blake2b(digest_size=8)
    for part in (x, condition):
        if part is not None:
            for block in part.cpu().split(4096):
                whole.update(block.contiguous().numpy().astype("<i4").tobytes())
    return whole.digest()


def environment() -> dict[str, str]:
    """What floating-point results depend on besides model, data and shapes."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {"genus": genus.__version__, "torch": torch.__version__, "cpu": f"{platform.machine()} {capability}"}


def read(path: Path) -> bytes:
    """The content of a file, if it is not absurdly large."""
    if not path.is_file():
        raise DataFormatError(f"{path}: no such file.")
    if path.stat().st_size > 2 * MOST_BYTES:
        raise DataFormatError(f"{path}: {path.stat().st_size:,} bytes are more than genus compress writes.")
    return path.read_bytes()


def _blocks(model: GenerativeModel) -> tuple[int, int]:
    """How many data stand side by side: usually, and at most."""
    by = coder if isinstance(model, HasConditionals) else bits_back
    most = by.most_in_block(model)
    return min(by.USUAL_BLOCK, most), most


def _decode(model: GenerativeModel, archive: Archive) -> tuple[Tensor, Tensor | None]:
    """The payload by the coding of the file, if it is that of the model."""
    header = archive.header
    if isinstance(model, HasConditionals) != (header.initial is None):
        raise DataFormatError(f"{name_of(model)} codes in another way than the file")
    if header.initial is None:
        return coder.decode(model, archive.payload, header.count, block=header.block)
    return bits_back.decode(model, archive.payload, header.count, block=header.block, initial=header.initial)


def _labels(model: GenerativeModel, condition: Tensor | None, count: int) -> Tensor | None:
    if model.condition is None:
        if condition is not None:
            raise ValueError(f"{name_of(model)} was trained without labels; give none.")
        return None
    if condition is None or len(condition) != count:
        raise ValueError(f"{name_of(model)} was trained on labels: give one for each of {count} data.")
    model.condition.check(condition, "labels")
    return condition


def _plain(description: dict[str, object]) -> dict[str, object]:
    """As JSON gives it back: lists for tuples."""
    return dict(json.loads(json.dumps(description)))
