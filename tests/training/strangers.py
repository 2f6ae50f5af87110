"""Run folders of a stranger who wants more than to be read, and a process that watches them being opened.

``python strangers.py FOLDER`` builds every variant, opens each (`genus.load`, model, sample)
under an audit hook, and prints as JSON what each one got and what it did. The process has
opened a good run of every species before, so that nothing is left to be imported.
"""

import io
import json
import os
import pickle
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from trials import SPECIES, make_run, pack, sign, use

from genus.errors import GenusError
from genus.runs import checkpoint

WATCHED = ("open", "import", "exec", "compile", "os.", "subprocess.", "socket.", "pickle.", "marshal.", "ctypes.",
           "shutil.", "urllib.", "code.")  # fmt: skip
HARMLESS = {"os.listdir", "os.scandir"}  # only inside the folder, which is looked at


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def pickles(marker: Path) -> dict[str, bytes]:
    """The payload in every wrapping that weights are handed round in."""
    payload = Payload(marker)
    whole, legacy, several = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"model": payload}, whole)
    torch.save({"model": payload}, legacy, _use_new_zipfile_serialization=False)
    for _ in range(3):
        pickle.dump(payload, several)
    arrays, package = io.BytesIO(), io.BytesIO()
    np.savez(arrays, a=np.array([payload], dtype=object))
    single = io.BytesIO()
    np.save(single, np.array([payload], dtype=object))
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(payload))
        archive.writestr("archive/version", "3")
    return {"pkl": pickle.dumps(payload), "pickle-0": pickle.dumps(payload, 0), "pt": whole.getvalue(),
            "ckpt": legacy.getvalue(), "bin": several.getvalue(), "npz": arrays.getvalue(), "npy": single.getvalue(),
            "pt2": package.getvalue()}  # fmt: skip


Change = Callable[[Path], None]


def changes(marker: Path, outside: Path) -> Iterator[tuple[str, Change]]:
    """What is done to a good run folder. ``outside``: a good run elsewhere, whose files must not be read."""

    def write(name: str, content: bytes) -> Change:
        def change(run: Path) -> None:
            place = run / name
            place.write_bytes(content)
            if place.parent.parent.name == "checkpoints" and place.name != checkpoint.MANIFEST:
                sign(place.parent)

        return change

    def edit(name: str, /, **values: Any) -> Change:
        def change(run: Path) -> None:
            content = json.loads((run / name).read_text())
            (run / name).write_text(json.dumps(content | values))

        return change

    def settings(**values: Any) -> Change:
        return lambda run: edit("config.json", settings=SPECIES["vae"][1] | values)(run)

    def link(name: str, signed: bool = False) -> Change:
        def change(run: Path) -> None:
            place = run / name
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            place.symlink_to(outside / name)
            if signed:
                sign(place.parent)

        return change

    def pipe(name: str) -> Change:
        def change(run: Path) -> None:
            (run / name).unlink()
            os.mkfifo(run / name)

        return change

    def listed(name: str) -> Change:
        def change(run: Path) -> None:
            manifest = run / STEP / checkpoint.MANIFEST
            content = json.loads(manifest.read_text())
            entry = {"bytes": (outside / "config.json").stat().st_size,
                     "sha256": checkpoint.sha256(outside / "config.json")}  # fmt: skip
            manifest.write_text(json.dumps(content | {name: entry}))

        return change

    made = pickles(marker)
    for kind, content in made.items():
        yield f"model.safetensors is a {kind}", write(f"{STEP}/model.safetensors", content)
        yield f"a {kind} beside the weights", write(f"{STEP}/model.{kind}", content)
        yield f"a {kind} in the run", write(f"model.{kind}", content)
    for name in ("config.json", "data.json", "metrics.jsonl", f"{STEP}/state.json", f"{STEP}/manifest.json"):
        yield f"{name} is a pickle", write(name, made["pkl"])
        yield f"{name} leads outside", link(name, signed=name == f"{STEP}/state.json")
        yield f"{name} is a pipe", pipe(name)
    yield "best.safetensors is a pickle", write(f"{STEP}/best.safetensors", made["pt"])
    yield "the weights lead outside", link(f"{STEP}/model.safetensors", signed=True)
    yield "the checkpoint leads outside", link(STEP)
    yield "the checkpoints lead outside", link("checkpoints")
    yield "the manifest names ../..", listed("../../config.json")
    yield "the manifest names an absolute path", listed(str(outside / "config.json"))
    yield (
        "metadata names a class",
        write(
            f"{STEP}/model.safetensors", pack({"__metadata__": {"format": "os.system", "_target_": "builtins.exec"}})
        ),
    )
    for name in ("os.system", "builtins.exec", "../../x", "__class__", "genus.models.latent.vae", "vae.py", "_decoder",
                 "latent/vae", "pickle", "torch.load", "antigravity", str(outside)):  # fmt: skip
        yield f"the model is {name}", edit("config.json", model=name)
    yield "a _target_", edit("config.json", _target_="os.system")
    yield "a _target_ in the settings", settings(_target_="builtins.exec", _args_=[f"open({str(marker)!r}, 'w')"])
    yield "__init__ in the settings", settings(__init__="os.system")
    yield "__class__ in the settings", settings(__class__="antigravity")
    yield "self in the settings", settings(self=1, cls=2, domain=3)
    yield "a dotted decoder", settings(decoder="os.system")
    yield "an expression for a number", settings(latent_features="__import__('antigravity')")
    yield "a recipe that names code", edit("config.json", recipe={"optimizer": "antigravity.SGD"})
    for data in ("/etc/passwd", "../../../../etc/passwd", str(outside / "config.json"), "http://127.0.0.1:9/x.png",
                 "antigravity", "run:../outside", "~/.ssh/id_rsa", "pickle:model.pkl"):  # fmt: skip
        yield f"the data is {data}", edit("config.json", data=data)
    yield "the data's name is a path", edit("data.json", name="/etc/passwd")
    yield "a domain that names a class", edit("data.json", domain={"kind": "os.system"})
    yield "a domain of 10**18 entries", edit("data.json", domain={"kind": "grid", "channels": 1, "size": [10**9] * 2})
    yield "a condition that names a class", edit("data.json", condition={"kind": "__import__", "names": ["a"]})


