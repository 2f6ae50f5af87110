"""Interpolation, traversal and arithmetic in the latents of any model that has some.

Latents are taken flat, ``(B, L)``, whatever their shape; the arithmetic is done in float64 and
handed to the model in its own dtype. What comes back is data in the domain's own terms.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from genus.contract import GenerativeModel, HasLatents, has_standard_prior, name_of, require
from genus.explore.directions import Directions

Method = Literal["spherical", "linear"]
AT_ONCE = 64  # data that are encoded or decoded together
PARALLEL = 1e-6  # ends whose angle has a smaller sine lie on one line
TAIL = 0.01  # of a distribution that lies outside its range, at either end


def encode(model: GenerativeModel, x: Tensor, condition: Tensor | None = None, *, codes: bool = False) -> Tensor:
    """The latents of ``x``, ``(B, *latent shape)``, some data at a time.

    Raises `CapabilityError` for a model without latents, ValueError for latents that are codes unless ``codes``.
    """
    require(model, HasLatents, "encode")
    z = torch.cat(
        [model.encode(part, condition=labels).detach() for part, labels in _blocks(x, condition, model.device)]
    )
    if not (z.is_floating_point() or codes):
        raise ValueError(
            f"the latents of {name_of(model)} are codes ({z.dtype}): there is nothing between two of them, and no "
            "direction to move them in; genus reconstruct shows what they keep."
        )
    return z


def decode(model: GenerativeModel, z: Tensor, condition: Tensor | None = None) -> Tensor:
    """Data from latents ``(B, *latent shape)``, some at a time."""
    require(model, HasLatents, "decode")
    return torch.cat(
        [model.decode(part, condition=labels).detach() for part, labels in _blocks(z, condition, model.device)]
    )


def reconstruct(model: GenerativeModel, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """What the latents keep of data: ``decode(encode(x))``, of ``x``'s shape. Latents may be codes."""
    return decode(model, encode(model, x, condition, codes=True), condition)


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
    return _decode_rows(model, z, moves, condition)


def sweep(
    model: GenerativeModel, z: Tensor, along: Directions, to: Tensor, *, condition: Tensor | None = None
) -> Tensor:
    """One latent with its coordinate along each direction set to the values ``to``, ``(k, steps)``, in turn:
    data ``(k, steps, *shape)``."""
    moves = (to - _coordinates(z, along).unsqueeze(1)).unsqueeze(2) * along.vectors.unsqueeze(1)
    return _decode_rows(model, z, moves, condition)


def plane(
    model: GenerativeModel, z: Tensor, along: Directions, to: Tensor, *, condition: Tensor | None = None
) -> Tensor:
    """The plane of two directions through one latent: data ``(steps, steps, *shape)``.

    The coordinate along the first direction is ``to[0]`` from left to right, along the second ``to[1]``
    from top to bottom; what stands at right angles to both stays as it is in ``z``.
    """
    if len(along.vectors) != 2 or abs(float(along.vectors[0] @ along.vectors[1])) > PARALLEL:
        raise ValueError(f"a plane needs two directions at right angles; got {', '.join(along.names)}.")
    across, down = to - _coordinates(z, along).unsqueeze(1)
    moves = across.view(1, -1, 1) * along.vectors[0] + down.view(-1, 1, 1) * along.vectors[1]
    return _decode_rows(model, z, moves, condition)


def _coordinates(z: Tensor, along: Directions) -> Tensor:
    return along.vectors @ z.flatten().double()


def _decode_rows(model: GenerativeModel, z: Tensor, moves: Tensor, condition: Tensor | None) -> Tensor:
    """One latent moved by ``(rows, steps, L)``, decoded: ``(rows, steps, *shape)``."""
    moved = (z.flatten().double() + moves).to(z.dtype).flatten(0, 1).unflatten(1, z.shape)
    labels = None if condition is None else condition.expand(len(moved), *condition.shape)
    return decode(model, moved, labels).unflatten(0, moves.shape[:2])


def quantiles(model: GenerativeModel, z: Tensor, along: Directions, count: int) -> tuple[Tensor, str]:
    """Coordinates along each direction, ``(k, count)``, from the 1 % to the 99 % quantile of a distribution, evenly in
    probability (Kingma & Welling 2014, figure 4), and which distribution that is.

    It is the prior where that is standard normal, as it then is along every direction; else that of the
    encoded data ``z``.
    """
    if count < 2:
        raise ValueError(f"steps: expected at least 2, the two ends of the range; got {count}.")
    probability = torch.linspace(TAIL, 1 - TAIL, count, dtype=torch.float64, device=z.device)
    if has_standard_prior(model):
        return torch.special.ndtri(probability).expand(len(along.vectors), -1), "the prior"
    return (z.flatten(1).double() @ along.vectors.T).quantile(probability, 0).T, "the encoded data"


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
    return shift(model, encode(model, x, condition), move, scales, condition)


def shift(
    model: GenerativeModel, z: Tensor, move: Tensor, scales: tuple[float, ...], condition: Tensor | None = None
) -> Tensor:
    """The same from latents ``(B, *latent shape)``; ``condition`` is what they are decoded with."""
    factor = torch.tensor(scales, dtype=torch.float64, device=z.device).view(1, -1, *[1] * move.ndim)
    moved = (z.double().unsqueeze(1) + factor * move.to(z.device)).to(z.dtype)
    labels = None if condition is None else condition.repeat_interleave(len(scales), 0)
    return decode(model, moved.flatten(0, 1), labels).unflatten(0, (len(z), len(scales)))
