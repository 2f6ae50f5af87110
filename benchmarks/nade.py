"""How fast genus trains and samples NADE beside the plain loop over pixels.

The plain loop carries the hidden activation from pixel to pixel and leaves the gradient to
autograd, as public implementations do. It is written out twice: `lean` computes nothing that
is not needed; `drawing` also draws a value at every pixel while it trains and keeps the one of
the data (`torch.where`), as a widely used implementation does, which lets one function train and
sample. All have 784-500 weights, float32, binary inputs and the fused Adam. All work in turn, in
one process; the table shows medians, of ratios pair by pair.

    python benchmarks/nade.py [--repeats 5] [--threads 2]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus import hardware
from genus.contract import Batch
from genus.kinds import Grid
from genus.models.autoregressive.nade import NADE
from genus.prob import noise

PIXELS, HIDDEN = 784, 500


class PlainNADE(nn.Module):
    """The chain rule as a loop over pixels."""

    def __init__(self, drawing: bool):
        super().__init__()
        self.drawing = drawing
        self.w = nn.Parameter(0.05 * torch.randn(HIDDEN, PIXELS))
        self.v = nn.Parameter(0.05 * torch.randn(PIXELS, HIDDEN))
        self.b = nn.Parameter(torch.zeros(PIXELS))
        self.c = nn.Parameter(torch.zeros(HIDDEN))

    def walk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and values ``(B, D)``; values below 0 are drawn."""
        a, logits, values = self.c.expand(len(x), -1), [], []
        sampling = bool((x < 0).any())
        for i in range(PIXELS):
            z = torch.sigmoid(a) @ self.v[i : i + 1].T + self.b[i]
            value = x[:, i : i + 1]
            if self.drawing:
                value = torch.where(value < 0, torch.distributions.Bernoulli(probs=z.sigmoid()).sample(), value)
            elif sampling:
                value = torch.bernoulli(z.sigmoid())
            logits.append(z)
            values.append(value)
            a = a + value @ self.w[:, i : i + 1].T
        return torch.cat(logits, 1), torch.cat(values, 1)

    def loss(self, x: Tensor) -> Tensor:
        """Mean negative log-likelihood, in nats."""
        x = x.flatten(1).float()
        return F.binary_cross_entropy_with_logits(self.walk(x)[0], x, reduction="none").sum(1).mean()

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """``count`` pictures."""
        return self.walk(-torch.ones(count, PIXELS))[1]


def training(model: nn.Module, loss: Callable[[Tensor], Tensor], batch: int) -> Callable[[], float]:
    """A function that takes one step and returns images per second."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    x = (noise.uniform((batch, 1, 28, 28), noise.stream("pictures", batch)) < 0.3).to(torch.uint8)

    def step() -> float:
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()
        return batch / (time.perf_counter() - began)

    return step


def sampling(draw: Callable[[int], Tensor], count: int) -> Callable[[], float]:
    """A function that draws once and returns images per second."""

    def step() -> float:
        began = time.perf_counter()
        draw(count)
        return count / (time.perf_counter() - began)

    return step


def check(ours: NADE, plain: PlainNADE) -> None:
    """Both sides compute the same number and the same gradient: anything else is not compared."""
    plain.w.data.copy_(ours.w[:, 0].T)
    plain.v.data.copy_(ours.v[:, 0])
    x = (noise.uniform((8, 1, 28, 28), noise.stream("same")) < 0.3).to(torch.uint8)
    one, other = ours.losses(Batch(x))["loss"].mean(), plain.loss(x)
    one.backward()
    other.backward()
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(ours.w.grad[:, 0].T, plain.w.grad, rtol=1e-3, atol=1e-5)


def main() -> int:
    """Print the table, and a line of JSON with every single figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    hardware.keep_large_blocks()
    model, lean, drawing = NADE(Grid(1, (28, 28), 2)), PlainNADE(False), PlainNADE(True)
    check(model, lean)

    def ours(x: Tensor) -> Tensor:
        return model.losses(Batch(x))["loss"].mean()

    tasks = {
        **{f"train, batch {n}": [training(model, ours, n), training(lean, lean.loss, n),
                                 training(drawing, drawing.loss, n)] for n in (64, 512)},
        **{f"sample {n}": [sampling(model.sample, n), sampling(lean.sample, n), sampling(drawing.sample, n)]
           for n in (16, 64)},
    }  # fmt: skip
    sides = ("genus", "lean loop", "drawing loop")
    figures: dict[str, dict[str, list[float]]] = {}
    print(f"NADE {PIXELS}-{HIDDEN}, float32, {args.threads} threads, images/s, medians of {args.repeats}")
    for task, steps in tasks.items():
        for step in steps:
            step()  # warm up
        rounds = [[step() for step in steps] for _ in range(args.repeats)]
        figures[task] = {side: list(values) for side, values in zip(sides, zip(*rounds, strict=True), strict=True)}
        median = {side: statistics.median(values) for side, values in figures[task].items()}
        ratios = [statistics.median(r[0] / r[k] for r in rounds) for k in (1, 2)]
        print(f"  {task:<18}" + "".join(f"{side} {median[side]:>8,.0f}   " for side in sides)
              + f"genus / lean {ratios[0]:.2f}, / drawing {ratios[1]:.2f}")  # fmt: skip
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
