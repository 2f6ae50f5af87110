"""Glasses and hats."""

import numpy as np

from genus.geometry.faces.body import outline, turned
from genus.geometry.faces.canvas import (
    GLASSES,
    HAT,
    WHITE,
    Floats,
    Scene,
    box,
    channels,
    circle,
    clip,
    ellipse,
    ramp,
    srgb,
    wave,
)
from genus.geometry.faces.features import EYE_Y
from genus.geometry.faces.record import BALD, BLACK, ROUND, SQUARE, STRAIGHT, SUNGLASSES, Faces

FRAMES = srgb("#1c1b20", "#4a2c1c", "#7c1f28", "#1f3558")
HAT_COLOUR = srgb("#bf3434", "#3560b0", "#3f8a4c", "#e3bb38", "#2b2b31")


def glasses(s: Scene) -> None:
    """Two rims with a bridge and temples, a little before the face; sunglasses have dark lenses."""
    f = s.face
    u = s.u - 0.045 * turned(f)[1]
    ua, v = np.abs(u), s.v - EYE_Y - 0.005
    dark = f.glasses == SUNGLASSES
    x = ua - f.apart - 0.012
    ring = circle(x, v, 0.146)
    square = box(x, v, 0.155, 0.112, 0.035)
    shades = box(x + 0.01, v - 0.012 - 0.02 * ramp(x, -0.1, 0.1), 0.165, 0.118, 0.085)
    lens = np.select([dark, f.glasses == ROUND], [shades, ring], square)
    colour = channels(FRAMES[(f.frame.reshape(-1) * len(FRAMES)).astype(np.int64)])
    half = np.where(f.glasses == SQUARE, 0.022, 0.015)
    bridge = np.maximum(np.abs(v + 0.03) - 0.013, ua - f.apart * 0.5)
    hidden = 0.36 if s.hair >= STRAIGHT else 0.5
    temple = np.maximum(np.abs(v + 0.035) - 0.014, np.maximum(np.maximum(0.30 - ua, ua - hidden), s.head))
    if not s.drawn:
        s.paint(lens - 0.03, s.light * 0.75, soft=0.06, alpha=0.5 * (s.head < 0))
    tint = np.where(dark, 0.985, 0.10)
    glass = np.where(dark, 0.012, 0.75) * (1 + 2.5 * ramp(-v, -0.1, 0.12) * dark) * WHITE
    s.paint(lens, glass, alpha=tint)
    glare = np.abs((u - 0.08) * 0.8 + v * 0.6 - 0.02) - 0.02
    s.paint(np.maximum(glare, lens + 0.025), WHITE, alpha=np.where(dark, 0.20, 0.22))
    rim = np.minimum(np.abs(lens) - np.maximum(half, 0.3 * s.pixel), np.minimum(bridge, temple))
    s.paint(rim, colour)
    shape = np.minimum(rim, np.where(dark, lens, np.abs(lens) - 0.55 * s.pixel))  # no gaps on a coarse map
    s.mark(shape, GLASSES, edge=np.minimum(np.abs(lens), np.maximum(np.minimum(bridge, temple) + 0.013, 0)))


def hat_colour(f: Faces) -> Floats:
    """Of each face, ``(3, n, 1, 1)``."""
    return channels(HAT_COLOUR[f.hat_colour.reshape(-1)]) * (0.85 + 0.3 * f.tone)


def _shadow(s: Scene, d: Floats) -> None:
    """What a hat leaves in the shade on the head and its hair."""
    if not s.drawn:
        edge = 0.0 if s.hair == BALD else 0.05
        s.paint(d, s.light * 0.45, soft=0.09, alpha=0.8 * clip(0.5 - (s.head - edge) * (1 / s.pixel)))


def cap(s: Scene) -> None:
    """A dome with a button, and a peak over the forehead."""
    f = s.face
    colour, sin = hat_colour(f), turned(f)[1]
    dome = np.maximum(outline(s.x, s.y, f, f.volume + 0.015, 0.06), (s.v + 0.27 - 0.12 * s.u * s.u) * 0.9)
    x = s.x - 0.30 * sin
    peak = np.maximum(ellipse(x, s.v + 0.33 - 0.35 * x * x, 0.43, 0.155), -(s.v + 0.345 - 0.5 * x * x))
    _shadow(s, peak - 0.07)
    shade = s.lit(s.nx, s.ny, s.nz)
    seam = 1 - 0.22 * clip(1 - np.abs(np.abs(s.u) - 0.26 * ramp(-s.v, 1.0, 0.3)) / 0.012) * (s.pixel < 0.04)
    s.paint(dome, colour * shade * seam, HAT, line=0.018)
    s.paint(peak, colour * (0.62 if not s.drawn else 0.75) * (0.8 + 0.5 * ramp(s.v, -0.2, -0.34)), HAT, line=0.016)
    s.paint(ellipse(s.x + 0.12 * sin, s.y + f.height + 0.075, 0.05, 0.028), colour * 0.7, HAT, line=0.01)


def beanie(s: Scene) -> None:
    """Knitted, with a turned-up band and a pompom."""
    f = s.face
    colour, sin = hat_colour(f), turned(f)[1]
    fold = s.y + 0.32 - 0.22 * s.x * s.x + 0.10 * f.nod * f.width
    dome = np.maximum(outline(s.x, s.y, f, f.volume + 0.01, 0.12), fold)
    rib = 1 - 0.16 * clip(0.5 + wave(s.u * 9)) * (not s.drawn and s.pixel < 0.05)
    shade = s.lit(s.nx, s.ny, s.nz)
    x, y = s.x + 0.10 * sin, s.y + f.height + 0.17
    s.paint(circle(x, y, 0.105), np.minimum(colour * 1.2 + 0.25, 1) * s.lit(x * 8, y * 8, 0.7), HAT, line=0.016)
    s.paint(dome, colour * shade * rib, HAT, line=0.018)
    band = box(s.x, fold, f.width + f.volume + 0.03, 0.09, 0.055)
    _shadow(s, band - 0.06)
    s.paint(band, np.minimum(colour * 0.9 + 0.06, 1) * shade * rib, HAT, line=0.018)


def brimmed(s: Scene) -> None:
    """A crown with a ribbon over a wide brim."""
    f = s.face
    colour = hat_colour(f)
    x = s.x - 0.05 * turned(f)[1]
    y = s.y + 0.33 - 0.16 * x * x  # the brim is bent
    brim = ellipse(x, y, 0.84, 0.105)
    crown = np.maximum(box(x, s.y + 0.56, 0.47 - 0.11 * ramp(-s.y, 0.3, 0.9), 0.30, 0.13), y)
    _shadow(s, brim - 0.09)
    shade = s.lit(s.nx, 0.3 * s.ny, s.nz)
    s.paint(brim, colour * (0.75 * s.lit(0.5 * x, -1.5 - 3 * s.y, 0.6)), HAT, line=0.018)
    s.paint(crown, colour * shade, HAT, line=0.016)
    dark = np.where(f.hat_colour == BLACK, 0.25, colour * 0.22)
    s.paint(np.maximum(crown, np.abs(y + 0.0725) - 0.0575), dark * shade, HAT, line=0.008)
