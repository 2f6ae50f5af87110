"""What lies behind and under a face: background, clothes, neck, ears, and the head itself."""

import numpy as np

from genus.geometry.faces.canvas import (
    BACKGROUND,
    CLOTHES,
    SKIN,
    WHITE,
    Floats,
    Scene,
    bump,
    channels,
    circle,
    clip,
    ellipse,
    ramp,
    rotation,
    srgb,
    wave,
)
from genus.geometry.faces.record import Faces

SKINS = srgb("#fbdcc6", "#f0c4a0", "#dba67c", "#b97f56", "#8c5a3c", "#5f3c2a")
TURN = 0.2309  # tangent of half of 26 degrees
GROUNDS = srgb("#7fb0d8", "#86b98c", "#f0d585", "#ecb3bb", "#ab98cc", "#a3a9ae", "#eaa877", "#eef0ee")
CLOTH = srgb(
    *("#39536e", "#b5533f", "#5f7f5a", "#e0dcd0", "#3c3c44"), *("#8d5d84", "#d7a13c", "#4d8f97", "#c98a9b", "#7a6a5a")
)


def skin_colour(f: Faces) -> Floats:
    """Of each face, ``(3, n, 1, 1)``: between the anchors of `SKINS`."""
    place = f.skin.reshape(-1) * (len(SKINS) - 1)
    low = np.minimum(place.astype(np.int64), len(SKINS) - 2)
    share = (place - low)[:, None]
    return channels(SKINS[low] + share * (SKINS[low + 1] - SKINS[low]))


def flesh(s: Scene, shade: Floats) -> Floats:
    """Skin under a light: what is darker is redder, as light wanders in skin."""
    dark = 1 - np.minimum(shade, 1)
    colour = skin_colour(s.face)
    return colour * np.stack([shade, shade * (1 - 0.16 * dark), shade * (1 - 0.22 * dark)])


def background(s: Scene) -> None:
    """A colour, plain or with a gradient, a glow, stripes or dots."""
    f = s.face
    ground = channels(GROUNDS[f.background.reshape(-1)]) * (0.85 + 0.25 * f.tone)
    stripe = clip(0.5 + wave(s.X * 3.2 + s.Y * 6 * (f.detail - 0.5)) * (0.12 / s.pixel))
    x, y = 2.5 * s.X, 2.5 * s.Y
    x, y = x - np.floor(x) - 0.5, y - np.floor(y) - 0.5
    dot = clip(0.5 - circle(x, y, 0.28) * (0.4 / s.pixel))
    fall = 0.05 + 0.14 * (stripe * (f.pattern == 3) + dot * (f.pattern == 4))
    if not s.drawn:
        fall = fall + 0.30 * (s.Y + 1) * (f.pattern == 1) + 0.35 * (s.X * s.X + s.Y * s.Y) * (f.pattern == 2)
    s.light[:] = ground * (1 - fall)
    s.region[:] = BACKGROUND


def neck(s: Scene) -> None:
    """From under the chin into the clothes, in the shadow of the chin."""
    f = s.face
    x = s.X - f.left
    flare = ramp(s.Y, 0.66, 0.95)
    d = np.maximum(np.abs(x) - (0.20 + 0.16 * flare * flare), 0.2 - s.Y)
    shadow = ramp(s.y, 0.62 * f.height / 0.6, 0.95)
    shade = s.lit(3.2 * x, 0 * x, 0.85) * (1 if s.drawn else 0.50 + 0.5 * shadow)
    s.paint(d, flesh(s, shade * (0.85 if s.drawn else 1)), SKIN, line=0.016)


def clothes(s: Scene) -> None:
    """A shirt over shoulders: plain or striped, with a round neck, a V, or a collar."""
    f = s.face
    x, y = s.X - f.left, s.Y
    colour = channels(CLOTH[(f.cloth.reshape(-1) * len(CLOTH)).astype(np.int64)])
    away, across = np.abs(x), x * x
    shoulder = 0.76 + 0.26 * across + 0.9 * ramp(away, 0.72, 1.2)
    low = np.select([f.collar == 0, f.collar == 1], [0.93 - 3.2 * across, 1.08 - 1.6 * away], 0.98 - 1.1 * away)
    shade = s.lit(0.9 * x, 0 * x - 0.25, 0.8) * (0.82 + 0.18 * ramp(y, 0.7, 1.0))
    stripe = clip(0.5 + wave((y - 0.26 * across) * 7) * (0.05 / s.pixel)) * (f.detail < 0.3)
    s.paint(np.maximum(shoulder, low) - y, colour * (1 - 0.45 * stripe) * shade, CLOTHES, line=0.018)
    hem = np.where(f.collar == 1, 1.0, np.abs(low - y) - np.where(f.collar == 0, 0.035, 0.055))
    hem = np.maximum(hem, np.maximum(0.70, np.where(f.collar == 2, shoulder - 0.05, 0)) - y)
    trim = np.where(f.collar == 2, 0.35 + 0.65 * colour, colour * 0.6)
    s.paint(hem, trim * shade, line=0.010)


def ears(s: Scene) -> None:
    """At the sides of the head."""
    d, skin = _ears(s)
    s.paint(d, skin, SKIN, line=0.014)


def near_ear(s: Scene) -> None:
    """The ear that a turned head shows in front of itself."""
    sin = turned(s.face)[1]
    seen = ramp(np.abs(sin), 0.08, 0.22) * (s.x * sin < 0)
    d, skin = _ears(s)
    if not s.drawn:
        s.paint(d, s.light * 0.6, soft=0.06, alpha=seen)
    s.paint(d, skin, SKIN, line=0.014, alpha=seen)


