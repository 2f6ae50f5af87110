"""Random numbers compared by z-scores, not by guessed tolerances.

A z-score is a distance in standard errors. At 5 a single false alarm has odds of one in
two million, and all seeds are fixed, so a check that passes once passes for ever.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from genus.prob import noise

LARGEST_Z = 5.0


class CheckError(AssertionError):
    """A check failed; the sentence says what was expected and what came."""


def require(holds: bool, message: str) -> None:
    """Raise a `CheckError` with ``message`` unless it holds."""
    if not holds:
        raise CheckError(message)


def z_of_mean(values: Tensor, expected: float) -> float:
    """How many standard errors the mean of independent ``values`` lies above ``expected``."""
    values = values.double().flatten()
    error = float(values.std()) / math.sqrt(len(values))
    gap = float(values.mean()) - expected
    if error < 1e-12 * max(1.0, abs(expected)):  # constant values: any gap beyond rounding is infinitely many
        return 0.0 if abs(gap) <= 1e-5 * max(1.0, abs(expected)) else math.copysign(math.inf, gap)
    return gap / error


def z_of_counts(counts: Tensor, probabilities: Tensor) -> float:
    """Pearson's chi-square of ``counts`` against ``probabilities``, as a z-score.

    The Wilson-Hilferty cube root makes chi-square nearly normal; cells that expect fewer
    than five draws are pooled, as the approximation asks.
    """
    expected = probabilities.double() * float(counts.sum())
    if bool(((expected == 0) & (counts > 0)).any()):
        return math.inf
    small = expected < 5
    observed = torch.cat([counts.double()[~small], counts.double()[small].sum(0, keepdim=True)])
    expected = torch.cat([expected[~small], expected[small].sum(0, keepdim=True)])
    used = expected > 0
    chi2 = float(((observed - expected)[used].square() / expected[used]).sum())
    freedom = max(1, int(used.sum()) - 1)
    spread = 2 / (9 * freedom)
    return ((chi2 / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)


@contextmanager
def constant_noise() -> Iterator[None]:
    """Every draw of `genus.prob.noise` is the same number, wherever it stands in a batch.

    What a model then computes for an item can depend on the item only, so that order and
    size of a batch can be compared to rounding. Not for threads: it swaps module functions.
    """

    def filled(value: float) -> Any:
        def draw(
            shape: tuple[int, ...],
            generator: torch.Generator | None = None,
            device: torch.device | None = None,
            dtype: torch.dtype = torch.float32,
        ) -> Tensor:
            return torch.full(shape, value, device=device, dtype=dtype)

        return draw

    def integers(
        high: int,
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
    ) -> Tensor:
        return torch.full(shape, high // 2, device=device)

    swapped = {"normal": filled(0.3), "uniform": filled(0.4), "integers": integers}
    kept = {name: getattr(noise, name) for name in swapped}
    try:
        for name, function in swapped.items():
            setattr(noise, name, function)
        yield
    finally:
        for name, function in kept.items():
            setattr(noise, name, function)
