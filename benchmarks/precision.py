"""Does bfloat16 harm the loss? Trains quick recipes in both precisions, and compares.

python benchmarks/precision.py [--seeds 2]
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import genus

CASES = (("realnvp", "digits", 300), ("point_diffusion", "furniture", 400), ("vae", "digits", 600))


def main() -> int:
    """Print the best validation loss and the speed of each recipe in both precisions."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    seeds = range(parser.parse_args().seeds)
    print("model            steps  precision   validation loss        data/s")
    for model, data, steps in CASES:
        for precision in ("float32", "bfloat16"):
            losses, speeds = [], []
            for seed in seeds:
                with tempfile.TemporaryDirectory() as folder:
                    run = genus.train(
                        model, data, out=Path(folder) / "run", steps=steps, seed=seed, precision=precision, quiet=True
                    )
                    losses.append(run.state["best"])
                    speeds.append(steps * run.config.recipe.batch_size / run.training_seconds)
            spread = " ".join(f"{loss:.4f}" for loss in losses)
            print(
                f"{model:<16} {steps:>5}  {precision:<10}  {spread:<20}  {statistics.median(speeds):>8,.0f}", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
