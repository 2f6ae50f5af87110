"""Records of faces as pictures, label maps and outlines."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genus.geometry.faces import body, features, hair, wear
from genus.geometry.faces.canvas import Box, Rows, Scene, rotation
from genus.geometry.faces.record import BALD, BUN, CURLY, HAIR, STRAIGHT, Faces

Bytes = NDArray[np.uint8]
PIXELS = 1 << 15  # of a block that is painted at once: its arrays stay in the processor's cache
TILT = 0.1051  # tangent of half of 12 degrees
HEAD: Box = (-0.85, -0.8, 0.85, 0.8)
EYES: Box = (-0.85, -0.5, 0.85, 0.35)
MOUTH: Box = (-0.7, 0.0, 0.7, 0.7)
EARS: Box = (-0.9, -0.4, 0.9, 0.5)
TOP: Box = (-1.0, -1.0, 1.0, 0.3)


class Layer(NamedTuple):
    """What is painted, where in the picture, and on which faces."""

    paint: Callable[[Scene], None]
    box: Box | None = None
    who: Callable[[Faces], NDArray[np.bool_]] | None = None


LAYERS = (
    Layer(body.background),
    Layer(hair.behind, None, lambda f: f.hair >= STRAIGHT),
    Layer(hair.curls, None, lambda f: f.hair == CURLY),
    Layer(hair.bun, TOP, lambda f: f.hair == BUN),
    Layer(body.neck, (-0.6, 0.15, 0.6, 1.0)),
    Layer(body.clothes, (-1.0, 0.6, 1.0, 1.0)),
    Layer(body.ears, EARS, lambda f: f.hair < STRAIGHT),
    Layer(body.head, HEAD),
    Layer(features.beard, (-0.8, -0.4, 0.8, 0.9), lambda f: f.beard == 2),
    Layer(features.moustache, MOUTH, lambda f: f.beard == 1),
    Layer(features.mouth, MOUTH),
    Layer(body.nose, (-0.6, 0.0, 0.6, 0.5)),
    Layer(features.eyes, EYES),
    Layer(body.near_ear, EARS, lambda f: (np.abs(f.turn) > 0.17) & (f.hair < STRAIGHT)),
    Layer(features.eyebrows, EYES),
    Layer(hair.front, (-0.9, -1.0, 0.9, 0.6), lambda f: f.hair != BALD),
    Layer(hair.locks, (-1.0, -0.8, 1.0, 1.0), lambda f: f.hair >= STRAIGHT),
    Layer(wear.glasses, (-1.0, -0.5, 1.0, 0.4), lambda f: f.glasses > 0),
    Layer(wear.cap, TOP, lambda f: f.hat == 1),
    Layer(wear.beanie, TOP, lambda f: f.hat == 2),
    Layer(wear.brimmed, TOP, lambda f: f.hat == 3),
)


class Drawing(NamedTuple):
    """Pictures ``(N, 3, size, size)``, the regions and the outlines (0 or 1) ``(N, 1, size, size)``, all uint8."""

    picture: Bytes
    region: Bytes
    outline: Bytes


def draw(faces: Faces, size: int) -> Drawing:
    """Pictures, regions and outlines of N faces."""
    picture = np.empty((len(faces), 3, size, size), np.uint8)
    region, outline = (np.empty((len(faces), 1, size, size), np.uint8) for _ in range(2))
    for rows in _blocks(faces, size):
        scene = _painted(faces.at(rows), size, mapped=True)
        picture[rows] = _bytes(scene)
        region[rows, 0] = scene.region
        outline[rows, 0] = scene.ink >= 0.5
    return Drawing(picture, region, outline)


def pictures(faces: Faces, size: int) -> Bytes:
    """The pictures alone, ``(N, 3, size, size)``: sooner had."""
    picture = np.empty((len(faces), 3, size, size), np.uint8)
    for rows in _blocks(faces, size):
        picture[rows] = _bytes(_painted(faces.at(rows), size, mapped=False))
    return picture


def _blocks(faces: Faces, size: int) -> Iterator[NDArray[np.int64]]:
    """Faces of one style and kind of hair, a few at a time, those with the same hat beside each other."""
    many = max(1, PIXELS // size**2)
    order = np.lexsort((faces.glasses, faces.hat, faces.hair, faces.style))
    kind = (faces.style * len(HAIR) + faces.hair)[order]
    for rows in np.split(order, np.flatnonzero(np.diff(kind)) + 1):
        yield from (rows[start : start + many] for start in range(0, len(rows), many))


def _bytes(scene: Scene) -> Bytes:
    light = np.minimum(np.maximum(scene.light, 0), 1)
    return np.rint(np.sqrt(light) * 255).astype(np.uint8).transpose(1, 0, 2, 3)


def _painted(faces: Faces, size: int, mapped: bool) -> Scene:
    """The faces under all layers."""
    f = faces.map(lambda values: values[:, None, None])
    scene = _empty(f, size, mapped)
    for layer in LAYERS:
        rows: Rows | None = None
        if layer.who is not None:
            rows = np.flatnonzero(layer.who(faces))
            if not len(rows):
                continue
            if rows[-1] - rows[0] == len(rows) - 1:  # neighbours: no need to copy them
                rows = slice(rows[0], rows[-1] + 1)
        scene.within(layer.box, rows, layer.paint)
    return scene


def _empty(f: Faces, size: int, mapped: bool) -> Scene:
    """A canvas with the frames of reference of its faces."""
    place = (np.arange(size) * 2 + 1) / size - 1.0
    X, Y = np.broadcast_arrays(place[None, None, :], place[None, :, None])
    cos, sin = rotation(f.tilt * TILT)
    x0, y0 = X - f.left, Y - f.top - 0.75
    x, y = (cos * x0 + sin * y0) / f.zoom, (cos * y0 - sin * x0) / f.zoom + 0.70
    p, q = x / f.width, y / f.height
    nz = np.sqrt(np.maximum(1 - p * p - q * q, 0.06))
    z = nz * f.width
    cos, sin = body.turned(f)
    u = x * cos - z * sin
    v = y - 0.10 * f.nod * z - 0.0
    shape = x.shape
    return Scene(
        face=f, X=X, Y=Y, x=x, y=y, u=u, v=v, head=body.outline(x, y, f), nx=p, ny=q, nz=nz,
        light=np.empty((3, *shape)), region=np.empty(shape, np.uint8), ink=np.zeros(shape),
        pixel=2 / size, drawn=bool(f.style[0]), hair=int(f.hair[0].item()), mapped=mapped,
    )  # fmt: skip
