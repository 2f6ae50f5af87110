"""What `genus compress` makes of test pictures beside PNG, WebP and xz, and whether they come back.

Takes a finished run, codes the first pictures of its test split, and decodes the file in another
process with another number of threads. The rivals get their best case: PNG with optimised filters
(1 bit a pixel for two levels) and lossless WebP at full effort, a file for each picture and all on one
sheet; xz at its strongest, of the bytes and, for two levels, of the packed bits. Fails where the file is
not within 0.5 % + 64 bytes of -log2 p(x), not the smallest, or does not come back bit for bit.

    python benchmarks/compression.py RUN [--count 1000] [--block 128] [--threads 1] [--other-threads 2]
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
from genus.compress.rivals import rivals
from genus.kinds import Grid
from genus.runs import Run

DECODE = (
    "import sys, torch; torch.set_num_threads(int(sys.argv[4]))\n"
    "from genus.cli.__main__ import main; sys.exit(main(['decompress', *sys.argv[1:3], '--out', sys.argv[3]]))"
)


@torch.no_grad()
def information(run: Run, x: Tensor, labels: Tensor | None) -> float:
    """-log2 p of the data in bits, by `log_prob` in the model's own precision; labels cost log2(classes) each."""
    nats = 0.0
    for index in torch.arange(len(x)).split(100):
        given = None if labels is None else labels[index]
        nats -= float(run.model.log_prob(x[index], condition=given).double().sum())  # type: ignore[operator]
    return nats / math.log(2) + (0.0 if labels is None else len(x) * math.log2(run.model.condition.count))  # type: ignore[union-attr]


def decoded_elsewhere(run: Run, content: bytes, threads: int, labelled: bool) -> tuple[np.ndarray, float]:
    """What another process makes of the file, and its seconds from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "test.gnsz", Path(folder) / ("test.npz" if labelled else "test.npy")
        file.write_bytes(content)
        source = str(Path(genus.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": source}
        began = time.perf_counter()
        command = [sys.executable, "-c", DECODE, str(run.path), str(file), str(out), str(threads)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds, loaded = time.perf_counter() - began, np.load(out, allow_pickle=False)
        return (loaded["x"] if labelled else loaded), seconds


def main() -> int:
    """Print the table, as Markdown; 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--block", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--other-threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    run = Run(chosen.run)
    x, labels, _ = run.source.test.batch(torch.arange(min(chosen.count, len(run.source.test))))
    labels = None if run.condition is None else labels
    began = time.perf_counter()
    content = compress(run, x, labels, block=chosen.block)
    coding = time.perf_counter() - began
    back, decoding = decoded_elsewhere(run, content, chosen.other_threads, labels is not None)
    size, ideal = len(content), information(run, x, labels) / 8
    others = rivals(x, run.domain) if isinstance(run.domain, Grid) else {}
    print(f"{run.config.model} on {run.config.data}: {len(x):,} test data, {x.numel():,} entries of {run.domain}\n")
    print("| | bytes | bits/dim | of this file |\n|---|---:|---:|---:|")
    for name, count in {"genus compress": size, "-log2 p(x)": ideal, **others}.items():
        print(f"| {name} | {count:,.0f} | {8 * count / x.numel():.4f} | {count / size:.3f} |")
    print(f"\ncoded in {coding:.1f} s, decoded in another process in {decoding:.1f} s (with its start)")
    held = {
        f"within 0.5 % + 64 bytes of -log2 p(x): {size - ideal:+,.0f} bytes": abs(size - ideal) <= 0.005 * ideal + 64,
        f"smaller than all {len(others)} others": all(size < other for other in others.values()),
        "bit for bit the same after another process decoded it": np.array_equal(back, x.numpy()),
    }
    for claim, holds in held.items():
        print(f"{'yes' if holds else 'NO '}  {claim}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
