"""How far a number would scatter if other items of the same distribution were drawn, as many of them.

A bootstrap draws items twice, and a doubled item is its own nearest neighbour: it shifts
every number that rests on neighbours, and the Fréchet distance through its bias. Here a
number is computed on random halves of the items, drawn without replacement (Politis &
Romano 1994, https://doi.org/10.1214/aos/1176325770; Shao & Wu 1989, the delete-d jackknife
with d = N/2, which unlike leaving out one item also holds for numbers that jump). For a
mean of N items the variance over halves is exactly its own. For numbers of neighbours, and for a
Fréchet distance that is all bias, the error comes out up to two thirds too large
(`tests/evaluate/test_uncertainty.py` measures it). It says nothing of bias: numbers that depend
on N are compared at one N.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from genus.prob import noise

TIMES = 20
LEAST = 20  # items, below which half of them say too little
METHOD = f"spread over {TIMES} random halves"


def halves(count: int, seed: int, *key: int | str) -> Iterator[Int[np.ndarray, " half"]]:
    """Random halves of the items ``0 .. count-1``, each without repetition and in order."""
    for time in range(TIMES):
        order = noise.permutation(count, noise.stream(seed, "halves", *key, time)).numpy()
        yield np.sort(order[: count // 2])


def spread(values: Any, count: int) -> Float[np.ndarray, "..."]:
    """The standard error of a number of ``count`` items from its values on `halves` of them (first axis)."""
    kept = count // 2
    return np.std(np.asarray(values, np.float64), axis=0, ddof=1) * np.sqrt(kept / (count - kept))