STEP = "checkpoints/step-000000005"


class Watch:
    """Notes what a process does through Python's audit hooks, while it is told to look."""

    def __init__(self) -> None:
        self.allowed: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    @contextmanager
    def on(self, allowed: Path) -> Iterator[list[str]]:
        """Within the block: everything but opening what is in ``allowed`` to read it."""
        self.seen, self.allowed = [], allowed
        try:
            yield self.seen
        finally:
            self.allowed = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None or not event.startswith(WATCHED):
            return
        if event == "open" and isinstance(arguments[0], int):
            return  # a descriptor, whose opening was heard
        if event == "open" or event in HARMLESS:
            place = os.path.realpath(os.fsdecode(arguments[0]))
            writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            # a link is refused by the very call that would open it (O_NOFOLLOW), so the call may name it
            refused = event == "open" and arguments[2] & os.O_NOFOLLOW and os.path.islink(arguments[0])
            if not writes and (refused or place.startswith(f"{self.allowed}/")):
                return
        self.seen.append(f"{event} {str(arguments)[:200]}")


def main(folder: Path) -> dict[str, Any]:
    """Outcome and deeds of every variant, and what the hook sees of a careless reader."""
    marker, control = folder / "marker", folder / "control-marker"
    outside = make_run(folder / "outside")
    watch = Watch()
    for name in SPECIES:
        use(make_run(folder / f"good-{name}", name))
    # a refused name goes through parts of the libraries that a good run does not touch
    bad = make_run(folder / "bad")
    for change in (settings_of(latent_features="x"), settings_of(latent_features=10**7)):
        change(bad)
        open_run(bad)
    outcomes: dict[str, Any] = {}
    for number, (name, change) in enumerate(changes(marker, outside)):
        run = make_run(folder / f"run-{number}")
        change(run)
        with watch.on(run) as deeds:
            outcome = open_run(run)
        outcomes[name] = {"outcome": outcome, "deeds": deeds}
    with watch.on(folder / "nowhere") as deeds:
        careless(control, outside)
    return {"variants": outcomes, "ran": marker.exists(), "control": deeds, "control_ran": control.exists()}


def settings_of(**values: Any) -> Change:
    """The run's configuration with other settings."""

    def change(run: Path) -> None:
        content = json.loads((run / "config.json").read_text())
        content["settings"] |= values
        (run / "config.json").write_text(json.dumps(content))

    return change


def open_run(run: Path) -> str:
    """``opened``, the sentence of a refusal, or ``crashed: ...``."""
    try:
        use(run)
    except GenusError as error:
        return str(error)
    except Exception as error:
        return f"crashed: {type(error).__name__}: {error}"
    return "opened"


def careless(marker: Path, outside: Path) -> None:
    """Everything that must not happen, so that the hook is known to hear it."""
    pickle.loads(pickle.dumps(Payload(marker)))
    __import__("this")
    (outside / "config.json").read_text()
    with socket.socket() as connection:
        connection.settimeout(0.1)
        with suppress(OSError):
            connection.connect(("127.0.0.1", 9))
    exec(compile("pass", "<text>", "exec"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1]).resolve()
    result = main(place)
    print()
    print(json.dumps(result))
