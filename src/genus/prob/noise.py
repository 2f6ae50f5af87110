"""Every random number of genus is drawn here.

Randomness is explicit: a `torch.Generator` goes in, and `stream` makes one from a key
such as ``(seed, "noise", step)``. So the noise of a step is computed, never stored, and a
run that is started again draws the same numbers. Draws happen on the generator's own
device (the CPU unless said otherwise) and are then moved, so a GPU run sees the numbers
that a CPU run sees.
"""

import hashlib

import torch
from torch import Tensor


def stream(*key: int | str) -> torch.Generator:
    """A generator that is a pure function of its key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def _home(generator: torch.Generator | None) -> torch.device:
    return generator.device if generator is not None else torch.device("cpu")


def normal(
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal draws."""
    return torch.randn(shape, generator=generator, device=_home(generator), dtype=dtype).to(device or _home(generator))


def uniform(
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform draws in [0, 1)."""
    return torch.rand(shape, generator=generator, device=_home(generator), dtype=dtype).to(device or _home(generator))


def integers(
    high: int, shape: tuple[int, ...], generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Uniform integers in ``0 .. high-1``."""
    return torch.randint(high, shape, generator=generator, device=_home(generator)).to(device or _home(generator))


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
