"""What exactness and survival come to, in figures: kills, workers, processes, and their price.

python benchmarks/resume.py            all of it, about twelve minutes on two cores
python benchmarks/resume.py price      one part: kills, ranks, processes, buckets or price
"""

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training"))

import torch
import torch.distributed as dist
from runs import SETTINGS, command, files, finish, kill_again_and_again
from test_processes import losses

import genus
from genus.training import recorder, session

DEMO = ("nade", "vae", "realnvp", "ddpm", "dcgan")


def kills() -> None:
    """SIGKILL every species six times at random steps; the finished run against an uninterrupted one."""
    total = same = 0
    for model in SETTINGS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            finish(command(model, folder / "whole"))
            hits = kill_again_and_again(command(model, folder / "stopped"), folder / "stopped", 6, seed=1)
            equal = files(folder / "stopped") == files(folder / "whole")
        total, same = total + hits, same + equal
        print(f"  {model:16} {hits} kills  {'same bits' if equal else 'DIFFERENT'}", flush=True)
    print(f"kills: {total}; runs with the same bits as uninterrupted ones: {same} of {len(SETTINGS)}")


def ranks() -> None:
    """SIGKILL one rank of two, and of three, under torchrun."""
    for processes, number in ((2, 5), (3, 3)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            finish(command("vae", folder / "whole", processes=processes))
            line = command("vae", folder / "stopped", processes=processes)
            hits = kill_again_and_again(line, folder / "stopped", number, seed=2, rank=processes - 1)
            equal = files(folder / "stopped") == files(folder / "whole")
        print(f"{processes} processes: {hits} kills of one rank, {'same bits' if equal else 'DIFFERENT'}", flush=True)


def processes() -> None:
    """The loss with two and three processes, and in three parts, against one process."""
    for model, more in (
        ("nade", []),
        ("vae", []),
        ("ddpm", []),
        ("realnvp", []),
        ("realnvp", ["--learning-rate", "1e-4"]),
    ):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            finish(command(model, folder / "1", *more))
            finish(command(model, folder / "2", *more, processes=2))
            finish(command(model, folder / "3", *more, processes=3))
            finish(command(model, folder / "parts", *more, "--accumulate", "3"))
            one = losses(folder / "1")[:50]
            gaps = [
                max(abs(a - b) / abs(a) for a, b in zip(one, losses(folder / other)[:50], strict=True))
                for other in ("2", "3", "parts")
            ]
        print(f"{model:8} {' '.join(more)} largest relative difference of the loss in 50 steps: "
              f"2 processes {gaps[0]:.1e}, 3 processes {gaps[1]:.1e}, 3 parts {gaps[2]:.1e}", flush=True)  # fmt: skip


def buckets() -> None:
    """Why DistributedDataParallel is not used: a run resumed in its middle, against an uninterrupted one."""
    for world in (2, 3):
        line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world), __file__, "_buckets"]
        told = subprocess.run(line, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        print(told.stdout.strip(), flush=True)


def _buckets() -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()

    def fresh() -> torch.nn.Module:
        torch.manual_seed(0)
        wide = [torch.nn.Linear(64, 700), torch.nn.ReLU(), torch.nn.Linear(700, 700), torch.nn.ReLU()]
        return torch.nn.Sequential(*wide, torch.nn.Linear(700, 10))

    def descend(net: torch.nn.Module, steps: range, state: Any, ddp: bool) -> dict[str, Any]:
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        if state:
            optimizer.load_state_dict(state)
        forward = torch.nn.parallel.DistributedDataParallel(net) if ddp else net
        for step in steps:
            generator = torch.Generator().manual_seed(100 * step + rank)
            x = torch.randn(16, 64, generator=generator)
            y = torch.randint(10, (16,), generator=generator)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(forward(x), y).backward()
            if not ddp:
                team.average_gradients(list(net.parameters()))
            optimizer.step()
        return optimizer.state_dict()

    def bits(net: torch.nn.Module) -> str:
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters())).hexdigest()

    from genus.training.parallel import Team

    team = Team()
    for ddp in (True, False):
        whole, first, second = fresh(), fresh(), fresh()
        descend(whole, range(20), None, ddp)
        state = descend(first, range(9), None, ddp)
        second.load_state_dict(first.state_dict())
        descend(second, range(9, 20), state, ddp)
        if rank == 0:
            name = "DistributedDataParallel" if ddp else "one flat tensor (genus)"
            print(
                f"{world} processes, {name}: resumed run {'same bits' if bits(whole) == bits(second) else 'DIFFERENT'}"
            )


def price(minutes: float = 0.35) -> None:
    """The share of training time that checkpoints, checks, records and watching take in the demo's runs."""
    spent: dict[str, float] = {}

    def timed(owner: Any, name: str, key: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                spent[key] = spent.get(key, 0.0) + time.perf_counter() - began

        setattr(owner, name, measured)

    timed(recorder.Recorder, "save", "checkpoints")
    timed(recorder.Watch, "look", "warnings")
    timed(recorder.Recorder, "write", "records")
    timed(session.Session, "validate", "validation")
    shares = []
    for model in DEMO:
        spent.clear()
        with tempfile.TemporaryDirectory() as folder:
            run = genus.train(model, "digits", out=Path(folder) / "run", minutes=minutes, quiet=True)
            seconds = run.training_seconds
        percent = {key: 100 * value / seconds for key, value in sorted(spent.items())}
        share = sum(value for key, value in percent.items() if key != "validation")
        shares.append(share)
        told = ", ".join(f"{key} {value:.2f}" for key, value in percent.items())
        print(f"  {model:8} {seconds:5.1f} s of training; in per cent: {told}", flush=True)
    print(f"checkpoints, warnings and records: median {statistics.median(shares):.2f} %, most {max(shares):.2f} %")


PARTS = {part.__name__: part for part in (kills, ranks, processes, buckets, price)}

if __name__ == "__main__":
    if sys.argv[1:] == ["_buckets"]:
        _buckets()
    else:
        for chosen in sys.argv[1:] or PARTS:
            print(f"-- {chosen}: {PARTS[chosen].__doc__}", flush=True)
            PARTS[chosen]()
