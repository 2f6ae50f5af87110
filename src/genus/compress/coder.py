r"""Data to bytes and back: a range coder driven by a model's conditionals, the same in every bit on both sides.

Decoding works only if the decoder computes *exactly* the probabilities of the coder. Floating
point does not grant that by itself: a matrix product adds its terms in another order when the
batch has another size, and an elementwise function rounds differently at the seam between two
threads. So nothing that could differ is left to chance:

* Data are worked off in blocks of a fixed number, which the file names. Coder and decoder make the
  same calls with tensors of the same shapes; the decoder has no batch size of its own.
* All arithmetic runs on one thread of the CPU, whatever the caller has set, and is put back after.
* The model computes in float64, entry by entry on both sides (`genus.contract.HasConditionals`).
* Probabilities become integers by `frequencies`, so the range coder itself is exact.

What remains are other versions of torch and other processors, whose kernels may round differently.
In float64 a difference of 1e-15 rarely crosses the edge between two integers out of 2^24, but it
may; `genus.compress.archive` notes the environment and checks the decoded data against a digest.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import constriction
import numpy as np
import torch
from torch import Tensor

from genus.contract import GenerativeModel, HasConditionals
from genus.errors import DataFormatError
from genus.kinds import Label
from genus.prob import chain

LAW = constriction.stream.model.Categorical(perfect=False)  # of each entry, given with it
TOTAL = 1 << 24  # what the frequencies of an entry sum to: the precision of the range coder
MOST_LEVELS = 1 << 16  # each level takes one of 2^24 at least; more levels would cost 0.006 bits an entry
LARGEST_BLOCK = 4096
LARGEST_TENSOR = 1 << 24  # entries of a block, and of the logits of one place
USUAL_BLOCK = 128
SLACK = 128  # bits by which a range coder's words may fall short of the information in them


def most_in_block(model: GenerativeModel) -> int:
    """The largest block for data of the model's domain: its tensors stay within bounds."""
    return max(1, min(LARGEST_BLOCK, LARGEST_TENSOR // max(model.domain.num_dims, model.domain.levels or 1)))


def frequencies(logits: Tensor) -> Tensor:
    """Unnormalised log-probabilities as integers that sum to 2^24, none of them 0: ``(..., levels)`` int64.

    Each is 1 + floor(p (2^24 - levels)); what is left over goes to the most probable level.
    """
    p = logits.double().softmax(-1)
    if not torch.isfinite(p).all():
        raise ValueError("the model gave NaN or infinity where probabilities were expected; nothing can be coded.")
    whole = 1 + (p * (TOTAL - p.shape[-1])).floor().long()
    return whole.scatter_add_(-1, p.argmax(-1, keepdim=True), TOTAL - whole.sum(-1, keepdim=True))


def encode(model: GenerativeModel, x: Tensor, condition: Tensor | None = None, *, block: int = USUAL_BLOCK) -> bytes:
    """Data ``(N, *domain.shape)`` as the words of one range coder; labels (log2 K bits each) come along."""
    coder = constriction.stream.queue.RangeEncoder()

    def put(entries: Tensor, whole: Tensor) -> None:
        coder.encode(entries.numpy().astype(np.int32), LAW, _weights(whole))

    with reproducible(model) as precise:
        for start in range(0, len(x), block):
            flat = x[start : start + block].cpu().flatten(1).long()
            label = None if condition is None else condition[start : start + block].cpu()
            if label is not None and _classes(model) > 1:
                put(label, _uniform(model, len(label)))
            _walk(precise, flat, label, put)
    return cast(bytes, coder.get_compressed().astype("<u4").tobytes())


def decode(
    model: GenerativeModel, payload: bytes, count: int, *, block: int = USUAL_BLOCK
) -> tuple[Tensor, Tensor | None]:
    """What `encode` was given, for the same model, block and environment: data and labels.

    Raises a `DataFormatError` where the payload does not hold so much: it is used up too early, or
    not used up in the end. Memory grows with what is decoded, not with what ``count`` claims.
    """
    if len(payload) % 4:
        raise DataFormatError(f"expected words of 4 bytes; got {len(payload):,} bytes")
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))
    parts, labels, left = [], [], 8.0 * len(payload) + SLACK  # bits

    def take(entries: Tensor, whole: Tensor) -> None:
        nonlocal left
        try:
            entries.copy_(torch.from_numpy(coder.decode(LAW, _weights(whole)).astype(np.int64)))
        except (AssertionError, ValueError):
            raise DataFormatError("no data of this model can have been coded so") from None
        left += float((whole.gather(-1, entries.unsqueeze(-1)) / TOTAL).log2().sum())
        if left < 0:
            raise DataFormatError(f"the {len(payload):,} bytes of the payload are used up before all data are read")

    with reproducible(model) as precise:
        for start in range(0, count, block):
            flat = torch.zeros(min(block, count - start), model.domain.num_dims, dtype=torch.int64)
            label = None if model.condition is None else torch.zeros(len(flat), dtype=torch.int64)
            if label is not None:
                labels.append(label)
                if _classes(model) > 1:
                    take(label, _uniform(model, len(label)))
            _walk(precise, flat, label, take)
            parts.append(flat.to(model.domain.dtype))
    if not coder.maybe_exhausted():
        raise DataFormatError("the payload holds more than the data that the header names")
    return torch.cat(parts).view(-1, *model.domain.shape), torch.cat(labels) if labels else None


@contextmanager
def reproducible(model: GenerativeModel) -> Iterator[HasConditionals]:
    """A copy of the model in float64 on the CPU, and one thread to compute with."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            yield cast(HasConditionals, copy.deepcopy(model).cpu().double().eval())
    finally:
        torch.set_num_threads(threads)


def _walk(
    model: HasConditionals, flat: Tensor, condition: Tensor | None, code: Callable[[Tensor, Tensor], None]
) -> None:
    """Drive the model through the entries of ``flat`` (B, D). ``code`` is given each column with its
    frequencies: a coder writes the column to the file, a decoder fills it in."""

    def choose(place: int, logits: Tensor) -> Tensor:
        entries = flat[:, place]
        code(entries, frequencies(logits))
        return entries.clone()

    places = chain.drive(model.chain_rule(len(flat), condition=condition), choose)
    if sorted(places) != list(range(flat.shape[1])):
        raise ValueError(f"chain_rule: expected every place 0..{flat.shape[1] - 1} once; got {places[:9]}...")


def _weights(whole: Tensor) -> np.ndarray:
    """Frequencies for the range coder. It gives every level 1 and shares out the other 2^24 - levels by weight;
    weights that are whole numbers of that sum come out as they are."""
    return (whole - 1).double().numpy()


def _uniform(model: GenerativeModel, count: int) -> Tensor:
    """Frequencies of labels: all alike."""
    return frequencies(torch.zeros(count, _classes(model)))


def _classes(model: GenerativeModel) -> int:
    return cast(Label, model.condition).count
