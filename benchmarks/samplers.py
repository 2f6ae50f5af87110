"""Sample quality against the number of network calls, for every sampler of one trained diffusion model.

Takes a finished run of a Gaussian diffusion model (ddpm, edm, flow_matching). Each sampler draws as many samples as
there are held-out items to compare with, from the same noise, with about so many network calls (heun takes two a step,
runge_kutta four); the table gives the Fréchet distance in the named feature space beside that of training items.

    python benchmarks/samplers.py RUN [--calls 5 10 20 50] [--full] [--count 1000] [--plot samplers.png]
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure

from genus.evaluate._items import choose, gather
from genus.evaluate.features import features_of
from genus.evaluate.fidelity import compare
from genus.evaluate.scorecard import draw
from genus.models.diffusion._diffusion import GaussianDiffusion
from genus.report.pictures import INK, plain, png_of
from genus.training import open_run

A_STEP = {"ancestral": 1, "ddim": 1, "dpm_solver": 1, "heun": 2, "runge_kutta": 4}


def main() -> int:
    """Print the table, as Markdown, and draw the curves where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--calls", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--full", action="store_true", help="also the ancestral sampler with every step of the model")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--plot", type=Path, default=None)
    chosen = parser.parse_args()
    run = open_run(chosen.run)
    model, source = run.model, run.source
    if not isinstance(model, GaussianDiffusion):
        raise SystemExit(f"{chosen.run}: expected a ddpm, edm or flow_matching; got {run.config.model}.")
    features, test = features_of(source), source.test
    real = gather(test, choose(len(test), chosen.count, 0), 0)
    held_out = features.extract(real.x)

    def distance(x: torch.Tensor) -> tuple[float, float]:
        found = compare(held_out, features.extract(x))["Fréchet distance"]
        return found.value, found.stderr or 0.0

    floor = distance(gather(source.train, choose(len(source.train), len(real.x), 0), 0).x)
    print(f"{run.config.model} on {run.config.data}, {len(real.x)} samples, {features.protocol}\n")
    print("| sampler | network calls | Fréchet distance | s for all |\n|---|---|---|---|")
    print(f"| *real training items* | | {floor[0]:.2f} ± {floor[1]:.2f} | |")
    curves: dict[str, list[tuple[int, float]]] = {}

    def row(name: str, steps: int | None, calls: int) -> None:
        began = time.perf_counter()
        x = draw(model, len(real.x), real.condition, 0, options={"sampler": name, "steps": steps})
        seconds = time.perf_counter() - began
        value, error = distance(x)
        curves.setdefault(name, []).append((calls, value))
        print(f"| {name} | {calls} | {value:.2f} ± {error:.2f} | {seconds:.1f} |", flush=True)

    for name, each in A_STEP.items():
        for calls in chosen.calls:
            if calls // each >= 2:
                row(name, calls // each, calls // each * each)
    if chosen.full:
        row("ancestral", None, len(model.times(None)) - 1)
    if chosen.plot is not None:
        figure = Figure((6.4, 3.6), layout="constrained")
        axis = figure.subplots()
        for name, points in curves.items():
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.4, label=name)
        axis.axhline(floor[0], color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label="real training items")
        axis.set(xscale="log", yscale="log", xlabel="network calls", ylabel="Fréchet distance")
        axis.legend(fontsize=7, frameon=False)
        plain(axis)
        chosen.plot.write_bytes(png_of(figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