def _ears(s: Scene) -> tuple[Floats, Floats]:
    """Distance to both ears, and their colour."""
    f = s.face
    cos, sin = turned(f)
    x = s.x + 0.10 * sin * f.width
    side = np.where(x < 0, -1.0, 1.0)
    away, y = np.abs(x) - f.width * (cos + 0.03), s.y - 0.06
    shade = s.lit(s.nx * 0.6 + side * 0.25, 0 * y, 0.75) * (1 - 0.35 * bump(away, y, 0.06, 0.09))
    return ellipse(away, y, 0.085, 0.13), flesh(s, shade)


def turned(f: Faces) -> tuple[Floats, Floats]:
    """Cosine and sine of how far the head is turned."""
    return rotation(f.turn * TURN)


def outline(x: Floats, y: Floats, f: Faces, grow: Floats | float = 0.0, lift: Floats | float = 0.0) -> Floats:
    """Distance to a head's outline in its own frame, enlarged to the sides and, by ``lift``, at the top."""
    a, b = f.width + grow, f.height + grow + lift * (y < 0)
    t = y / b
    sin = turned(f)[1]
    down = np.maximum(t, 0)
    x = x - sin * (0.06 * t * np.abs(t) + 0.02 * t * t)
    w = a * (1 - f.jaw * down * down)
    square = f.square * (0.4 + 0.6 * (t > 0))
    t2, p = t * t, x / w
    g = p * p + t2 * (1 - square + square * t2) - 1
    gx, gy = p / w, t * (1 - square + 2 * square * t2) / b
    return 0.5 * g / np.sqrt(gx * gx + gy * gy + 0.05)


def head(s: Scene) -> None:
    """Skin over a rounded head with a nose, cheeks, sockets of the eyes and a chin, under the light."""
    f = s.face
    s.paint(s.head, flesh(s, face_shade(s)), SKIN, line=0.018)
    red = bump(np.abs(s.u) - 0.26, s.v - 0.2, 0.17, 0.15) * (0.12 + 0.30 * f.blush) * (s.head < 0)
    s.light *= 1 - red * np.array([0.0, 0.28, 0.24]).reshape(3, 1, 1, 1)
    if not s.drawn:
        shine = 0.16 * bump(s.u - 0.22 * f.light, s.v + 0.36, 0.2, 0.13)
        shine = shine + 0.22 * bump(nose_side(s) - 0.015 * f.light, s.v - 0.13, 0.05, 0.06)
        s.light += (shine * (0.5 + 0.5 * f.strength) * (s.head < 0)) * (WHITE - s.light) * 0.7


def nose_side(s: Scene) -> Floats:
    """Across the nose, which stands out of the face: it moves further than the face when the head turns."""
    return s.u - 0.09 * turned(s.face)[1] * ramp(s.v, -0.15, 0.16)


def face_shade(s: Scene) -> Floats:
    """The light on the face: hills of skin bend its normal; where they overhang it is darker."""
    f = s.face
    n, ua = nose_side(s), np.abs(s.u)
    sign = np.where(s.u < 0, -1.0, 1.0)
    nx, ny = s.nx.copy(), s.ny * 0.9
    size, depth = f.nose, 0.6 if s.drawn else 1.0

    def hill(x: Floats, y: Floats, a: Floats | float, b: Floats | float, high: float, mirror: bool = False) -> None:
        p, q = x * (1 / a), y * (1 / b)
        top = np.maximum(1 - p * p - q * q, 0) * (4 * high * depth)
        slope = top * p * (1 / a)
        nx[...] += slope * sign if mirror else slope
        ny[...] += top * q * (1 / b)

    hill(n, s.v - 0.05, 0.085 * size, 0.26, 0.055)
    hill(n, s.v - 0.145, 0.105 * size, 0.085 * size, 0.05)
    hill(ua - f.apart, s.v + 0.03, 0.15, 0.12, -0.030, True)
    hill(ua - 0.24, s.v - 0.19, 0.17, 0.15, 0.030, True)
    hill(s.u, s.v - 0.50, 0.15, 0.11, 0.030)
    shade = s.lit(nx, ny, s.nz)
    if s.drawn:
        return shade
    shade *= 1 - 0.28 * bump(n, s.v - 0.215, 0.13 * size, 0.06)  # under the nose
    shade *= 1 - 0.22 * bump(ua - f.apart + 0.02, s.v + 0.06, 0.14, 0.10)  # under the brows
    return shade * (1 - 0.18 * bump(s.u, s.v - 0.425, 0.14, 0.05))  # under the lip


def nose(s: Scene) -> None:
    """Nostrils, and in a drawing the line under the tip."""
    f = s.face
    n = nose_side(s)
    dark = skin_colour(f) * np.array([0.28, 0.16, 0.14]).reshape(3, 1, 1, 1)
    bow = np.abs(s.v - (0.20 - 5.0 * n * n)) + 4 * np.maximum(np.abs(n) - 0.07 * f.nose, 0)
    s.trace(bow)
    if s.drawn:
        s.stroke(bow, 0.013, dark * 0.5)
        return
    near = ellipse(np.abs(n) - 0.042 * f.nose, s.v - 0.192, 0.024, 0.014)
    s.paint(near, dark, alpha=0.75, soft=0.012)
