"""Chamfer distances between clouds of points, and clouds made comparable.

Chamfer = the mean over each cloud of the (squared) distance to the nearest point of the other, both means added.
Coordinates are the data's own.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from genus.prob import noise

TILE = 1 << 19  # entries of a tile of distances: small enough to stay in the processor's cache


def chamfer(a: Float[Tensor, "B N D"], b: Float[Tensor, "B M D"], *, squared: bool = True) -> Float[Tensor, " B"]:
    """Chamfer distance of each pair of clouds, ``(B,)`` in coordinate units (squared if ``squared``)."""
    check_clouds(a, b)
    if len(a) != len(b):
        raise ValueError(f"expected as many clouds on both sides; got {len(a)} and {len(b)}. See chamfer_matrix.")
    values = a.new_zeros(len(a))
    for n, (x, y) in enumerate(zip(a, b, strict=True)):
        distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")  # exact: 0 for equal points
        values[n] = sum((part.square() if squared else part).mean() for part in (distance.amin(0), distance.amin(1)))
    return values


def chamfer_matrix(
    a: Float[Tensor, "S N D"], b: Float[Tensor, "R M D"], *, squared: bool = True
) -> Float[Tensor, "S R"]:
    """Chamfer distance of every cloud of ``a`` to every cloud of ``b``, fast: squared distances are
    right to about 1e-7 of the clouds' squared size."""
    check_clouds(a, b)
    together = max(1, TILE // (a.shape[1] * b.shape[1]))
    return torch.stack([torch.cat([_chamfer_one_to_many(x, y, squared) for y in b.split(together)]) for x in a])


def _chamfer_one_to_many(x: Tensor, y: Tensor, squared: bool) -> Tensor:
    """``x`` (N, D) to each cloud of ``y`` (R, M, D): d² = |x|² + |y|² - 2x·y as one matrix product,
    in tiles of rows. Coordinates are centred first, so that little is lost to cancellation."""
    centre = x.mean(0)
    x, y = x - centre, y - centre
    left = torch.cat([-2 * x, (x * x).sum(-1, keepdim=True), torch.ones_like(x[:, :1])], -1)
    right = torch.cat([y, torch.ones_like(y[..., :1]), (y * y).sum(-1, keepdim=True)], -1).transpose(1, 2)
    rows = max(1, TILE // (y.shape[0] * y.shape[1]))
    from_x, from_y = [], y.new_full(y.shape[:2], torch.inf)
    for tile in left.split(rows):
        distance = torch.matmul(tile, right)  # (R, rows, M)
        from_x.append(distance.amin(2))
        from_y = torch.minimum(from_y, distance.amin(1))
    nearest = [part.clamp_min(0) for part in (torch.cat(from_x, 1), from_y)]
    return sum((part if squared else part.sqrt()).mean(1) for part in nearest)  # type: ignore[return-value]


def reduce_points(x: Float[Tensor, "S N D"], count: int, generator: torch.Generator) -> Float[Tensor, "S K D"]:
    """``count`` points of each cloud by lot, all of them if there are no more. The lot falls on
    places, the same in each cloud, so equal clouds stay equal."""
    if x.shape[1] <= count:
        return x
    return x[:, noise.permutation(x.shape[1], generator)[:count].to(x.device)]


def in_order(clouds: Float[Tensor, "S N D"]) -> Float[Tensor, "S N D"]:
    """The points of each cloud along one oblique line: a cloud whose points were shuffled is the
    same cloud again, and is thinned to the same points."""
    line = torch.tensor([0.62, 0.45, 0.64], dtype=clouds.dtype, device=clouds.device)[: clouds.shape[2]]
    order = (clouds * line).sum(2).argsort(1)
    return clouds.gather(1, order[..., None].expand_as(clouds))


def check_clouds(a: Tensor, b: Tensor, same_count: bool = False) -> None:
    """Raise a ValueError unless both are sets of clouds ``(clouds, points, dimensions)`` of finite numbers in one
    dimension; with ``same_count`` also of as many points."""
    if a.ndim != 3 or b.ndim != 3 or a.shape[-1] != b.shape[-1] or not math.prod(a.shape[1:]) or not b.shape[1]:
        raise ValueError(
            f"expected two sets of clouds (clouds, points, dimensions) of one dimension; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    if same_count and a.shape[1] != b.shape[1]:
        raise ValueError(
            f"the earth mover's distance assigns points one to one; got clouds of {a.shape[1]} and {b.shape[1]}. "
            "Reduce both to one number with reduce_points."
        )
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ValueError("expected finite coordinates; got NaN or infinity.")
