"""Sampling one position a step beside one full pass per pixel, for the same pictures from the same noise.

Binary 28x28 pictures. The full passes of a picture are all the same work, so only some are timed,
at rows spread over the picture, and the time of all 784 is worked out from their median; --whole
runs all of them, and then compares the pictures too. Medians over the repeats.

    python benchmarks/pixelcnn.py [--models gated_pixelcnn pixelcnn] [--batches 16 64] [--repeats 3] [--whole]
"""

import argparse
import statistics
import time
from typing import Any, cast

import torch

from genus import registry
from genus.kinds import Grid
from genus.models.autoregressive._entries import every_level
from genus.models.autoregressive._masked import RasterModel
from genus.prob import chain, noise

DOMAIN = Grid(1, (28, 28), 2)
SETTINGS: dict[str, dict[str, Any]] = {
    "gated_pixelcnn": {"features": 32, "dilations": (1,) * 5},
    "pixelcnn": {"features": 16, "blocks": 15},
    "pixelrnn": {"features": 16, "layers": 7},
    "pixelcnn_pp": {"features": 32, "depth": 2, "stages": 3},
}
PASSES = 12  # that stand for all 784


def seconds_of_a_walk(model: RasterModel, count: int) -> tuple[float, torch.Tensor]:
    """Sampling as genus does it."""
    began = time.perf_counter()
    x = model.sample(count, generator=noise.stream("benchmark"))
    return time.perf_counter() - began, x


@torch.no_grad()
def seconds_of_full_passes(model: RasterModel, count: int, passes: int) -> tuple[float, torch.Tensor]:
    """Sampling with the network run over the whole picture for each pixel; ``passes`` of 784 are run."""
    x, generator = torch.zeros(count, 1, 28, 28, dtype=torch.uint8), noise.stream("benchmark")
    times = []
    for place in range(0, 784, 784 // passes):
        began = time.perf_counter()
        row, column = divmod(place, 28)
        logits = model.logits(x)[:, 0, :, row, column]
        x[:, 0, row, column] = chain.draw(every_level(logits), generator).to(torch.uint8)
        times.append(time.perf_counter() - began)
    return 784 * statistics.median(times), x


@torch.no_grad()
def largest_gap(model: RasterModel, x: torch.Tensor) -> float:
    """Between the logits of a walk and those of one full pass, over all positions."""
    full, stepwise = model.logits(x), torch.full((len(x), 1, 1, 28, 28), torch.nan)

    def choose(logits: torch.Tensor, channel: int, row: int, column: int) -> torch.Tensor:
        stepwise[:, channel, :, row, column] = logits
        return x[:, channel, row, column]

    model.walk(len(x), None, choose)
    return float((stepwise - full).abs().max())


def main() -> None:
    """Print the number of threads and a table of seconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--batches", nargs="*", type=int, default=[16, 64])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="run all 784 full passes of a picture")
    chosen = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    print("model            batch  full passes/s  one position/s  ratio  logits differ by")
    for name in chosen.models:
        torch.manual_seed(0)
        model = cast(RasterModel, registry.get(name)(DOMAIN, **SETTINGS[name]))
        model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        seconds_of_a_walk(model, 1)  # warm up
        for count in chosen.batches:
            naive, ours = [], []
            for _ in range(chosen.repeats):  # in turn, so that a busy machine is busy for both
                seconds, x = seconds_of_full_passes(model, count, 784 if chosen.whole else PASSES)
                naive.append(seconds)
                seconds, walked = seconds_of_a_walk(model, count)
                ours.append(seconds)
            slow, fast = statistics.median(naive), statistics.median(ours)
            ratio, gap = slow / fast, largest_gap(model, walked)
            same = f"  {float((x == walked).float().mean()):.4%} of pixels equal" if chosen.whole else ""
            print(f"{name:<16} {count:>5}  {slow:>13.2f}  {fast:>14.3f}  {ratio:>5.0f}  {gap:>16.1e}{same}", flush=True)


if __name__ == "__main__":
    main()
