r"""Bits-back coding: data in as many bits as a latent-variable model's bound says (BB-ANS).

Townsend, Bird & Barber (2019). Practical Lossless Compression with Latent Variables using Bits Back Coding.
https://arxiv.org/abs/1901.04866

p(x) is an integral nobody can do, but p(x|z) and p(z) are at hand. A coder that writes some z, then x given
z, pays for z too. It gets that back by *choosing* z with bits that are there already: it pops z from the
stack by q(z|x), pushes x by p(x|z), and pushes z by p(z). The decoder pops z, pops x, now knows q(z|x), and
pushes z by it: the bits are as they were before. On average a datum costs

    E_q[ -log p(x|z) - log p(z) + log q(z|x) ] = -ELBO.

Only the first z of the chain finds no bits to be popped from: those are the *initial bits* of the file.

Latents are cut into 2^16 bins of equal prior mass, so a bin is pushed in 16 bits sharp; x is coded given the
middle of the bin. What the cut costs is of the order of (w/s)^2 / 24 nats a latent, with w the width of
the bins (0.00004 at the centre of the prior) and s that of q; and 0 to this order where q is the true posterior.

Coder and decoder must agree in every bit of every frequency. For what the networks compute,
`genus.compress.coder` says why they do: the same blocks, one thread, float64. The rest is whole numbers,
and the mass of q in a bin, which is computed number by number: the share of 2^48 parts below the left edge
and below the right edge, each a function of three floats alone. So it does not matter that the coder looks for
its bin by bisection and the decoder knows it. Nor need rounding keep the shares in order: bisection
ends between a share below (or at) the drawn part and one above it, so the bin that it finds has a
mass, and this is all that popping and pushing ask for.

A block of B data needs the bits of B draws at once. So the first blocks that are coded are of one datum, and
they grow with what is on the stack by then: the initial bits are those of one datum or a few, whatever
the block. The coder works from the last datum to the first, and the decoder from the first to the last.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor

from genus.compress.coder import LARGEST_BLOCK, LARGEST_TENSOR, TOTAL, frequencies, reproducible
from genus.compress.stack import Stack
from genus.contract import GenerativeModel, HasPosterior, Likelihood, has_standard_prior, name_of
from genus.errors import CapabilityError, DataFormatError
from genus.kinds import classes_of
from genus.prob.posterior import Certain, DiagonalNormal

BITS = 16  # of a latent: 2^16 bins
FINE = 48  # the precision of q, in bits: what a bin has at least is 2^-48
ENTRY = TOTAL.bit_length() - 1  # the precision of entries and labels, in bits
USUAL_BLOCK = 16
LARGEST_TABLE = 1 << 26  # probabilities of one datum: entries times levels


def most_in_block(model: GenerativeModel) -> int:
    """The largest block for data of the model's domain: the table of its probabilities stays within bounds."""
    return max(1, min(LARGEST_BLOCK, LARGEST_TENSOR // (model.domain.num_dims * (model.domain.levels or 1))))


@torch.no_grad()
def check(model: GenerativeModel) -> None:
    """Raise a `CapabilityError` in one sentence unless bits-back coding can take the model; found by asking
    its parts, on one datum of zeros."""
    parts, domain = cast(HasPosterior, model), model.domain
    device, label = model.device, None if model.condition is None else torch.zeros(1, dtype=torch.int64)
    reason = None
    if parts.decoder_likelihood is not Likelihood.EXACT:
        reason = "its decoder gives no probabilities p(x|z) to code entries with"
    elif domain.num_dims * (domain.levels or 1) > LARGEST_TABLE:
        reason = f"a datum of {domain} has more than {LARGEST_TABLE:,} probabilities"
    else:
        label = None if label is None else label.to(device)
        q = parts.posterior(torch.zeros(1, *domain.shape, dtype=domain.dtype, device=device), label)
        if isinstance(q, Certain):
            reason = "its codes follow from the data without doubt, so bits-back coding has no bits to get back"
        elif not isinstance(q, DiagonalNormal):
            reason = "bits-back coding takes a normal posterior of each latent by itself; it has another kind"
        elif not has_standard_prior(model):
            reason = "bits-back coding takes a standard normal prior of the latents; it has another one"
        else:
            parts.log_levels(q.mean, label)
    if reason:
        raise CapabilityError(f"{name_of(model)} cannot compress: {reason}.")


def encode(model: GenerativeModel, x: Tensor, condition: Tensor | None = None, *, block: int) -> tuple[bytes, int]:
    """Data ``(N, *domain.shape)`` as the words of a stack, and how many of them are initial ones."""
    stack, end = Stack.initial(), len(x)
    with reproducible(model) as precise:
        parts = cast(HasPosterior, precise)
        shape = parts.latent_domain.shape
        for size in reversed(list(sizes(len(x), block))):
            data, end = x[end - size : end].cpu().clone(), end - size
            label = None if condition is None else condition[end : end + size].cpu().long().clone()
            distributions = _laws(parts.posterior(data, label))
            bins = [pop_bin(stack, mean, std) for mean, std in distributions]
            below = _below(parts.log_levels(_latents(bins, size, shape), label))
            _push(stack, data, below)
            for number in reversed(bins):
                stack.push(number, 1, BITS)
            if label is not None:
                _push(stack, label, _uniform(model, size))
    return stack.to_bytes(), cast(int, stack.drawn)


def decode(
    model: GenerativeModel, payload: bytes, count: int, *, block: int, initial: int
) -> tuple[Tensor, Tensor | None]:
    """What `encode` was given, for the same model, block and environment: data and labels.

    Raises a `DataFormatError` where the payload does not hold so much, or where what is left in the end are not
    the ``initial`` words. Memory grows with what is decoded, not with what ``count`` claims.
    """
    stack, data, labels = Stack.from_bytes(payload), [], []
    domain = model.domain
    with reproducible(model) as precise:
        parts = cast(HasPosterior, precise)
        shape = parts.latent_domain.shape
        for size in sizes(count, block):
            label = None
            if model.condition is not None:
                label = _pop(stack, _uniform(model, size))
                labels.append(label)
            bins = []
            for _ in range(size * math.prod(shape)):
                bins.append(stack.peek(BITS))
                stack.pop(bins[-1], 1, BITS)
            below = _below(parts.log_levels(_latents(bins, size, shape), label))
            data.append(_pop(stack, below).to(domain.dtype).view(size, *domain.shape))
            distributions = _laws(parts.posterior(data[-1], label))
            for number, (mean, std) in zip(reversed(bins), reversed(distributions), strict=True):
                push_bin(stack, number, mean, std)
    if len(stack.words) != initial - 2:
        raise DataFormatError("the payload holds more than the data that the header names, or less")
    start = Stack.initial(initial)
    if (stack.head, stack.words) != (start.head, start.words):
        raise DataFormatError("the initial bits are not as they were")
    return torch.cat(data), torch.cat(labels) if labels else None


def sizes(count: int, block: int) -> Iterator[int]:
    """How many data each block holds, in the order of decoding: none has more than an eighth (rounded up to a
    whole datum) of those that are coded before it, which come after it."""
    while count:
        size = min(block, (count + 8) // 9)
        yield size
        count -= size


# -- latents --------------------------------------------------------------------------------


@functools.cache
def bins_of_prior(bits: int) -> tuple[list[float], Tensor]:
    """The 2^bits + 1 edges of the bins, from -inf to inf, and their middles (by mass)."""
    count = 1 << bits
    return (
        torch.special.ndtri(torch.arange(count + 1, dtype=torch.float64) / count).tolist(),
        torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count),
    )


def share_below(number: int, mean: float, std: float) -> int:
    """How many of 2^48 parts N(mean, std^2) has below bin ``number``; every bin has one at least."""
    edge = bins_of_prior(BITS)[0][number]
    cdf = 0.5 * math.erfc((mean - edge) / (std * math.sqrt(2)))
    return number + int(cdf * ((1 << FINE) - (1 << BITS)))


def push_bin(stack: Stack, number: int, mean: float, std: float) -> None:
    """Push a bin by its mass under q."""
    start = share_below(number, mean, std)
    stack.push(start, share_below(number + 1, mean, std) - start, FINE)


def pop_bin(stack: Stack, mean: float, std: float) -> int:
    """Draw a bin by q with the bits of the stack: the one whose parts hold the part on top."""
    part = stack.peek(FINE)
    low, high, start, end = 0, 1 << BITS, 0, 1 << FINE
    while high - low > 1:
        middle = (low + high) // 2
        share = share_below(middle, mean, std)
        if share <= part:
            low, start = middle, share
        else:
            high, end = middle, share
    stack.pop(start, end - start, FINE)
    return low


def _laws(q: object) -> list[tuple[float, float]]:
    """Mean and standard deviation of every latent of every datum."""
    assert isinstance(q, DiagonalNormal)  # `check` has asked
    mean, std = q.mean.flatten(), (0.5 * q.log_var).exp().flatten().clamp(1e-12, 1e12)
    if not (torch.isfinite(mean).all() and torch.isfinite(std).all()):
        raise ValueError("the model gave NaN or infinity for the latents of data; nothing can be coded.")
    return list(zip(mean.tolist(), std.tolist(), strict=True))


def _latents(bins: list[int], size: int, shape: tuple[int, ...]) -> Tensor:
    """The middles of the bins, ``(size, *shape)`` float64."""
    return bins_of_prior(BITS)[1][torch.tensor(bins, dtype=torch.int64)].view(size, *shape)


# -- entries --------------------------------------------------------------------------------


def _below(logits: Tensor) -> np.ndarray:
    """How many of 2^24 parts lie below each level, and all of them at the end: ``(entries, levels + 1)`` int64."""
    flat = frequencies(logits.flatten(0, -2)).cumsum(-1)
    return torch.nn.functional.pad(flat, (1, 0)).numpy()


def _push(stack: Stack, entries: Tensor, below: np.ndarray) -> None:
    """Entries, the first on top in the end."""
    levels, places = entries.flatten().long().numpy(), np.arange(entries.numel())
    starts, ends = below[places, levels], below[places, levels + 1]
    for start, weight in zip(starts[::-1].tolist(), (ends - starts)[::-1].tolist(), strict=True):
        stack.push(start, weight, ENTRY)


def _pop(stack: Stack, below: np.ndarray) -> Tensor:
    """The reverse, ``(entries,)`` int64."""
    found = []
    for row in cast(Iterable[np.ndarray], below):
        level = int(row.searchsorted(stack.peek(ENTRY), "right")) - 1
        start = int(row[level])
        stack.pop(start, int(row[level + 1]) - start, ENTRY)
        found.append(level)
    return torch.tensor(found, dtype=torch.int64)


def _uniform(model: GenerativeModel, count: int) -> np.ndarray:
    return _below(torch.zeros(count, _classes(model)))


def _classes(model: GenerativeModel) -> int:
    return classes_of(model.condition) or 1
