"""WaveNet's walk through time, compiled: one queue a layer, every layer of a step in one loop.

One processor core, float32. A step of the published size multiplies with 530,000 numbers, which
stay in the core's cache, so what counts is that they are read in the order in which they lie, and
that nothing is called or allocated on the way. Products go by rows of the (inputs, outputs)
matrices, four at a time: no sums across a vector. tanh is a ratio of polynomials, which a
compiler can vectorise, as it cannot the library's function.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]


class Weights(NamedTuple):
    """Matrices are (inputs, outputs); those of the layers are stacked along a first axis."""

    dilations: NDArray[np.int64]
    embed: Floats
    start: Floats
    gate: Floats
    gate_bias: Floats
    back: Floats
    back_bias: Floats
    skip: Floats
    skip_bias: Floats
    middle: Floats
    middle_bias: Floats
    out: Floats
    out_bias: Floats

    @classmethod
    def of(cls, dilations: Sequence[int], head: Sequence[tuple[Tensor, Tensor]], **parts: Tensor) -> Self:
        """From tensors of any device; ``head``: the matrix and bias of the three last products."""
        flat = [_floats(part) for pair in head for part in pair]
        return cls(
            np.array(dilations), *(_floats(parts[name]) for name in cls._fields[1:7]), *flat,
        )  # fmt: skip


def _floats(part: Tensor) -> Floats:
    return part.detach().to("cpu", torch.float32).contiguous().numpy()


@cache
def available() -> bool:
    """Whether numba is installed."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def walk(
    weights: Weights,
    place: Tensor,
    told: Tensor | None,
    x: Tensor,
    keep: Tensor,
    u: Tensor,
    logits: Floats | None = None,
) -> Tensor:
    """``x`` (B, T) with what is not kept drawn by the uniform numbers ``u`` (B, T), int64 on the CPU.

    place: which step of the condition each entry goes with. told: what the condition adds
    before each gate, ``(B, M, layers, 2 * gated)``. logits: an array (B, T, levels) to keep all
    logits in.
    """
    bias = weights.gate_bias[None, None]
    added = np.broadcast_to(bias, (len(x), *bias.shape[1:])) if told is None else _floats(told) + bias
    drawn = x.cpu().numpy().astype(np.int64)
    kept = np.empty((0, 0, 0), np.float32) if logits is None else logits
    _compiled()(*weights, np.ascontiguousarray(added), place.cpu().numpy(), drawn, keep.cpu().numpy(), u.numpy(), kept)
    return torch.from_numpy(drawn)


@cache
def _compiled() -> Callable[..., None]:
    """The loop as machine code, kept beside this file (or where numba keeps what it cannot) for the next process."""
    import numba

    def compiled(function: Callable[..., Any], **more: Any) -> Any:
        settings = {"fastmath": True, "nogil": True, "error_model": "numpy", **more}
        try:
            return numba.njit(cache=True, **settings)(function)
        except RuntimeError:  # no folder to write to
            return numba.njit(**settings)(function)

    add_product = compiled(_add_product)
    gated = compiled(_gated)
    choose = compiled(_choose)
    rectify = compiled(_rectify)

    def affine(y: Floats, x: Floats, matrix: Floats, bias: Floats) -> None:
        for i in range(len(y)):
            y[i] = bias[i]
        add_product(y, x, matrix)

    layer = compiled(affine)

    def loop(
        dilations: Any, embed: Any, start: Any, gate: Any, gate_bias: Any, back: Any, back_bias: Any,
        skip: Any, skip_bias: Any, middle: Any, middle_bias: Any, out: Any, out_bias: Any,
        told: Any, place: Any, x: Any, keep: Any, u: Any, record: Any,
    ) -> None:  # fmt: skip
        count, length = x.shape
        layers, residual, width = len(dilations), embed.shape[1], back.shape[1]
        first = np.zeros(layers + 1, np.int64)  # where each layer's queue begins
        for k in range(layers):
            first[k + 1] = first[k] + dilations[k]
        queues = np.empty((first[layers], residual), np.float32)
        pair, a = np.empty(2 * residual, np.float32), np.empty(2 * width, np.float32)
        h = pair[residual:]
        z, here = np.empty(layers * width, np.float32), np.empty(width, np.float32)
        s, m = np.empty(len(skip_bias), np.float32), np.empty(len(middle_bias), np.float32)
        logits, p = np.empty(len(out_bias), np.float32), np.empty(len(out_bias), np.float64)
        for item in range(count):
            queues[:] = 0
            for t in range(length):
                now = embed[x[item, t - 1]] if t else start
                for i in range(residual):
                    h[i] = now[i]
                for k in range(layers):
                    slot = first[k] + t % dilations[k]
                    for i in range(residual):
                        pair[i] = queues[slot, i]
                        queues[slot, i] = pair[residual + i]
                    for i in range(2 * width):
                        a[i] = told[item, place[t], k, i]
                    add_product(a, pair, gate[k])
                    gated(here, a)
                    for i in range(width):
                        z[k * width + i] = here[i]
                    for i in range(residual):
                        h[i] += back_bias[k, i]
                    add_product(h, here, back[k])
                layer(s, z, skip, skip_bias)
                rectify(s)
                layer(m, s, middle, middle_bias)
                rectify(m)
                layer(logits, m, out, out_bias)
                if record.size:
                    record[item, t] = logits
                if not keep[item, t]:
                    x[item, t] = choose(logits, p, u[item, t])

    return cast(Callable[..., None], compiled(loop))


