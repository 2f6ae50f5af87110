"""Interpolation, traversal and arithmetic in the latents of any model that has some.

Latents are taken flat, ``(B, L)``, whatever their shape; the arithmetic is done in float64 and
handed to the model in its own dtype. What comes back is data in the domain's own terms.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from genus.contract import GenerativeModel, HasLatents, name_of, require

Method = Literal["spherical", "linear"]
AT_ONCE = 64  # data that are encoded or decoded together
SMALL = 64  # latents of up to so many numbers are moved one number at a time
PARALLEL = 1e-6  # ends whose angle has a smaller sine lie on one line


def encode(model: GenerativeModel, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """The latents of ``x``, ``(B, *latent shape)``, some data at a time.

    Raises `CapabilityError` for a model without latents, ValueError for latents that are codes.
    """
    require(model, HasLatents, "encode")
    z = torch.cat(
        [model.encode(part, condition=labels).detach() for part, labels in _blocks(x, condition, model.device)]
    )
    if not z.is_floating_point():
        raise ValueError(
            f"the latents of {name_of(model)} are codes ({z.dtype}): there is nothing between two of them."
        )
    return z


def decode(model: GenerativeModel, z: Tensor, condition: Tensor | None = None) -> Tensor:
    """Data from latents ``(B, *latent shape)``, some at a time."""
    require(model, HasLatents, "decode")
    return torch.cat(
        [model.decode(part, condition=labels).detach() for part, labels in _blocks(z, condition, model.device)]
    )


def _blocks(x: Tensor, condition: Tensor | None, device: torch.device) -> list[tuple[Tensor, Tensor | None]]:
    if not len(x):
        raise ValueError("expected at least one datum; got none.")
    parts = x.to(device).split(AT_ONCE)
    labels = [None] * len(parts) if condition is None else condition.to(device).split(AT_ONCE)
    return list(zip(parts, labels, strict=True))


# -- interpolation ----------------------------------------------------------------------


def interpolate(
    model: GenerativeModel,
    a: Tensor,
    b: Tensor,
    steps: int = 9,
    *,
    method: Method = "spherical",
    conditions: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """From each ``a`` to its ``b`` through the latents: ``(pairs, steps, *shape)``; the ends are decoded too.

    conditions: of ``a`` and of ``b``; each step has the one of the nearer end.
    """
    if len(a) != len(b):
        raise ValueError(f"expected as many ends as beginnings; got {len(a)} and {len(b)}.")
    of_a, of_b = conditions or (None, None)
    z = between(encode(model, a, of_a), encode(model, b, of_b), steps, method)
    condition = None
    if of_a is not None and of_b is not None:
        nearer_b = (torch.arange(steps, device=of_a.device) >= (steps + 1) // 2).view(1, -1, *[1] * (of_a.ndim - 1))
        condition = torch.where(nearer_b, of_b.unsqueeze(1), of_a.unsqueeze(1)).flatten(0, 1)
    return decode(model, z.flatten(0, 1), condition).unflatten(0, (len(a), steps))


def between(a: Tensor, b: Tensor, steps: int, method: Method = "spherical") -> Tensor:
    """``steps`` latents from each of ``a`` to its ``b``, ``(B, *latent shape)``: ``(B, steps, *latent shape)``.

    The first and last are ``a`` and ``b``, bit for bit. linear: the straight line. spherical: the
    angle and the length each change evenly, so every step is as long as the ends are, or between them.
    Where an end is zero or the two lie on one line, there is no arc, and the line is taken.
    """
    if method not in get_args(Method):
        raise ValueError(f"method: expected {' or '.join(get_args(Method))}; got {method!r}.")
    if steps < 2:
        raise ValueError(f"steps: expected at least 2, the two ends; got {steps}.")
    from_, to = a.flatten(1).double().unsqueeze(1), b.flatten(1).double().unsqueeze(1)  # (B, 1, L)
    t = torch.linspace(0, 1, steps, dtype=torch.float64, device=a.device).view(1, -1, 1)
    weights = (1 - t, t) if method == "linear" else _arc(from_, to, t)
    return (weights[0] * from_ + weights[1] * to).to(a.dtype).unflatten(2, a.shape[1:])


def _arc(a: Tensor, b: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """What of ``a`` and of ``b`` makes the point at ``t`` of the arc, ``(B, steps, 1)`` each."""
    length_a, length_b = (end.norm(dim=2, keepdim=True) for end in (a, b))
    tiny = torch.finfo(a.dtype).tiny
    cosine = (a * b).sum(2, keepdim=True) / (length_a * length_b).clamp(min=tiny)
    angle = cosine.clamp(-1, 1).acos()
    length, sine = (1 - t) * length_a + t * length_b, angle.sin()
    straight = (sine < PARALLEL) | (length_a * length_b <= tiny)
    weight_a = ((1 - t) * angle).sin() / sine.clamp(min=PARALLEL) * (length / length_a.clamp(min=tiny))
    weight_b = (t * angle).sin() / sine.clamp(min=PARALLEL) * (length / length_b.clamp(min=tiny))
    return torch.where(straight, 1 - t, weight_a), torch.where(straight, t, weight_b)


# -- traversal --------------------------------------------------------------------------


class Directions(NamedTuple):
    """Ways to move in the latents, the most active first.

    vectors: ``(k, L)``, of length 1. deviations: ``(k,)``, of encoded data along each.
    centre: ``(L,)``, the mean of encoded data. names: what each is.
    """

    vectors: Tensor
    deviations: Tensor
    centre: Tensor
    names: tuple[str, ...]


def directions(z: Tensor, count: int, *, small: int = SMALL) -> Directions:
    """The ``count`` directions in which encoded data ``(N, *latent shape)`` vary most.

    Of latents of up to ``small`` numbers, the numbers themselves (a VAE's units); of larger ones
    (a flow's), the principal directions, their largest entry positive.
    """
    z = z.flatten(1).double()
    if len(z) < 2 or count < 1:
        raise ValueError(f"expected two data or more and one direction or more; got {len(z)} and {count}.")
    centre, size = z.mean(0), z.shape[1]
    if size <= small:
        deviation = z.std(0)
        order = deviation.argsort(descending=True, stable=True)[:count]
        vectors = torch.eye(size, dtype=z.dtype, device=z.device)[order]
        return Directions(vectors, deviation[order], centre, tuple(f"latent {k}" for k in order.tolist()))
    # The left factor of the singular value decomposition, from the products of N data: N may be far below L.
    away = z - centre
    squares, mixing = torch.linalg.eigh(away @ away.T)
    count = min(count, len(z) - 1)
    squares, mixing = squares.flip(0)[:count], mixing.flip(1)[:, :count]
    vectors = torch.nn.functional.normalize(mixing.T @ away, dim=1)
    vectors = vectors * vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
    deviations = (squares.clamp(min=0) / (len(z) - 1)).sqrt()
    return Directions(vectors, deviations, centre, tuple(f"principal direction {k + 1}" for k in range(count)))


def traverse(
    model: GenerativeModel,
    z: Tensor,
    along: Directions,
    steps: int = 7,
    *,
    reach: float = 3.0,
    condition: Tensor | None = None,
) -> Tensor:
    """Data along each direction from one latent ``(*latent shape)``: ``(k, steps, *shape)``.

    The steps go from ``-reach`` to ``+reach`` deviations; the middle one of an odd number is the
    datum itself. condition: the one of that datum.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1; got {steps}.")
    t = torch.linspace(-reach, reach, steps, dtype=torch.float64, device=z.device)
    moves = t.view(1, -1, 1) * (along.deviations.unsqueeze(1) * along.vectors).unsqueeze(1)  # (k, steps, L)
    moved = (z.flatten().double() + moves).to(z.dtype).unflatten(2, z.shape)
    labels = None if condition is None else condition.expand(len(moved) * steps, *condition.shape)
    return decode(model, moved.flatten(0, 1), labels).unflatten(0, (len(moved), steps))


# -- arithmetic -------------------------------------------------------------------------


def difference(minus: Tensor, plus: Tensor) -> Tensor:
    """The mean of the latents ``plus`` less that of ``minus``, ``(B, *latent shape)`` each, in float64."""
    return plus.double().mean(0) - minus.double().mean(0)


def add(
    model: GenerativeModel, x: Tensor, move: Tensor, scales: tuple[float, ...], condition: Tensor | None = None
) -> Tensor:
    """Each datum of ``x`` moved by ``scale * move`` in the latents: ``(B, scales, *shape)``.

    At scale 0 it is decode(encode(x)): the datum itself where the model is invertible.
    """
    z = encode(model, x, condition)
    factor = torch.tensor(scales, dtype=torch.float64, device=z.device).view(1, -1, *[1] * move.ndim)
    moved = (z.double().unsqueeze(1) + factor * move.to(z.device)).to(z.dtype)
    labels = None if condition is None else condition.repeat_interleave(len(scales), 0)
    return decode(model, moved.flatten(0, 1), labels).unflatten(0, (len(x), len(scales)))
