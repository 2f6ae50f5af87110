"""What the bits of a run depend on besides its configuration."""

import json
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch

import genus
from genus.runs.documents import read_jsonl


def environment(device: torch.device, processes: int, accumulate: int) -> dict[str, Any]:
    """Versions, threads and hardware of this sitting."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "genus": genus.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "accumulate": accumulate,
        "device": gpu or f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


@cache
def commit() -> str | None:
    """The git commit of genus' own source, ``-dirty`` if it was changed; None for an installed package."""
    root = Path(genus.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def note(path: Path, step: int, here: dict[str, Any]) -> str | None:
    """Record the environment where it is new, in ``environment.jsonl``. If the run was begun under
    another one, the sentence that says so: such a resumed run is right, but not the same in every bit."""
    before = read_jsonl(path)
    last = {key: value for key, value in before[-1].items() if key != "step"} if before else {}
    if last != here:
        with path.open("a") as file:
            file.write(json.dumps({"step": step, **here}) + "\n")
    changed = [f"{key} {last.get(key)} → {here.get(key)}" for key in here if last.get(key) != here.get(key)]
    if not before or not changed:
        return None
    return f"warning: resuming under another environment ({', '.join(changed)}); the bits may differ from here on."
