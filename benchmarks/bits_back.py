"""What bits-back coding makes of test data beside the model's bound, and whether they come back.

Takes a finished run of a model with latents (a vae), codes the first data of its test split, and decodes the
file in another process with another number of threads. Net bits are those of the whole file (its header
too) less the initial bits; -ELBO is the mean of 64 draws for each datum by `log_weight`, in the
model's own precision. Fails where net bits are not within 2 % of it, or the data do not come back bit for bit.

    python benchmarks/bits_back.py RUN [--count 1000] [--blocks 1 16 64] [--threads 1] [--other-threads 2]
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import genus
from genus.compress import compress
from genus.compress.bits_back import USUAL_BLOCK
from genus.compress.container import unpack
from genus.prob import noise
from genus.runs import Run, open_run

DRAWS = 64
DECODE = (
    "import sys, torch; torch.set_num_threads(int(sys.argv[4]))\n"
    "from genus.cli.__main__ import main; sys.exit(main(['decompress', *sys.argv[1:3], '--out', sys.argv[3]]))"
)


@torch.no_grad()
def bound(run: Run, x: Tensor, labels: Tensor | None) -> tuple[float, float]:
    """-ELBO of all data in bits and its standard error over the draws; labels cost log2(classes) each."""
    generator, draws = noise.stream("benchmark"), torch.zeros(DRAWS, dtype=torch.float64)
    for index in torch.arange(len(x)).split(250):
        given = None if labels is None else labels[index]
        for draw in range(DRAWS):
            q = run.model.posterior(x[index], given)
            draws[draw] -= run.model.log_weight(x[index], q.sample(1, generator), q, given).double().sum()
    known = 0.0 if labels is None else len(x) * math.log2(run.model.condition.count)
    return float(draws.mean()) / math.log(2) + known, float(draws.std()) / math.log(2) / math.sqrt(DRAWS)


def decoded_elsewhere(run: Run, content: bytes, threads: int) -> tuple[np.ndarray, float]:
    """What another process makes of the file, and its seconds from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "test.gnsz", Path(folder) / ("test.npz" if run.condition else "test.npy")
        file.write_bytes(content)
        environment = {**os.environ, "PYTHONPATH": str(Path(genus.__file__).parents[1])}
        began = time.perf_counter()
        command = [sys.executable, "-c", DECODE, str(run.path), str(file), str(out), str(threads)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds, loaded = time.perf_counter() - began, np.load(out, allow_pickle=False)
        return (loaded["x"] if run.condition else loaded), seconds


def main() -> int:
    """Print the table, as Markdown; 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--blocks", type=int, nargs="+", default=[USUAL_BLOCK])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--other-threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    run = open_run(chosen.run)
    x, labels, _ = run.source.test.batch(torch.arange(min(chosen.count, len(run.source.test))))
    labels = None if run.condition is None else labels
    ideal, error = bound(run, x, labels)
    count, held = len(x), {}
    print(f"{run.config.model} on {run.config.data}: {count:,} test data, {x.numel():,} entries of {run.domain}\n")
    print(
        f"-ELBO: {ideal:,.0f} bits (+- {error:,.0f}), {ideal / count:.2f} a datum, {ideal / x.numel():.4f} an entry\n"
    )
    print(
        "| block | bytes | of them initial | net bits | a datum | beside -ELBO | s to code | s to decode, with start |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for block in chosen.blocks:
        began = time.perf_counter()
        content = compress(run, x, labels, block=block)
        coding = time.perf_counter() - began
        back, decoding = decoded_elsewhere(run, content, chosen.other_threads)
        initial = 4 * (unpack(content, "the file").header.initial or 0)
        net = 8 * (len(content) - initial)
        gap = net / ideal - 1
        print(
            f"| {block} | {len(content):,} | {initial:,} | {net:,} | {net / count:.2f} | {100 * gap:+.2f} % "
            f"| {coding:.1f} | {decoding:.1f} |"
        )
        held[f"block {block}: net bits within 2 % of -ELBO"] = abs(gap) <= 0.02
        held[f"block {block}: bit for bit the same after another process decoded it"] = np.array_equal(back, x.numpy())
    print()
    for claim, holds in held.items():
        print(f"{'yes' if holds else 'NO '}  {claim}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