def _add_product(y: Floats, x: Floats, matrix: Floats) -> None:
    """``y += x @ matrix``, four rows at a time."""
    inputs, outputs = matrix.shape
    whole = inputs - inputs % 8
    for i in range(0, whole, 8):
        x0, x1, x2, x3, x4, x5, x6, x7 = x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        for j in range(outputs):
            y[j] += (x0 * matrix[i, j] + x1 * matrix[i + 1, j] + x2 * matrix[i + 2, j] + x3 * matrix[i + 3, j]) + (
                x4 * matrix[i + 4, j] + x5 * matrix[i + 5, j] + x6 * matrix[i + 6, j] + x7 * matrix[i + 7, j]
            )
    for i in range(whole, inputs):
        for j in range(outputs):
            y[j] += x[i] * matrix[i, j]


def _rectify(x: Floats) -> None:
    for i in range(len(x)):
        x[i] = max(x[i], np.float32(0))


def _gated(z: Floats, a: Floats) -> None:
    """tanh of the first half of ``a`` times the sigmoid of the second."""
    width = len(z)
    for i in range(width):
        # tanh(v) by Lambert's continued fraction at v / 4, then the double angle twice;
        # sigmoid(v) = (1 + tanh(v / 2)) / 2
        v = min(max(a[i], np.float32(-9)), np.float32(9)) * np.float32(0.25)
        w = min(max(a[width + i], np.float32(-18)), np.float32(18)) * np.float32(0.125)
        v2, w2 = v * v, w * w
        v = (
            v
            * (np.float32(135135) + v2 * (np.float32(17325) + v2 * (np.float32(378) + v2)))
            / (np.float32(135135) + v2 * (np.float32(62370) + v2 * (np.float32(3150) + v2 * np.float32(28))))
        )
        w = (
            w
            * (np.float32(135135) + w2 * (np.float32(17325) + w2 * (np.float32(378) + w2)))
            / (np.float32(135135) + w2 * (np.float32(62370) + w2 * (np.float32(3150) + w2 * np.float32(28))))
        )
        v, w = np.float32(2) * v / (np.float32(1) + v * v), np.float32(2) * w / (np.float32(1) + w * w)
        v, w = np.float32(2) * v / (np.float32(1) + v * v), np.float32(2) * w / (np.float32(1) + w * w)
        z[i] = v * (np.float32(0.5) + np.float32(0.5) * w)


def _choose(logits: Floats, p: NDArray[np.float64], u: float) -> int:
    """The first level whose cumulative probability exceeds ``u``."""
    highest, total = logits[0], 0.0
    for i in range(1, len(logits)):
        highest = max(highest, logits[i])
    for i in range(len(logits)):
        p[i] = math.exp(np.float64(logits[i]) - np.float64(highest))
        total += p[i]
    left = u * total
    for i in range(len(logits)):
        left -= p[i]
        if left < 0:
            return i
    return len(logits) - 1
