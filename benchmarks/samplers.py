"""Sample quality against the number of network calls, for every sampler of one trained diffusion model.

Takes a finished run of a Gaussian diffusion model (ddpm, edm, flow_matching). `genus diagnose RUN` draws the same
curves; this prints them as Markdown and, with --full, adds the ancestral sampler with every step of the model.

    python benchmarks/samplers.py RUN [--calls 5 10 20 50] [--full] [--count 1000] [--plot samplers.png]
"""

import argparse
import sys
from pathlib import Path

from genus.evaluate.samplers import sampler_curves
from genus.report.noise import curves_plot
from genus.report.pictures import png_of
from genus.training import open_run
from genus.training.hardware import best_device


def main() -> int:
    """Print the table, as Markdown, and draw the curves where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--calls", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--full", action="store_true", help="also the ancestral sampler with every step of the model")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=128, help="samples drawn together")
    parser.add_argument("--plot", type=Path, default=None)
    chosen = parser.parse_args()
    run = open_run(chosen.run, best_device())
    found = sampler_curves(
        run.model, run.source, run.source.test, calls=chosen.calls, full=chosen.full, items=chosen.count,
        batch_size=chosen.batch_size,
    )  # fmt: skip
    print(f"{run.config.model} on {run.config.data}, {found.items} samples, {found.features}\n")
    print("| sampler | network calls | Fréchet distance | s for all |\n|---|---|---|---|")
    print(f"| *real training items* | | {found.floor:.2f} ± {found.stderr or 0:.2f} | |")
    for sampler, calls, distance, error, seconds in found.points:
        print(f"| {sampler} | {calls} | {distance:.2f} ± {error or 0:.2f} | {seconds:.1f} |")
    if chosen.plot is not None:
        chosen.plot.write_bytes(png_of(curves_plot(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
