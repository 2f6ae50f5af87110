"""Chairs, tables, lamps and shelves, made up: 3-D data with real variety that needs no download.

A piece of furniture is a union of *parts*, and every part is a convex polyhedron: so each
is watertight, and whether a point is inside is a handful of half-space tests. Metres, y up,
the front towards +z. `make` is a pure function of the kind and the generator's state.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
import trimesh
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from genus.geometry.mesh import cross, normalise, sample_surface
from genus.prob import noise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Point = tuple[float, float, float]
Ring = tuple[Point, float, float]  # centre, half width in x, half depth in z; horizontal

ROUND = 12  # sides of a round part


@lru_cache
def _topology(rings: int, sides: int) -> tuple[Ints, Ints]:
    """Faces of a stack of rings, and for each flat side three vertices that span its plane."""
    faces: list[tuple[int, int, int]] = []
    planes: list[tuple[int, int, int]] = []
    for r in range(rings - 1):
        for k in range(sides):
            a, b = r * sides + k, r * sides + (k + 1) % sides
            quad = [(a, a + sides, b), (b, a + sides, b + sides)]
            faces += quad
            planes.append(quad[0])
    top = (rings - 1) * sides
    for k in range(1, sides - 1):
        faces += [(0, k, k + 1), (top, top + k + 1, top + k)]
    planes += [(0, 1, 2), (top, top + 2, top + 1)]
    return np.array(faces), np.array(planes)


@lru_cache
def _circle(sides: int) -> Floats:
    """Corners of a ring in the plane: of the square [-1, 1]^2, or of a polygon in the unit circle."""
    if sides == 4:
        return np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=np.float64)
    angle = 2 * math.pi * (np.arange(sides) + 0.5) / sides
    return np.stack([np.cos(angle), np.sin(angle)], 1)


class Part:
    """A convex polyhedron: horizontal rings of 4 corners (a box and its kin) or of `ROUND` corners.

    vertices: ``(V, 3)``. faces: ``(F, 3)``. planes: ``(S, 3)``, three vertices of each flat side.
    """

    def __init__(self, rings: Iterable[Ring], sides: int = 4):
        rings = list(rings)
        corners = np.zeros((len(rings), sides, 3))
        corners[:, :, 0::2] = np.array([half for _, *half in rings])[:, None, :] * _circle(sides)
        corners += np.array([centre for centre, _, _ in rings])[:, None, :]
        self.vertices: Floats = corners.reshape(-1, 3)
        self.faces, self.planes = _topology(len(rings), sides)


def box(low: Point, high: Point) -> Part:
    """An axis-aligned box between two corners."""
    x, z = (low[0] + high[0]) / 2, (low[2] + high[2]) / 2
    half = (high[0] - low[0]) / 2, (high[2] - low[2]) / 2
    return Part([((x, low[1], z), *half), ((x, high[1], z), *half)])


def beam(bottom: Point, top: Point, thick: float, thick_top: float | None = None, sides: int = 4) -> Part:
    """A straight post from ``bottom`` to ``top`` (which must be higher); half thickness at either end."""
    end = thick if thick_top is None else thick_top
    return Part([(bottom, thick, thick), (top, end, end)], sides)


def bead(centre: Point, radius: float, height: float | None = None) -> Part:
    """A ball, or an ellipsoid of the given half height."""
    up = radius if height is None else height
    tilt = np.linspace(-0.46, 0.46, 7) * math.pi
    rings = [((centre[0], centre[1] + up * math.sin(t), centre[2]), *(radius * math.cos(t),) * 2) for t in tilt]
    return Part(rings, ROUND)


@dataclass(frozen=True, eq=False)
class Furniture:
    """One piece: a kind and its overlapping convex parts."""

    kind: str
    parts: tuple[Part, ...]

    @cached_property
    def vertices(self) -> Floats:
        """All corners, ``(V, 3)``."""
        return np.concatenate([part.vertices for part in self.parts])

    @cached_property
    def faces(self) -> Ints:
        """All triangles, ``(F, 3)``, outward by the right-hand rule; each part is closed."""
        return self._together([part.faces for part in self.parts])

    @cached_property
    def half_spaces(self) -> tuple[Floats, Floats, Ints]:
        """Outward normals ``(S, 3)``, offsets ``(S,)`` and the row at which each part starts: a point p
        is inside a part where n.p <= d for all rows of the part."""
        planes = self._together([part.planes for part in self.parts])
        a, b, c = (self.vertices[planes[:, k]] for k in range(3))
        normal = cross(b - a, c - a)
        normal /= np.sqrt((normal**2).sum(1, keepdims=True))
        starts = np.cumsum([0, *(len(part.planes) for part in self.parts[:-1])])
        return normal, (normal * a).sum(1), starts

    def _together(self, indices: list[Ints]) -> Ints:
        """Vertex numbers of each part as numbers into `vertices`."""
        starts = np.cumsum([0, *(len(part.vertices) for part in self.parts)])
        return np.concatenate([index + start for index, start in zip(indices, starts, strict=False)])

    def mesh(self) -> trimesh.Trimesh:
        """The parts side by side in one mesh: watertight, self-intersecting where they overlap."""
        return trimesh.Trimesh(self.vertices, self.faces, process=False)

    def contains(self, points: ArrayLike, margin: float = 0.0) -> NDArray[np.bool_]:
        """Whether each point ``(P, 3)`` is inside some part, deeper than ``margin`` metres."""
        normals, offsets, starts = self.half_spaces
        outside_by = np.asarray(points) @ normals.T - offsets
        return np.asarray((np.maximum.reduceat(outside_by, starts, axis=1) < -margin).any(1))

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """``count`` points ``(count, 3)`` float32, uniform on the part of the surface that can be seen:
        what one part hides inside another is left out."""
        found: list[Tensor] = []
        while sum(map(len, found)) < count:
            points, _ = sample_surface(self.vertices, self.faces, count + count // 3, generator)
            found.append(points[torch.from_numpy(~self.contains(points.numpy(), margin=1e-5))])
        return torch.cat(found)[:count]

    def cloud(self, count: int, generator: Generator | None = None) -> Tensor:
        """`sample`, with the piece normalised to the unit sphere (`geometry.mesh.normalise`)."""
        _, centre, scale = normalise(self.vertices)
        return (self.sample(count, generator) - torch.from_numpy(centre).float()) / scale


class Dice:
    """Choices of one piece, from one block of uniform numbers drawn at the start."""

    def __init__(self, generator: Generator | None):
        self.numbers = iter(noise.uniform((64,), generator, dtype=torch.float64).tolist())

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * next(self.numbers)

    def one_of(self, *options: str) -> str:
        """One of the options."""
        return options[int(next(self.numbers) * len(options))]

    def count(self, low: int, high: int) -> int:
        """An integer in low..high."""
        return low + int(next(self.numbers) * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return next(self.numbers) < probability


def legs(dice: Dice, style: str, half_x: float, half_z: float, height: float, thick: float) -> list[Part]:
    """What carries a seat or a table top of these half sizes whose underside is at ``height``."""
    inset = thick + dice.between(0.0, 0.02)
    x, z = half_x - inset, half_z - inset
    corners = [(sx, sz) for sx in (-1, 1) for sz in (-1, 1)]
    if style == "pedestal":
        reach = 0.8 * min(half_x, half_z)
        column = beam((0, 0.02, 0), (0, height, 0), thick, sides=ROUND)
        if dice.chance(0.5):
            return [column, Part([((0, 0, 0), reach, reach), ((0, 0.03, 0), reach * 0.9, reach * 0.9)], ROUND)]
        feet = [box((-reach, 0, -thick), (reach, 0.04, thick)), box((-thick, 0, -reach), (thick, 0.04, reach))]
        return [column, *feet]
    if style == "sled":
        parts = [beam((sx * x, 0.0, sz * z), (sx * x, height, sz * z), thick) for sx, sz in corners]
        runners = [box((sx * x - thick, 0, -half_z), (sx * x + thick, 2 * thick, half_z)) for sx in (-1, 1)]
        return parts + runners
    if style == "panel":
        return [box((sx * x - thick, 0, -z), (sx * x + thick, height, z)) for sx in (-1, 1)]
    splay = dice.between(0.0, 0.06) if style in ("tapered", "round") else 0.0
    foot = thick * (0.5 if style == "tapered" else 1.0)
    sides = ROUND if style == "round" else 4
    parts = [
        beam((sx * (x + splay), 0, sz * (z + splay)), (sx * x, height, sz * z), foot, thick, sides)
        for sx, sz in corners
    ]
    if dice.chance(0.35):  # stretchers between the legs
        y, t = height * dice.between(0.25, 0.5), 0.5 * thick
        out = splay * (1 - y / height)
        for sx in (-1, 1):
            parts.append(box((sx * (x + out) - t, y - t, -z - out), (sx * (x + out) + t, y + t, z + out)))
        parts.append(box((-x - out, y - t, -t), (x + out, y + t, t)))
    return parts


def chair(dice: Dice) -> list[Part]:
    """Seat, legs, a back of one of five kinds, and perhaps arms."""
    half_x, half_z = dice.between(0.19, 0.3), dice.between(0.19, 0.27)
    height, slab = dice.between(0.36, 0.5), dice.between(0.03, 0.09)
    style = dice.one_of("square", "tapered", "round", "pedestal", "sled")
    parts = legs(dice, style, half_x, half_z, height, dice.between(0.014, 0.028))
    if dice.chance(0.2):
        parts.append(Part([((0, height, 0), half_x, half_z), ((0, height + slab, 0), half_x, half_z)], ROUND))
    else:
        parts.append(box((-half_x, height, -half_z), (half_x, height + slab, half_z)))

    back, thick = dice.one_of("solid", "slats", "ladder", "spindles", "curved"), dice.between(0.012, 0.022)
    foot, top, lean = height + 0.5 * slab, height + slab + dice.between(0.3, 0.6), dice.between(0.0, 0.12)
    z_foot = -half_z + thick

    def at(x: float, y: float, z: float = 0.0) -> Point:
        return x, y, z_foot + z - lean * (y - foot) / (top - foot)

    def leaning(x: float, low: float, high: float, half: float, deep: float, z: float = 0.0) -> Part:
        return Part([(at(x, low, z), half, deep), (at(x, high, z), half, deep)])

    if back == "solid":
        gap = dice.between(0.0, 0.15)
        parts.append(leaning(0, foot + gap, top, half_x, thick))
        if gap > 0.02:
            parts += [leaning(s * 0.7 * half_x, foot, foot + gap + 0.02, thick, thick * 0.8) for s in (-1, 1)]
    elif back == "curved":
        bend, pieces = dice.between(0.06, 0.14), 8
        edges = np.linspace(-1, 1, pieces + 1)
        for left, right in pairwise(edges):  # flat staves along a parabola
            middle = (left + right) / 2
            parts.append(leaning(middle * half_x, foot, top, half_x / pieces * 1.1, 1.4 * thick, bend * middle**2))
    else:
        parts += [leaning(s * (half_x - thick), foot, top, thick, thick) for s in (-1, 1)]
        parts.append(leaning(0, top - dice.between(0.04, 0.1), top, half_x, thick))
        if back == "ladder":
            rungs = dice.count(2, 4)
            for k in range(rungs):
                y = foot + (top - foot) * (k + 0.7) / (rungs + 0.9)
                parts.append(leaning(0, y, y + 0.04, half_x - thick, 0.6 * thick))
        else:
            bars, half = (dice.count(2, 5), dice.between(0.018, 0.03)) if back == "slats" else (dice.count(5, 9), 0.007)
            for x in np.linspace(-1, 1, bars + 2)[1:-1] * (half_x - thick):
                parts.append(leaning(float(x), foot, top - 0.02, half, half if back == "spindles" else 0.5 * thick))
    if dice.chance(0.4):
        up, half, front = height + slab + dice.between(0.15, 0.25), dice.between(0.015, 0.035), dice.between(0.4, 0.95)
        for s in (-1, 1):
            x = s * (half_x - 0.5 * half)
            parts.append(box((x - half, up, z_foot - lean), (x + half, up + 0.03, front * half_z + 0.02)))
            parts.append(beam((x, height, front * half_z - 0.02), (x, up + 0.01, front * half_z - 0.02), 0.016))
    return parts


def table(dice: Dice) -> list[Part]:
    """A top (rectangular, round or oval), legs, perhaps an apron or a lower shelf."""
    low = dice.chance(0.35)  # a coffee table
    height, slab = (dice.between(0.35, 0.5) if low else dice.between(0.68, 0.8)), dice.between(0.02, 0.06)
    half_x = dice.between(0.35, 0.9)
    half_z = half_x * dice.between(0.45, 1.0)
    style = dice.one_of("square", "tapered", "round", "pedestal", "sled", "panel")
    thick = dice.between(0.018, 0.045)
    rounded = dice.chance(0.35)
    inner_x, inner_z = (half_x * 0.7, half_z * 0.7) if rounded else (half_x, half_z)
    parts = legs(dice, style, inner_x, inner_z, height, 2 * thick if style == "pedestal" else thick)
    top: list[Ring] = [((0, height, 0), half_x, half_z), ((0, height + slab, 0), half_x, half_z)]
    parts.append(Part(top, 24 if rounded else 4))
    if style not in ("pedestal", "panel") and dice.chance(0.5):
        x, z, t, drop = inner_x - 2 * thick, inner_z - 2 * thick, 0.012, dice.between(0.05, 0.12)
        parts += [box((s * x - t, height - drop, -z), (s * x + t, height, z)) for s in (-1, 1)]
        parts += [box((-x, height - drop, s * z - t), (x, height, s * z + t)) for s in (-1, 1)]
    if style != "pedestal" and dice.chance(0.25):
        y = height * dice.between(0.2, 0.45)
        parts.append(box((-inner_x + thick, y, -inner_z + thick), (inner_x - thick, y + 0.025, inner_z - thick)))
    return parts


def lamp(dice: Dice) -> list[Part]:
    """A foot, a pole (straight or bent), and a shade: cone, cylinder, ball or dome."""
    height, pole = dice.between(0.45, 1.6), dice.between(0.009, 0.018)
    base, reach = dice.one_of("disc", "block", "tripod", "vase"), dice.between(0.12, 0.2)
    wide, tall = dice.between(0.13, 0.25), dice.between(0.18, 0.34)
    lean, parts = 0.0, []
    if base == "disc":
        parts.append(Part([((0, 0, 0), reach, reach), ((0, 0.03, 0), reach * 0.85, reach * 0.85)], ROUND))
    elif base == "block":
        parts.append(box((-reach, 0, -reach), (reach, dice.between(0.03, 0.08), reach)))
    elif base == "tripod":
        joint = height * dice.between(0.35, 0.75)
        for turn in (0.5, 0.5 + 2 / 3, 0.5 + 4 / 3):
            foot = 1.6 * reach * math.cos(turn * math.pi), 0.0, 1.6 * reach * math.sin(turn * math.pi)
            parts.append(beam(foot, (0, joint, 0), pole, sides=ROUND))
    else:
        belly, up = 0.8 * reach, min(0.45 * height, 0.4)
        parts.append(bead((0, up / 2, 0), belly, up / 2))
        parts.append(Part([((0, 0, 0), 0.5 * belly, 0.5 * belly), ((0, 0.05, 0), 0.5 * belly, 0.5 * belly)], ROUND))
    start = 0.0 if base != "tripod" else height * 0.3
    if base in ("disc", "block") and dice.chance(0.35):  # an arm that bends forwards
        lean, elbow = dice.between(0.15, 0.35), height * dice.between(0.45, 0.7)
        parts.append(beam((0, 0, 0), (-0.3 * lean, elbow, 0), pole, sides=ROUND))
        parts.append(beam((-0.3 * lean, elbow - pole, 0), (lean, height + 0.3 * tall, 0), pole, sides=ROUND))
    else:
        parts.append(beam((0, start, 0), (0, height + 0.3 * tall, 0), pole, sides=ROUND))
    shade = dice.one_of("cone", "cylinder", "ball", "dome")
    if shade == "ball":
        parts.append(bead((lean, height + wide, 0), wide))
    elif shade == "dome":
        tilt = np.linspace(0.0, 0.46, 5) * math.pi
        dome = [((lean, height + wide * math.sin(t), 0.0), wide * math.cos(t), wide * math.cos(t)) for t in tilt]
        parts.append(Part(dome, ROUND))
    else:
        top = wide * (dice.between(0.35, 0.65) if shade == "cone" else 1.0)
        parts.append(Part([((lean, height, 0), wide, wide), ((lean, height + tall, 0), top, top)], ROUND))
    return parts


def shelf(dice: Dice) -> list[Part]:
    """Boards in rows, panels or posts at the sides, perhaps dividers, a back and doors."""
    half_x, half_z, height = dice.between(0.25, 0.6), dice.between(0.12, 0.2), dice.between(0.7, 1.8)
    board, rows, columns = dice.between(0.01, 0.02), dice.count(2, 6), dice.count(1, 3)
    foot = dice.between(0.0, 0.15)
    levels = np.linspace(foot + board, height - board, rows + 1)
    parts = [box((-half_x, float(y) - board, -half_z), (half_x, float(y) + board, half_z)) for y in levels]
    if dice.chance(0.35):  # an open rack on four posts
        post = 1.3 * board
        corners = [(sx * (half_x - post), sz * (half_z - post)) for sx in (-1, 1) for sz in (-1, 1)]
        return parts + [beam((x, 0, z), (x, height + 0.03, z), post) for x, z in corners]
    edges = np.linspace(-half_x + board, half_x - board, columns + 1)
    for k, x in enumerate(edges):
        low = 0.0 if k in (0, columns) else float(levels[0])
        parts.append(box((float(x) - board, low, -half_z), (float(x) + board, height, half_z)))
    if dice.chance(0.35):
        parts.append(box((-half_x, float(levels[0]), -half_z), (half_x, height, -half_z + 0.012)))
    if dice.chance(0.2):  # doors before the lowest row
        parts.append(box((-half_x, float(levels[0]), half_z - 0.012), (half_x, float(levels[1]), half_z + 0.006)))
    return parts


KINDS: dict[str, Callable[[Dice], list[Part]]] = {"chair": chair, "table": table, "lamp": lamp, "shelf": shelf}


def make(kind: str, generator: Generator | None = None) -> Furniture:
    """One piece of furniture of the kind ``chair``, ``table``, ``lamp`` or ``shelf``, in metres."""
    if kind not in KINDS:
        raise ValueError(f"unknown furniture {kind!r}; expected one of {', '.join(KINDS)}.")
    return Furniture(kind, tuple(KINDS[kind](Dice(generator))))
