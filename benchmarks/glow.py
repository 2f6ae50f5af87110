"""How fast genus trains Glow, and draws from it, beside normflows.

Pictures of 3x32x32 in 256 levels, 8 steps a level, 3 levels, networks of 512 channels, batches
of 16: both sides in one process, in turn, several times; the table shows medians and the ratio
pair by pair. Each side trains in its own way: genus in the precision of its recipe with fused
Adam, normflows as its examples do (float32, Adam). The pictures are noise; speed does not mind.

    python benchmarks/glow.py [--steps 4] [--repeats 3] [--precision bfloat16]

Without normflows (pip install normflows==1.7.3) the table has genus' rows only, and says so.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import genus
from genus import hardware
from genus.models.flow.glow import Glow

SHAPE, STEPS, LEVELS, HIDDEN, BATCH = (3, 32, 32), 8, 3, 512, 16


def pictures(count: int) -> Tensor:
    """Random pictures ``(count, 3, 32, 32)``, uint8."""
    return torch.randint(256, (count, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def rate(work: Callable[[], object], items: int) -> float:
    """Items per second."""
    began = time.perf_counter()
    work()
    return items / (time.perf_counter() - began)


class Ours:
    """genus' Glow with one step of training as the loop takes it."""

    def __init__(self, precision: str):
        self.precision = precision
        domain = genus.Grid(3, (32, 32), 256)
        self.model = Glow(domain, steps_per_level=STEPS, levels=LEVELS, hidden=HIDDEN)
        self.model.flow.standardise.fit(self.model.continuous(pictures(64))[0])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)

    def step(self, x: Tensor) -> None:
        """Loss, backward, update."""
        self.optimizer.zero_grad(set_to_none=True)
        with hardware.arithmetic(self.precision, torch.device("cpu")):
            loss = self.model.losses(genus.Batch(x))["loss"].mean()
        loss.backward()
        self.optimizer.step()

    def sample(self, count: int) -> Tensor:
        """``count`` pictures, in the precision of training."""
        with hardware.arithmetic(self.precision, torch.device("cpu")):
            return self.model.sample(count)


class Normflows:
    """The same sizes in normflows, built as in its example of Glow."""

    def __init__(self) -> None:
        import normflows as nf

        channels, side = SHAPE[0], SHAPE[1]
        bases, merges, flows = [], [], []
        for i in range(LEVELS):
            wide = channels * 2 ** (LEVELS + 1 - i)
            blocks = [nf.flows.GlowBlock(wide, HIDDEN, split_mode="channel", scale=True) for _ in range(STEPS)]
            flows.append([*blocks, nf.flows.Squeeze()])
            small = side // 2 ** (LEVELS - i)
            if i > 0:
                merges.append(nf.flows.Merge())
                bases.append(nf.distributions.DiagGaussian((wide // 2, small, small)))
            else:
                bases.append(nf.distributions.DiagGaussian((wide, small, small)))
        self.model: Any = nf.MultiscaleFlow(bases, flows, merges)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)

    def step(self, x: Tensor) -> None:
        """Loss, backward, update."""
        self.optimizer.zero_grad(set_to_none=True)
        (-self.model.log_prob((x.float() + torch.rand(x.shape)) / 256, None).mean()).backward()
        self.optimizer.step()

    def sample(self, count: int) -> Tensor:
        """``count`` pictures."""
        with torch.no_grad():
            return self.model.sample(count)[0]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "fast-float32", "bfloat16"])
    args = parser.parse_args()

    hardware.keep_large_blocks()
    sides: dict[str, Any] = {"genus": Ours(args.precision)}
    try:
        sides["normflows"] = Normflows()
    except ImportError:
        print("normflows is not installed, so genus stands alone: pip install normflows==1.7.3.")
    x = pictures(BATCH)
    train: dict[str, list[float]] = {name: [] for name in sides}
    draw: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():  # warm up; this also sets the peer's actnorms
        side.step(x)
        side.sample(BATCH)
    for _ in range(args.repeats):
        for name, side in sides.items():
            train[name].append(rate(lambda side=side: [side.step(x) for _ in range(args.steps)], args.steps * BATCH))
            draw[name].append(rate(lambda side=side: side.sample(BATCH), BATCH))
    print(f"{'':12}{'parameters':>12}{'trains img/s':>14}{'samples img/s':>15}")
    for name, side in sides.items():
        count = sum(p.numel() for p in side.model.parameters())
        print(f"{name:12}{count:>12,}{statistics.median(train[name]):>14.1f}{statistics.median(draw[name]):>15.1f}")
    if "normflows" in sides:
        for what, rates in (("training", train), ("sampling", draw)):
            pairs = [ours / theirs for ours, theirs in zip(rates["genus"], rates["normflows"], strict=True)]
            print(f"{what}: genus / normflows, pair by pair: {', '.join(f'{pair:.2f}' for pair in pairs)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
