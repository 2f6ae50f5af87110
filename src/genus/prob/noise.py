"""Every random number of genus is drawn here.

Randomness is explicit: a `torch.Generator` goes in, and `stream` makes one from a key
such as ``(seed, "noise", step)``. So the noise of a step is computed, never stored, and a
run that is started again draws the same numbers. Draws happen on the generator's own
device (the CPU unless said otherwise) and are then moved, so a GPU run sees the numbers
that a CPU run sees.

A batch may be worked off in parts, by several processes or one after the other. Inside
`part_of` every draw is made for the whole batch and sliced, so the parts see what the whole
would have seen. The convention that makes this right: in `losses`, the first axis of a draw
is the batch. (`permutation` and draws without axes are the same in every part.)
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_PART: ContextVar[tuple[int, int]] = ContextVar("part of a batch", default=(0, 1))


def stream(*key: int | str) -> torch.Generator:
    """A generator that is a pure function of its key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@contextmanager
def part_of(part: int, parts: int) -> Iterator[None]:
    """Inside, a batch is the ``part``-th of ``parts`` equal slices of a larger one."""
    if not 0 <= part < parts:
        raise ValueError(f"expected a part of 0..{parts - 1}; got {part}.")
    token = _PART.set((part, parts))
    try:
        yield
    finally:
        _PART.reset(token)


def part() -> tuple[int, int]:
    """Which slice of a larger batch the batch at hand is, ``(part, parts)``: see `part_of`."""
    return _PART.get()


def _sliced(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
    part, parts = _PART.get()
    if parts == 1 or not shape:
        return draw(shape)
    rows = shape[0]
    return draw((parts * rows, *shape[1:]))[part * rows : (part + 1) * rows]


def _home(generator: torch.Generator | None) -> torch.device:
    return generator.device if generator is not None else torch.device("cpu")


def normal(
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal draws."""
    home = _home(generator)
    drawn = _sliced(lambda shape: torch.randn(shape, generator=generator, device=home, dtype=dtype), shape)
    return drawn.to(device or home)


def uniform(
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform draws in [0, 1)."""
    home = _home(generator)
    drawn = _sliced(lambda shape: torch.rand(shape, generator=generator, device=home, dtype=dtype), shape)
    return drawn.to(device or home)


def integers(
    high: int, shape: tuple[int, ...], generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Uniform integers in ``0 .. high-1``."""
    home = _home(generator)
    return _sliced(lambda shape: torch.randint(high, shape, generator=generator, device=home), shape).to(device or home)


def permutation(count: int, generator: torch.Generator | None = None) -> Tensor:
    """A random order of ``0 .. count-1``."""
    return torch.randperm(count, generator=generator, device=_home(generator))


def bernoulli(p: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """0/1 draws (float) with the probabilities ``p``."""
    return (uniform(tuple(p.shape), generator, p.device, p.dtype) < p).to(p.dtype)


def categorical(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws from unnormalised log-probabilities over the last axis, by the inverse of the
    cumulative distribution: one uniform number a draw, the same on every device."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    u = uniform(tuple(logits.shape[:-1]), generator, logits.device, torch.float64).unsqueeze(-1)
    drawn = torch.searchsorted(cumulative, u * cumulative[..., -1:], right=True).squeeze(-1)
    return drawn.clamp(max=logits.shape[-1] - 1)
