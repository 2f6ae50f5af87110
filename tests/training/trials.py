"""Trials of survival and of hostile run folders, for the tests and for benchmarks/survival.py.

Each trial runs in a process of its own, so that its peak of memory is its own and a child
can be killed: ``python trials.py NAME FOLDER COUNT SEED`` prints a dictionary as JSON.
"""

import copy
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import genus
from genus.errors import CheckpointError, GenusError
from genus.kinds import Domain, Grid, Label, Points, Vectors
from genus.runs import checkpoint
from genus.runs.config import configure
from genus.runs.run import build


def run_trial(name: str, folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """The figures of one trial, made in a fresh process with one thread."""
    command = [sys.executable, __file__, name, str(folder), str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])


# --- run folders ------------------------------------------------------------------------

DIGITS, TABLE, CLOUD = Grid(1, (8, 8), 17), Vectors(3), Points(16)
SPECIES: dict[str, tuple[Domain, dict[str, Any]]] = {
    "vae": (DIGITS, {"hidden": [8], "latent_features": 2}),
    "histogram": (DIGITS, {}),
    "nade": (DIGITS, {"hidden": 4}),
    "realnvp": (TABLE, {"hidden": 4, "couplings": 2}),
    "ddpm": (DIGITS, {"timesteps": 4, "width": 4, "multipliers": [1, 1], "blocks": 1}),
    "dcgan": (DIGITS, {"width": 2, "latent_features": 2}),
    "point_diffusion": (CLOUD, {"timesteps": 4, "latent_features": 4, "width": 4, "couplings": 1, "flow_hidden": 4}),
}


