"""How many samples of sound a second WaveNet draws: genus' compiled walk, its walk in torch, and a plain loop.

The published size (30 layers, channels 32/32/256/256), one sound at a time, one thread. The plain loop
is what public implementations do: modules called one after the other on tensors (batch, channels,
1), a queue a layer. All draw from the same weights; the largest gap between the logits of each and
those of one full pass is printed beside the speed. Runs take turns, so that a busy machine is busy
for all; on a busy machine processor seconds tell more than the clock, so both are given.

    python benchmarks/wavenet.py [--repeats 9] [--samples 4000] [--plain-samples 400]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from genus.kinds import Waveform
from genus.models.autoregressive import _wavenet_numba as fast
from genus.models.autoregressive.wavenet import Layer, WaveNet
from genus.prob import noise

RATE = 16_000
Draw = Callable[[int, Tensor | None], tuple[Tensor, Tensor]]
"""Samples (1, T) and the logits that they are drawn from; with given samples, the logits there."""


class PlainLoop:
    """The same network as convolutions, stepped with queues."""

    def __init__(self, model: WaveNet):
        self.model, self.layers = model, []
        gated = model.layers[0].gate.out_features // 2  # type: ignore[union-attr]
        skips = model.head[0].weight.split(gated, 1)  # type: ignore[union-attr, operator]
        for layer, skip in zip(model.layers, skips, strict=True):
            assert isinstance(layer, Layer)
            then, now = layer.gate.weight.unsqueeze(-1).chunk(2, 1)
            self.layers.append((layer.dilation, _conv(torch.cat([then, now], -1), layer.gate.bias),
                                None if layer.back is None else _conv(layer.back.weight.unsqueeze(-1), layer.back.bias),
                                _conv(skip.unsqueeze(-1), None)))  # fmt: skip

    @torch.no_grad()
    def draw(self, count: int, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sample by sample."""
        model, found, drawn = self.model, [], []
        head = [_conv(model.head[k].weight.unsqueeze(-1), model.head[k].bias) for k in (2, 4)]  # type: ignore[union-attr, operator]
        queues = [[torch.zeros(1, model.bias.numel(), 1)] * dilation for dilation, *_ in self.layers]
        h = model.bias.view(1, -1, 1)
        for t in range(count):
            total = model.head[0].bias.view(1, -1, 1)  # type: ignore[union-attr, operator]
            for queue, (_, gate, back, skip) in zip(queues, self.layers, strict=True):
                then = queue.pop(0)
                queue.append(h)
                one, other = gate(torch.cat([then, h], 2)).chunk(2, 1)
                z = one.tanh() * other.sigmoid()
                h = h if back is None else h + back(z)
                total = total + skip(z)
            logits = head[1](head[0](total.relu()).relu()).squeeze(2)
            entry = noise.categorical(logits, None) if given is None else given[:, t].long()
            found.append(logits)
            drawn.append(entry)
            h = (model.embed(entry) + model.bias).unsqueeze(2)
        return torch.stack(drawn, 1), torch.stack(found, 1)


def _conv(weight: Tensor, bias: Tensor | None) -> nn.Conv1d:
    conv = nn.Conv1d(weight.shape[1], weight.shape[0], weight.shape[2], bias=bias is not None)
    conv.weight.data = weight.detach().contiguous()
    if bias is not None:
        assert conv.bias is not None
        conv.bias.data = bias.detach()
    return conv


def chain_rule(model: WaveNet) -> Draw:
    """The walk that needs no numba."""

    @torch.no_grad()
    def draw(count: int, given: Tensor | None) -> tuple[Tensor, Tensor]:
        walk, found, drawn = model.chain_rule(1), [], []
        _, logits = next(walk)
        for t in range(count):
            entry = noise.categorical(logits, None) if given is None else given[:, t].long()
            found.append(logits)
            drawn.append(entry)
            if t + 1 < model.domain.length:
                _, logits = walk.send(entry)
        return torch.stack(drawn, 1), torch.stack(found, 1)

    return draw


def compiled(model: WaveNet) -> Draw:
    """What `WaveNet.sample` does."""

    def draw(count: int, given: Tensor | None) -> tuple[Tensor, Tensor]:
        x = torch.zeros(1, count, dtype=torch.uint8) if given is None else given
        keep, found = torch.full_like(x, given is not None, dtype=torch.bool), None
        if given is not None:
            found = np.empty((1, count, 256), np.float32)
        u = noise.uniform((1, count), None, dtype=torch.float64)
        drawn = fast.walk(model.weights(), model.place, None, x, keep, u, found)
        return drawn, torch.empty(0) if found is None else torch.from_numpy(found)

    return draw


def main() -> None:
    """Print a table of samples a second."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--plain-samples", type=int, default=400)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = WaveNet(Waveform(chosen.samples, RATE)).eval()
    ways: dict[str, tuple[Draw, int]] = {
        "compiled (genus sample)": (compiled(model), chosen.samples),
        "torch (genus chain_rule)": (chain_rule(model), chosen.plain_samples),
        "plain loop, as others": (PlainLoop(model).draw, chosen.plain_samples),
    }
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    began = time.perf_counter()
    compiled(model)(10, None)
    print(f"1 thread; {time.perf_counter() - began:.1f} s to compile (kept on disk for the next process)")
    for _ in range(chosen.repeats):
        for name, (draw, count) in ways.items():
            start = time.perf_counter(), time.process_time()
            draw(count, None)
            clock[name].append(count / (time.perf_counter() - start[0]))
            processor[name].append(count / (time.process_time() - start[1]))
    x = noise.integers(256, (1, chosen.samples), noise.stream("given")).to(torch.uint8)
    with torch.no_grad():
        full = model.logits(x)
    slowest = statistics.median(processor["plain loop, as others"])
    print(f"{'samples a second':<26}{'median':>9}{'best':>9}{'by CPU time':>13}{'best':>9}{'ratio':>7}{'gap':>9}")
    for name, (draw, count) in ways.items():
        shown = x if name.startswith("compiled") else x[:, :count]
        gap = float((draw(shown.shape[1], shown)[1] - full[:, : shown.shape[1]]).abs().max())
        cpu = statistics.median(processor[name])
        print(f"{name:<26}{statistics.median(clock[name]):>9,.0f}{max(clock[name]):>9,.0f}{cpu:>13,.0f}"
              f"{max(processor[name]):>9,.0f}{cpu / slowest:>7.1f}{gap:>9.0e}")  # fmt: skip


if __name__ == "__main__":
    main()
