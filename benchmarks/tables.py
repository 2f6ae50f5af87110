"""How fast genus trains and samples flows over tables beside nflows 0.14 and zuko 1.6.0.

All sides train on the same rows with the same fused Adam, in one process, in turn, several times;
each pair has equally many steps of the same width and, to a few percent, equally many parameters, save
realnvp beside nflows, whose residual block is one hidden layer more; the second row of realnvp has as many.
The table shows medians, and medians of ratios taken pair by pair. Peers that are not installed are left out:

    pip install zuko==1.6.0; pip install --no-deps --no-build-isolation nflows==0.14
    python benchmarks/tables.py [--features 6 63] [--batch 512] [--seconds 1] [--repeats 7]
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genus import hardware
from genus.contract import Batch, GenerativeModel
from genus.kinds import Vectors
from genus.models.flow.maf import MAF
from genus.models.flow.realnvp import RealNVP
from genus.models.flow.spline_flow import SplineFlow
from genus.prob import noise

SAMPLED = 10_000


class Side:
    """One model in the race: its loss, its sampler."""

    def __init__(self, model: nn.Module, loss: Callable[[Tensor], Tensor], sample: Callable[[int], Any]):
        self.model, self.loss, self.sample = model, loss, sample
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.trained: list[float] = []
        self.sampled: list[float] = []

    def train(self, rows: Tensor, batch: int, seconds: float) -> float:
        """Rows a second, over at least ``seconds``."""
        began, steps = time.perf_counter(), 0
        while steps < 3 or time.perf_counter() - began < seconds:
            start = steps * batch % (len(rows) - batch)
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(rows[start : start + batch]).backward()
            self.optimizer.step()
            steps += 1
        return steps * batch / (time.perf_counter() - began)

    def draw(self, count: int) -> float:
        """Samples a second, in one call."""
        began = time.perf_counter()
        with torch.no_grad():
            self.sample(count)
        return count / (time.perf_counter() - began)


def ours(model: GenerativeModel) -> Side:
    return Side(model, lambda x: model.losses(Batch(x))["loss"].mean(), lambda n: model.sample(n))


def zukos(flow: Any) -> Side:
    return Side(flow, lambda x: -flow().log_prob(x).mean(), lambda n: flow().sample((n,)))


def nflowss(flow: Any) -> Side:
    return Side(flow, lambda x: -flow.log_prob(x).mean(), flow.sample)


def nflows_splines(features: int, layers: int) -> Any:
    """The paper's coupling flow as its authors' library assembles it, without the linear layers."""
    from nflows import distributions, flows, transforms
    from nflows.nn.nets import ResidualNet

    steps: list[Any] = []
    for _ in range(layers):
        steps.append(transforms.RandomPermutation(features))
        steps.append(
            transforms.PiecewiseRationalQuadraticCouplingTransform(
                (torch.arange(features) >= features // 2).int(),
                lambda i, o: ResidualNet(i, o, hidden_features=64, num_blocks=1),
                num_bins=8, tails="linear", tail_bound=5.0,
            )
        )  # fmt: skip
    return flows.Flow(transforms.CompositeTransform(steps), distributions.StandardNormal([features]))


def races(features: int) -> dict[str, dict[str, Side]]:
    """The sides of each race; genus first."""
    domain = Vectors(features)
    found: dict[str, dict[str, Side]] = {
        "realnvp": {"genus": ours(RealNVP(domain, couplings=8))},
        "realnvp, parameters of nflows": {"genus": ours(RealNVP(domain, couplings=8, blocks=2))},
        "maf, as nflows": {"genus": ours(MAF(domain, layers=5, depth=3))},
        "maf, as zuko": {"genus": ours(MAF(domain, layers=5))},
        "spline_flow (coupling)": {"genus": ours(SplineFlow(domain, layers=5))},
        "spline_flow (autoregressive)": {"genus": ours(SplineFlow(domain, layers=5, blocks=2, autoregressive=True))},
    }
    try:
        import nflows.flows as theirs

        for name in ("realnvp", "realnvp, parameters of nflows"):
            found[name]["nflows"] = nflowss(theirs.SimpleRealNVP(features, 64, 8, 1))
        found["maf, as nflows"]["nflows"] = nflowss(theirs.MaskedAutoregressiveFlow(features, 64, 5, 1))
        found["spline_flow (coupling)"]["nflows"] = nflowss(nflows_splines(features, 5))
    except ImportError:
        print("nflows is not installed: left out")
    try:
        import zuko.flows as zuko

        wide = {"hidden_features": (64, 64)}
        found["realnvp"]["zuko"] = zukos(zuko.RealNVP(features, transforms=8, **wide))
        found["maf, as zuko"]["zuko"] = zukos(zuko.MAF(features, transforms=5, **wide))
        found["spline_flow (autoregressive)"]["zuko"] = zukos(zuko.NSF(features, transforms=5, bins=8, **wide))
    except ImportError:
        print("zuko is not installed: left out")
    return found


def main() -> int:
    """Print the table, and a line of JSON with every single figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", type=int, nargs="+", default=[6, 63])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=1.0, help="of training, a side and a turn")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--samples", type=int, default=SAMPLED, help="in one call; 0 does not sample")
    parser.add_argument("--only", default="", help="races whose name has this in it")
    args = parser.parse_args()

    hardware.keep_large_blocks()
    figures: dict[str, Any] = {}
    for features in args.features:
        rows = noise.normal((20 * args.batch, features), noise.stream("rows"))
        chosen = {name: sides for name, sides in races(features).items() if args.only in name}
        print(f"{features} features, batch {args.batch}, {torch.get_num_threads()} threads, medians of {args.repeats}")
        for name, sides in chosen.items():
            for side in sides.values():
                side.train(rows, args.batch, 0.0)  # warm up
            for _ in range(args.repeats):
                for side in sides.values():
                    side.trained.append(side.train(rows, args.batch, args.seconds))
            for _ in range(3 if args.samples else 0):
                for side in sides.values():
                    side.sampled.append(side.draw(args.samples))
            first = sides["genus"]
            for key, side in sides.items():
                ratio = statistics.median(a / b for a, b in zip(first.trained, side.trained, strict=True))
                drawn = statistics.median(side.sampled) if side.sampled else 0.0
                print(
                    f"  {name:<29} {key:<7} {side.parameters:>8,} parameters  "
                    f"trains {statistics.median(side.trained):>9,.0f} rows/s (genus / it = {ratio:.2f})  "
                    f"samples {drawn:>11,.0f}/s"
                )
                figures[f"{features} {name} {key}"] = {"trained": side.trained, "sampled": side.sampled}
    print(f"largest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