def make_run(folder: Path, model: str = "vae") -> Path:
    """A whole run folder of an untrained tiny model, as training writes it."""
    domain, settings = SPECIES[model]
    source = {"grid": "digits", "vectors": "moons", "points": "furniture"}[domain.kind]
    config = configure(model, source, steps=5, **settings)
    state = {"steps": 5, "best_step": 5, "best": 1.5, "finished": True, "sums": {}, "counted": 0}
    weights = build(config, domain, None).state_dict()
    checkpoint.save(folder / "checkpoints", 5, {"model": weights}, state)
    label = Label(("a", "b"))
    described = {"name": source, "domain": domain.to_json(), "condition": label.to_json(), "fingerprint": "0" * 64}
    (folder / "config.json").write_text(json.dumps(config.model_dump(mode="json"), indent=1))
    (folder / "data.json").write_text(json.dumps(described, indent=1))
    (folder / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n{"step": 5, "train/loss": NaN}\n')
    (folder / "timing.jsonl").write_text('{"step": 5, "seconds": 0.5, "data": 80}\n')
    return folder


def sign(path: Path) -> None:
    """Write a manifest that fits what is in a checkpoint now, as somebody who changed it on purpose would."""
    files = [file for file in path.iterdir() if file.name != checkpoint.MANIFEST]
    entries = {file.name: {"bytes": file.stat().st_size, "sha256": checkpoint.sha256(file)} for file in files}
    (path / checkpoint.MANIFEST).write_text(json.dumps(entries))


def use(folder: Path) -> None:
    """Everything that a reader does with a run folder. A sample is drawn where it is small: a
    convolution fits a datum of any size, and then costs what the size does."""
    run = genus.load(folder)
    _ = run.domain, run.condition, run.state, run.metrics, run.training_seconds
    _ = run.model
    if run.domain.num_dims <= 10_000:
        run.sample(1)


# --- kill -9 while saving ---------------------------------------------------------------


def save_for_ever(folder: Path, ready: int) -> None:
    """Save one checkpoint after the other; each completed step goes down the pipe."""
    tensors = {"model": {str(k): torch.full((64, 64), float(k)) for k in range(8)}}
    found = checkpoint.recover(folder)
    checkpoint.prune(folder, set(checkpoint.steps(folder)))
    os.write(ready, struct.pack("<q", -1))
    step = checkpoint.load_state(found)["step"] if found else 0
    while True:
        step += 1
        checkpoint.save(folder, step, tensors, {"best": None})
        os.write(ready, struct.pack("<q", step))
        checkpoint.prune(folder, set(checkpoint.steps(folder)[-2:]))


def kills(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """SIGKILL a process at random moments of back-to-back saving, ``count`` times.

    verified: kills after which a checkpoint verified. too_old: those where it was older than
    the second newest completed one. midway: kills that left a temporary folder. uncleaned:
    starts after which a dead process' temporary folder was still there.
    """
    rng = random.Random(seed)
    completed = [0]
    verified = too_old = midway = uncleaned = 0
    for _ in range(count):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            save_for_ever(folder, writing)
        os.close(writing)
        os.read(reading, 8)  # it has cleared up and begins to save
        uncleaned += any(f"-{child}@" not in path.name for path in folder.glob(".tmp-*"))
        time.sleep(rng.uniform(0.001, 0.12))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as pipe:
            completed += [step for (step,) in struct.iter_unpack("<q", pipe.read())]
        midway += any(folder.glob(".tmp-*"))
        found = checkpoint.latest(folder)
        verified += found is not None or completed == [0]
        newest = checkpoint.load_state(found)["step"] if found else 0
        too_old += newest < (completed[-2] if len(completed) > 1 else 0)
    return {"kills": count, "verified": verified, "too_old": too_old, "midway": midway, "uncleaned": uncleaned,
            "saves": completed[-1]}  # fmt: skip


# --- one flipped bit, or a truncation ---------------------------------------------------


def damage(content: bytes, rng: random.Random) -> bytes:
    """One flipped bit, or, one time in four, a truncation."""
    place = rng.randrange(len(content))
    if rng.random() < 0.25:
        return content[:place]
    changed = bytearray(content)
    changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def corruptions(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Damage one file of the newest checkpoint, ``count`` times.

    noticed: the fall-back was the checkpoint before. named: the warning named the file.
    refused: strict raised.
    """
    rng = random.Random(seed)
    tensors = {stem: {"w": torch.arange(600.0), "b": torch.ones(3)} for stem in ("model", "average", "optimizer-model")}
    before, newest = (checkpoint.save(folder, step, tensors, {"best": 1.0}) for step in (1, 2))
    files = sorted(newest.iterdir())
    noticed = named = refused = 0
    for _ in range(count):
        file = rng.choice(files)
        content = file.read_bytes()
        file.write_bytes(damage(content, rng))
        said: list[str] = []
        noticed += checkpoint.latest(folder, said.append) == before
        named += any(str(file) in sentence for sentence in said)
        try:
            checkpoint.latest(folder, strict=True)
        except CheckpointError as error:
            refused += str(file) in str(error)
        file.write_bytes(content)
    checkpoint.verify(newest)
    return {"damaged": count, "noticed": noticed, "named": named, "refused": refused}


# --- fuzzed files -----------------------------------------------------------------------


class Tally:
    """Counts what came of hostile files: loaded, refused by a typed error that names the folder, or worse."""

    def __init__(self) -> None:
        self.valid = self.typed = 0
        self.worse: list[str] = []
        self.worst_seconds, self.slowest = 0.0, ""
        self.megabytes, self.largest = 0.0, ""

    def take(self, name: str, folder: Path, action: Callable[[], object]) -> None:
        """Run an action and note how it ended."""
        before = reset_peak()
        began = time.perf_counter()
        try:
            action()
            self.valid += 1
        except GenusError as error:
            self.typed += 1
            if str(folder) not in str(error) or len(str(error)) > 2000:
                self.worse.append(f"{name}: does not say which file, or says too much: {str(error)[:300]}")
        except Exception as error:
            self.worse.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
        seconds = time.perf_counter() - began
        if seconds > self.worst_seconds:
            self.worst_seconds, self.slowest = seconds, name[:200]
        megabytes = peak() - before
        if megabytes > self.megabytes:
            self.megabytes, self.largest = megabytes, name[:200]

    def figures(self) -> dict[str, Any]:
        """As a dictionary; megabytes are the highest peak of memory above where a file began."""
        return {"files": self.valid + self.typed + sum("says too much" not in w for w in self.worse),
                "valid": self.valid, "typed": self.typed, "worse": self.worse, "slowest": self.slowest,
                "worst_seconds": round(self.worst_seconds, 3), "largest": self.largest,
                "megabytes": round(self.megabytes, 1)}  # fmt: skip


def peak() -> float:
    """The most memory this process has had since `reset_peak`, in MB; on other systems than Linux, ever."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def reset_peak() -> float:
    """Forget the peak so far; gives what is in use now, in MB."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


HUGE = [0, -1, 1, 2, 10**6, 10**9, 10**12, 2**31, 2**63, 2**64, -(2**63), 10**30, 1.5, 1e308]
ODD = [*HUGE, None, True, False, "", "a", "../../etc/passwd", "os.system", "__class__", "\x1b[2J", [], {}, [1], [[1]],
       {"a": 1}, [10**12] * 3, "x" * 10_000, [1] * 5000, "nan", "Infinity", "1e400", "\u0000"]  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a JSON tree."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def mutate_tree(tree: Any, rng: random.Random) -> Any:
    """The JSON tree with one to three values replaced, removed or added."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place = rng.choice(places(tree)[1:] or [()])
        if not place:
            return copy.deepcopy(rng.choice(ODD))
        parent: Any = tree
        for key in place[:-1]:
            parent = parent[key]
        kind = rng.random()
        if kind < 0.75:
            parent[place[-1]] = copy.deepcopy(rng.choice(ODD))
        elif kind < 0.85:
            del parent[place[-1]]
        elif isinstance(parent, dict):
            parent[rng.choice(("__init__", "_target_", "self", "model_config", "x", "class"))] = copy.deepcopy(
                rng.choice(ODD)
            )
    return tree


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flipped bits, a truncation, a repetition, a piece of noise, or bytes of something else."""
    changed, place = bytearray(content), rng.randrange(max(1, len(content)))
    match rng.randrange(6):
        case 0:
            for _ in range(rng.choice((1, 2, 8))):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        case 1:
            del changed[place:]
        case 2:
            changed[place:place] = changed[: rng.randrange(200)]
        case 3:
            changed[place : place + 8] = rng.randbytes(8)
        case 4:
            changed = bytearray(rng.randbytes(rng.randrange(200)))
        case 5:
            changed += rng.randbytes(rng.randrange(1, 50))
    return bytes(changed)


def bombs() -> dict[str, bytes]:
    """JSON documents made to hang or exhaust a parser."""
    deep = 200_000
    return {
        "lists within lists": b"[" * deep,
        "closed lists within lists": b"[" * deep + b"]" * deep,
        "objects within objects": b'{"a":' * deep + b"1" + b"}" * deep,
        "a deep value of a known key": b'{"settings":' + b"[" * 500 + b"]" * 500 + b"}",
        "a million empty lists": b'{"settings": {"a": [' + b"[]," * 1_300_000 + b"[]]}}",
        "too many bytes": b'{"a": "' + b"x" * 5_000_000 + b'"}',
        "a long number": b'{"seed": ' + b"9" * 1_000_000 + b"}",
        "NaN": b'{"minutes": NaN}',
        "Infinity": b'{"minutes": Infinity}',
        "an overflowing number": b'{"minutes": 1e999}',
        "the same key again": b'{"model": "vae", "model": "vae"}',
        "many same keys": b'{"model": 1' + b',"a": 1' * 300_000 + b"}",
        "a lone surrogate": b'{"model": "\\ud800"}',
        "not UTF-8": b'{"model": "\xff\xfe"}',
        "nothing": b"",
        "a list": b"[]",
        "a long key": b'{"' + b"k" * 1_000_000 + b'": 1}',
        "a long name": b'{"recipe": {}, "data": "digits", "model": "' + b"vae" * 300_000 + b'"}',
    }


def pack(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file of a header (a tree or raw bytes) and data."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def header_bombs() -> dict[str, bytes]:
    """Safetensors files whose headers lie, or are made to hang or exhaust a parser."""

    def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    empty = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return {
        "a header of 2**63 bytes": struct.pack("<Q", 2**63) + b"{}",
        "a header of 17 MB": pack(b"{" + b" " * 17_000_000 + b"}"),
        "160,000 empty tensors": pack(b"{" + b",".join(empty % k for k in range(160_000)) + b"}"),
        "1,500,000 numbers of metadata": pack(
            b'{"__metadata__":{' + b",".join(b'"%d":""' % k for k in range(1_500_000)) + b"}}"
        ),
        "a shape of 5,000,000 axes": pack(
            b'{"a":{"dtype":"F32","shape":[' + b"1," * 5_000_000 + b'1],"data_offsets":[0,4]}}', b"0000"
        ),
        "a shape of 100,000 axes": pack(
            b'{"a":{"dtype":"F32","shape":[' + b"1," * 100_000 + b'1],"data_offsets":[0,4]}}', b"0000"
        ),
        "a tensor of 4 TB": pack({"a": tensor([10**12], 0, 4 * 10**12)}),
        "more data than the tensor": pack({"a": tensor([1], 0, 4)}, bytes(100)),
        "overlapping tensors": pack({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)),
        "a gap": pack({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)),
        "a shape that overflows": pack({"a": tensor([2**32, 2**32, 2**32], 0, 0)}),
        "nothing along an endless axis": pack({"a": tensor([0, 2**63 - 1, 2**63 - 1], 0, 0)}),
        "tensors of no size": pack({"a": tensor([0], 0, 0), "b": tensor([0, 5], 0, 0)}),
        "a negative shape": pack({"a": tensor([-1], 0, 4)}, bytes(4)),
        "an unknown type": pack({"a": tensor([1], 0, 4, "PICKLE")}, bytes(4)),
        "a small float": pack({"a": tensor([4], 0, 4, "F8_E4M3")}, bytes(4)),
        "a header of lists": pack(b"[" * 1_000_000),
        "a deep unknown key": pack(b'{"a":{"x":' + b"[" * 1_000_000 + b"}}"),
        "a pickle": b"\x80\x04\x95" + bytes(100),
        "a zip": b"PK\x03\x04" + bytes(100),
        "eight bytes": bytes(8),
        "nothing": b"",
    }


def fuzz_weights(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Load mutated safetensors files into the model that they belong to."""
    rng = random.Random(seed)
    config = configure("vae", "digits", steps=5, **SPECIES["vae"][1])
    model = build(config, DIGITS, None)
    path = checkpoint.save(folder, 5, {"model": model.state_dict()}, {"best": None})
    file = path / "model.safetensors"
    good = file.read_bytes()
    length = int.from_bytes(good[:8], "little")
    header, data = json.loads(good[8 : 8 + length]), good[8 + length :]

    def load() -> None:
        checkpoint.compare_shapes(model, checkpoint.shapes(path, "model"), path)
        checkpoint.copy_into(model, checkpoint.load_tensors(path, "model"), path)

    def read() -> None:
        checkpoint.load_tensors(path, "model")

    tally = Tally()
    tally.take("as it was", path, load)
    for name, content in header_bombs().items():
        file.write_bytes(content)
        tally.take(name, path, read)
    while tally.valid + tally.typed < count:
        match rng.randrange(4):
            case 0:
                name, content = "bytes", mutate_bytes(good, rng)
            case 1:
                name, content = "header bytes", good[:8] + mutate_bytes(good[8 : 8 + length], rng) + data
            case 2:
                name, content = "header bytes, length right", pack(mutate_bytes(good[8 : 8 + length], rng), data)
            case _:
                name, content = "header values", pack(mutate_tree(header, rng), data)
        file.write_bytes(content)
        tally.take(name, path, load)
        if tally.worse:
            break
    return tally.figures()


def fuzz_runs(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Open run folders with one mutated document: config, data, state, manifest, metrics, timing."""
    rng = random.Random(seed)
    runs = [make_run(folder / name, name) for name in SPECIES]
    documents = (
        ["config.json"] * 6 + ["data.json"] * 2 + ["state.json", "manifest.json", "metrics.jsonl", "timing.jsonl"]
    )
    for run in runs:
        use(run)  # imports, before anything is measured
    tally, chosen = Tally(), dict.fromkeys(documents, 0)
    bomb_list = [(document, name, bomb) for document in sorted(set(documents)) for name, bomb in bombs().items()]
    rng.shuffle(bomb_list)
    while tally.valid + tally.typed < count and not tally.worse:
        run, document = rng.choice(runs), rng.choice(documents)
        bomb = bomb_list.pop() if bomb_list and rng.random() < 0.3 else None
        document = bomb[0] if bomb else document
        chosen[document] += 1
        file = next(path for path in run.rglob(document))
        good = file.read_bytes()
        if bomb:
            name, content = bomb[1], bomb[2] + (b"\n" if document.endswith("l") else b"")
        elif rng.random() < 0.2:
            name, content = "bytes", mutate_bytes(good, rng)
        elif document.endswith("l"):
            lines = [json.dumps(mutate_tree(json.loads(line), rng)) for line in good.decode().splitlines()]
            name, content = "values", ("\n".join(lines) + "\n").encode()
        else:
            name, content = "values", json.dumps(mutate_tree(json.loads(good), rng)).encode()
        file.write_bytes(content)
        if document == "state.json":
            manifest = file.with_name("manifest.json").read_bytes()
            sign(file.parent)
        tally.take(f"{run.name}/{document}: {name}: {content[:2000]!r}", run, lambda run=run: use(run))
        file.write_bytes(good)
        if document == "state.json":
            file.with_name("manifest.json").write_bytes(manifest)
    return tally.figures() | {"documents": chosen}


def fuzz(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Both kinds, one after the other; about every second fuzzed document of a run is its configuration."""
    (folder / "w").mkdir()
    return {"weights": fuzz_weights(folder / "w", count, seed), "runs": fuzz_runs(folder / "r", 2 * count, seed)}


TRIALS = {"fuzz": fuzz, "kills": kills, "corruptions": corruptions, "weights": fuzz_weights, "runs": fuzz_runs}


if __name__ == "__main__":
    torch.set_num_threads(1)
    trial, place, number, seed_of_it = sys.argv[1:]
    where = Path(place) / trial
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    print(json.dumps(TRIALS[trial](where, int(number), int(seed_of_it))))
