"""What goes wrong in flows."""

import torch
from torch import Tensor

from genus.contract import Symptom

TOLERANCE = 1e-3  # healthy flows in float32 stay below 1e-5


def lost_invertibility(x: Tensor, back: Tensor, scale: Tensor, cure: str) -> list[Symptom]:
    """A flow that is invertible on paper and no longer in the arithmetic of the machine.

    Where a flow stretches space by more than its numbers have digits, x -> z -> x does not
    return to x, and neither samples nor densities mean anything (Behrmann et al. 2021,
    https://arxiv.org/abs/2006.09347).

    Args:
        x: what the flow was given, ``(B, ...)``. back: what came back, of the same shape.
        scale: the data's standard deviations, which errors are measured in; broadcasts to x.
        cure: what to try.
    """
    errors = ((back - x).abs() / scale).flatten(1).amax(1)
    lost = int((~(errors <= TOLERANCE)).sum())  # a NaN is lost too
    if not lost:
        return []
    worst = float(errors.nan_to_num(nan=torch.inf).max())
    size = f"by up to {worst:.2g} standard deviations" if worst < torch.inf else "and some to infinity"
    seen = f"{lost} of {len(x)} data do not come back from their latents: they move {size}."
    return [Symptom("lost invertibility", seen, cure)]
