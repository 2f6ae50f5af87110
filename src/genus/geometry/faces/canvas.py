"""A painter's canvas for many faces at once: shapes given by signed distances, laid one over the other.

A shape is an array of distances to its edge, negative inside; a pixel takes as much of the shape's colour as the
edge leaves it, so edges are smooth to a pixel at any size. Colours are blended in linear light and shown with a
gamma of 2. All that is computed are sums, products, quotients, square roots and comparisons, which IEEE 754 rounds in
one way: the same bits come out on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genus.geometry.faces.record import Faces

Floats = NDArray[np.float64]
Rows = slice | NDArray[np.int64]
Box = tuple[float, float, float, float]  # left, top, right, bottom in the picture, whose sides are at -1 and 1

REGIONS = ("background", "skin", "hair", "eyes", "eyebrows", "glasses", "mouth", "beard", "hat", "clothes")
BACKGROUND, SKIN, HAIR, EYES, EYEBROWS, GLASSES, MOUTH, BEARD, HAT, CLOTHES = range(len(REGIONS))


def srgb(*colours: str) -> Floats:
    """Colours ``#rrggbb`` as linear light ``(K, 3)``."""
    codes = [[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in colours]
    return (np.array(codes) / 255.0) ** 2


def channels(colours: Floats) -> Floats:
    """Colours ``(n, 3)`` as ``(3, n, 1, 1)``, one a face."""
    return np.ascontiguousarray(colours.T)[:, :, None, None]


WHITE = channels(srgb("#ffffff"))
INK = channels(srgb("#2a2326"))


def clip(x: Floats, low: float = 0.0, high: float = 1.0) -> Floats:
    """Bounded below and above."""
    x = np.maximum(x, low)
    return np.minimum(x, high, out=x) if isinstance(x, np.ndarray) else np.minimum(x, high)


def covered(d: Floats, width: float) -> Floats:
    """How much of a pixel lies within a shape: half of it at the edge, all or nothing half a width away."""
    cover = d * (-1 / width)
    cover += 0.5
    np.maximum(cover, 0, out=cover)
    return np.minimum(cover, 1, out=cover)


def ramp(x: Any, start: Any, end: Any) -> Floats:
    """From 0 at ``start`` to 1 at ``end`` in a straight line."""
    return clip((x - start) * (1 / (end - start)))


def rotation(half: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine of an angle, of the tangent of its half."""
    square = half * half
    return (1 - square) / (1 + square), 2 * half / (1 + square)


def bump(x: Floats, y: Floats, a: Any, b: Any) -> Floats:
    """A smooth hill of height 1 that ends in an ellipse of half axes ``a, b``: ``(1 - (x/a)^2 - (y/b)^2)^2``."""
    p, q = x * (1 / a), y * (1 / b)
    top = np.maximum(1 - p * p - q * q, 0)
    return top * top


def wave(x: Floats) -> Floats:
    """A smooth wave of period 1 between -1 and 1, of parabolas."""
    half = 2 * (x - np.floor(x)) - 1
    return 4 * half * (np.abs(half) - 1)


def circle(x: Floats, y: Floats, r: Any) -> Floats:
    """Distance to a circle around 0."""
    return np.sqrt(x * x + y * y) - r


def ellipse(x: Floats, y: Floats, a: Any, b: Any) -> Floats:
    """Distance to an ellipse around 0, right to first order at its edge."""
    p, q = x * (1 / a), y * (1 / b)
    f = p * p + q * q
    gx, gy = p * (1 / a), q * (1 / b)
    return 0.5 * (f - 1) / np.sqrt(gx * gx + gy * gy + 1e-3)


def box(x: Floats, y: Floats, a: Any, b: Any, round: Any) -> Floats:
    """Distance to a rectangle of half sides ``a, b`` with corners of a radius."""
    p, q = np.abs(x) - (a - round), np.abs(y) - (b - round)
    p_, q_ = np.maximum(p, 0), np.maximum(q, 0)
    return np.sqrt(p_ * p_ + q_ * q_) + np.minimum(np.maximum(p, q), 0) - round


@dataclass
class Scene:
    """Pictures of n faces of one style and one kind of hair while they are painted.

    face: the record, every field ``(n, 1, 1)``. Arrays are ``(n, H, W)`` if not said otherwise. X, Y ``(1, H, W)``
    and x, y are places in the picture and in the frame of the upright head; u, v on the head's surface as seen from
    its front; head: distance to its outline; nx, ny, nz: its normal as an ellipsoid. light ``(3, n, H, W)``: what has
    been painted; region: the number of the topmost region, and ink: the strength of outlines, noted if ``mapped``.
    pixel: side of a pixel. drawn, hair: the style and hair of all.
    """

    face: Faces
    X: Floats
    Y: Floats
    x: Floats
    y: Floats
    u: Floats
    v: Floats
    head: Floats
    nx: Floats
    ny: Floats
    nz: Floats
    light: Floats
    region: NDArray[np.uint8]
    ink: Floats
    pixel: float
    drawn: bool
    hair: int
    mapped: bool

    def within(self, area: Box | None, rows: Rows | None, paint: Callable[["Scene"], None]) -> None:
        """Paint in a box, and on some of the faces, only."""
        size = self.region.shape[-1]
        cut: tuple[Any, ...] = ()
        if area is not None:
            left, top, right, bottom = (int((edge + 1) / 2 * size) for edge in area)
            cut = slice(max(top, 0), bottom + 1), slice(max(left, 0), right + 1)

        def part(value: Any) -> Any:
            if isinstance(value, Faces):
                return value if rows is None else value.at(rows)
            if isinstance(value, np.ndarray):
                value = value[(..., *cut)] if cut else value
                return value if rows is None or value.shape[-3] == 1 else value[..., rows, :, :]
            return value

        sub = replace(self, **{known.name: part(getattr(self, known.name)) for known in fields(self)})
        paint(sub)
        if isinstance(rows, np.ndarray):  # what was painted was a copy
            for name in ("light", "region", "ink"):
                target = getattr(self, name)
                target = target[(..., *cut)] if cut else target
                target[..., rows, :, :] = getattr(sub, name)

    def paint(
        self, d: Floats, colour: Floats, region: int | None = None, *, line: float = 0.0, soft: float = 0.0,
        alpha: Any = 1.0, edge: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """Lay a shape over what is there, and say how much of each pixel it covers.

        d: distances. colour: ``(3, n or 1, 1 or H, 1 or W)``, linear. line: half the width of its outline, of drawn
        faces; 0 for none. soft: width of a blurred edge. alpha: how opaque, a number or an array. edge: what the
        outline of the region follows instead of ``d``.
        """
        cover = covered(d, self.pixel + soft)
        cover *= alpha
        self.blend(cover, colour)
        if region is not None:
            self.mark(d, region, alpha, edge)
        if self.drawn and line:
            self.stroke(np.abs(d), line, INK, alpha)
        return cover

    def blend(self, cover: Floats, colour: Floats) -> None:
        """A share of each pixel's light becomes another colour."""
        change = colour - self.light
        change *= cover
        self.light += change

    def mark(self, d: Floats, region: int, alpha: Any = 1.0, edge: Floats | None = None) -> None:
        """Note a shape's region, and its outline (or what is at 0 of ``edge``) in place of those that it hides."""
        if self.mapped:
            cover = covered(d, self.pixel) * alpha
            np.copyto(self.region, np.uint8(region), where=cover > 0.5)
            self.ink *= 1 - cover
            self.trace(np.abs(d if edge is None else edge), alpha)

    def trace(self, d: Floats, alpha: Any = 1.0) -> None:
        """Note a line among the outlines, by the distance from its middle; it is over a pixel wide."""
        if self.mapped:
            half = max(0.55 * self.pixel, 0.008)
            np.maximum(self.ink, covered(d - half, self.pixel) * alpha, out=self.ink)

    def stroke(self, d: Floats, half: Any, colour: Floats, alpha: Any = 1.0) -> None:
        """A line of a width: ``d``: distance from its middle, at least 0. Thinner than a pixel, it is fainter."""
        cover = covered(d - half, self.pixel) - covered(d + half, self.pixel)
        self.blend(cover * alpha, colour)

    def lit(self, nx: Floats, ny: Floats, nz: Floats | float) -> Floats:
        """How bright a surface of a normal is, about 0.25 to 1.2; drawn faces have two tones."""
        f = self.face
        toward = nx * (0.85 * f.light) - 0.45 * ny + (0.62 - 0.2 * np.abs(f.light)) * nz
        if self.drawn:
            return 0.72 + 0.30 * clip(toward * 12 - 1.5)
        key = 0.75 + 0.45 * f.strength
        return (0.56 - 0.34 * f.strength) + key * np.maximum(toward * 0.82 + 0.09, 0)
