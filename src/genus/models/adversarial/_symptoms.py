"""What goes wrong in the game of a generator and a discriminator."""

import torch
from torch import Tensor

from genus.contract import Symptom

RIGHT = 0.99
NEAR = 0.25


def discriminator_won(real: Tensor, fake: Tensor, cure: str) -> list[Symptom]:
    """A discriminator that is right about nearly everything: its verdict no longer depends on what
    the generator does, so the generator learns little or nothing (Arjovsky & Bottou 2017,
    https://arxiv.org/abs/1701.04862).

    Args:
        real: logits of real data, ``(B,)``, positive where they are taken for real.
        fake: logits of generated data, ``(B,)``.
        cure: what to try.
    """
    right, caught = float((real > 0).double().mean()), float((fake < 0).double().mean())
    if min(right, caught) < RIGHT:
        return []
    seen = f"The discriminator is right about {right:.0%} of the real and {caught:.0%} of the generated data."
    return [Symptom("discriminator has won", seen, cure)]


def mode_collapse(samples: Tensor, real: Tensor, cure: str) -> list[Symptom]:
    """A generator that repeats itself: among its samples the nearest other one is far nearer than
    among as many real data. Few modes are enough to notice, not only a single one.

    Args:
        samples: ``(B, ...)``. real: of the same shape and in the same units.
        cure: what to try.
    """
    ours, theirs = nearest(samples), nearest(real)
    if not theirs > 0 or ours >= NEAR * theirs:  # real data that repeat themselves are no measure
        return []
    seen = f"A sample is {ours / theirs:.2f} times as far from the sample next to it as real data are."
    return [Symptom("mode collapse", seen, cure)]


def nearest(x: Tensor) -> float:
    """The median distance from an item of ``(B, ...)`` to the item nearest to it; NaN for fewer than two."""
    flat = x.flatten(1)
    distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    return float(distance.fill_diagonal_(torch.inf).amin(1).median()) if len(x) > 1 else float("nan")
