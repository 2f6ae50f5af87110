"""Hair: what hangs or stands behind the head, and what lies over the forehead."""

import numpy as np

from genus.geometry.faces.body import outline, skin_colour, turned
from genus.geometry.faces.canvas import HAIR, INK, Floats, Scene, bump, channels, circle, ramp, srgb, wave
from genus.geometry.faces.record import BUN, CURLY, SPIKY, STRAIGHT, WAVY, Faces

HAIRS = srgb("#241f22", "#5e3b25", "#a8481f", "#dcb064", "#a9a8a8")
AROUND = np.radians(np.linspace(-205, 25, 13))
CURLS = np.stack([np.cos(AROUND), np.sin(AROUND)], 1).round(6).tolist()  # rounded: sines differ between machines


def hair_colour(f: Faces) -> Floats:
    """Of each face, ``(3, n, 1, 1)``."""
    return channels(HAIRS[f.hair_colour.reshape(-1)]) * (0.8 + 0.45 * f.shade)


def beard_colour(f: Faces) -> Floats:
    """A little darker than the hair, and much darker where it would be lost on the skin."""
    colour, skin = (shade.mean(0) for shade in (hair_colour(f), skin_colour(f)))
    alike = ramp(colour / skin, 0.4, 0.7) * ramp(-colour / skin, -2.0, -1.4)
    return hair_colour(f) * (0.8 - 0.45 * alike)


def fade(s: Scene, many: float) -> float:
    """How well pixels show a pattern of so many periods a unit: 1 from five pixels a period, 0 below two."""
    return min(max((0.5 - s.pixel * many) / 0.3, 0.0), 1.0)


def strands(s: Scene, across: Floats, along: Floats) -> Floats:
    """Brightness of hair: strands of three widths, as fine as pixels show, and a band of gloss."""
    if s.drawn:
        return s.lit(s.nx, s.ny, s.nz)
    grain: Floats | float = 0.0
    for many, phase in ((4.3, 0.2), (11.0, 0.0), (27.0, 0.4)):
        if s.pixel * many < 0.5:
            grain = grain + 0.1 * fade(s, many) * wave(across * many + phase)
    gloss = bump(along - 0.06 * wave(across * 9), 0 * along, 0.13, 1)
    return s.lit(s.nx * 0.9, s.ny, s.nz) * (0.86 + grain) + 0.28 * gloss * (0.6 + 0.8 * s.face.strength)


def knots(s: Scene) -> Floats:
    """Brightness of curls: knots in two directions, where pixels show them."""
    x, y = s.x + 0.03 * wave(s.y * 4), s.y + 0.03 * wave(s.x * 4)
    coarse = 0.22 * fade(s, 6.5) * wave(x * 6.5) * wave(y * 6.5)
    return 1.0 + coarse + 0.16 * fade(s, 13) * wave((x + y) * 9) * wave((x - y) * 9)


def cap(s: Scene, extra: Floats | float = 0.0) -> Floats:
    """Distance to the head with its hair on."""
    f = s.face
    grow = f.volume * (0.6 + 0.4 * (f.hat == 0))
    return outline(s.x, s.y, f, grow + extra, 0.03 * (f.hat == 0))


def behind(s: Scene) -> None:
    """Long hair behind the neck."""
    f = s.face
    t = ramp(s.y, -0.1, 0.9)
    ripple = 0.035 * wave(s.y * 2.3 + 0.3) * t if s.hair == WAVY else 0.0
    half = f.width + f.volume + 0.02 + (0.20 if s.hair == WAVY else 0.10) * t
    x = s.x + 0.12 * turned(f)[1]
    fall = np.maximum(np.abs(x + ripple) - half, np.maximum(-s.y - 0.05, s.y - 0.98))
    d = np.minimum(cap(s), fall)
    shade = strands(s, x / (0.6 + 0.4 * np.abs(s.y)), s.y + 9) * (0.55 if not s.drawn else 0.8)
    s.paint(d, hair_colour(f) * shade, HAIR, line=0.018)


def locks(s: Scene) -> None:
    """Long hair that falls to the front at both sides, from the temples to the chest."""
    f = s.face
    t = ramp(s.y, -0.35, 0.9)
    wavy = float(s.hair == WAVY)
    x = s.x + 0.06 * turned(f)[1] * (1 - t) + (0.012 + 0.035 * wavy) * wave(s.y * (1.1 + 1.2 * wavy) + 0.3) * t
    away = np.abs(x)
    outer = f.width + f.volume + (0.08 + 0.10 * wavy) * t
    inner = f.width * (1.02 - 0.30 * ramp(s.y, -0.35, 0.1) + 0.12 * t)
    middle, thick = 0.5 * (outer + inner), 0.5 * (outer - inner)
    side = (away - middle) / thick
    end = 0.86 + 0.10 * f.detail - 0.07 * side * side + 0.02 * wave(away * 7)
    d = np.maximum(np.maximum(np.abs(away - middle) - thick, s.y - end), cap(s) - 0.5 * ramp(s.y, -0.15, 0.4))
    if s.drawn:
        shade = s.lit(0.5 * np.where(x < 0, -side, side), 0 * x, 0.8)
    else:
        shade = strands(s, away * 1.4, s.y - 0.25) * (1 - 0.22 * side * side)
    s.paint(d, hair_colour(f) * shade, HAIR, line=0.018)


def curls(s: Scene) -> None:
    """A cloud of curls behind and around the head."""
    f = s.face
    d = cap(s, 0.02)
    shade = 0.0 * d
    flat = 1 - 0.55 * (f.hat > 0)
    a, b = f.width + 0.06, f.height + 0.03
    for k, (p, q) in enumerate(CURLS):
        lift = np.where(q < -0.3, flat, 1.0)
        x, y = s.x - a * p, s.y + 0.04 - b * q * lift
        r = (0.15 + 0.02 * (k % 2) + 0.3 * (f.volume - 0.05)) * (0.8 + 0.2 * lift)
        away = circle(x, y, 0)
        d = np.minimum(d, away - r)
        shade = np.maximum(shade, 1 - (away / r) ** 2)
    glow = s.lit(s.nx, s.ny, s.nz) * (1 if s.drawn else (0.62 + 0.55 * shade) * knots(s))
    s.paint(d, hair_colour(f) * glow, HAIR, line=0.018)


def bun(s: Scene) -> None:
    """A knot on top of the head."""
    f = s.face
    x, y = s.x + 0.10 * turned(f)[1], s.y + f.height + 0.15
    r = 0.155 + 0.5 * (f.volume - 0.05)
    coil = 1.0 if s.drawn else 0.9 + 0.12 * wave(9 * x + 5.4 * y)
    s.paint(circle(x, y, r), hair_colour(f) * coil * s.lit(x / r, y / r, 0.7), HAIR, line=0.018)


def hairline(s: Scene) -> Floats:
    """How far down hair covers the forehead, by place on the head: swept aside, parted or a fringe, and sideburns."""
    f, u = s.face, s.u
    if s.hair in (SPIKY, BUN):
        line = -0.40 + 0.25 * u * u
    else:
        skew = np.where(f.parting < 0, -1.0, 1.0) * (0.6 + 0.4 * np.abs(f.parting))
        p = u * skew
        swept = -0.37 - 0.28 * p + 0.5 * p * p
        parted = -0.47 + 0.55 * np.abs(u - 0.05 * skew)
        fringe = -0.245 + 0.02 * wave(u * 6.5 + f.detail)
        line = np.select([f.fringe == 0, f.fringe == 1], [swept, parted], fringe)
    temple, ear = (0.28, 0.36) if s.hair >= STRAIGHT else (0.31, 0.06)
    side = np.maximum(np.abs(u) - temple, 0)
    line = np.minimum(line + 16 * side * side, ear)
    return line + ramp(s.head, -0.05, 0.0) * (ear - line)  # beside the head hair hangs down to the ears


def front(s: Scene) -> None:
    """The hair on the head itself, with its shadow on the forehead."""
    f = s.face
    edge = (s.v - hairline(s)) * 0.75
    if s.hair == SPIKY:
        up = ramp(-s.y, 0.15, 0.5)
        d = cap(s, 0.03 * up) - 0.09 * up * (1 - saw((s.x + 0.25 * (s.y + 0.5) * f.parting) * 4.2))
    else:
        d = cap(s)
    if s.hair == CURLY:
        edge = edge - 0.035 * np.abs(wave(s.u * 3.5 + 0.2))
    if not s.drawn:
        s.paint(np.maximum(edge - 0.035, s.head), s.light * 0.62, soft=0.05, alpha=0.8)
    if s.hair == CURLY and not s.drawn:
        shade = s.lit(s.nx, s.ny, s.nz) * knots(s)
    else:
        part = (s.u - 0.28 * f.parting) / (0.55 + 0.9 * ramp(s.v, -0.7, 0.1))
        shade = strands(s, part, s.v + 0.45 - 0.5 * s.u * s.u)
    if s.hair == CURLY:  # is one with the curls around it: it ends at the forehead only
        rim = np.maximum(np.abs(edge), d)
        s.paint(np.maximum(d, edge), hair_colour(f) * shade, HAIR, edge=rim)
        if s.drawn:
            s.stroke(np.maximum(rim, 0), 0.016, INK)
    else:
        s.paint(np.maximum(d, edge), hair_colour(f) * shade, HAIR, line=0.016)


def saw(x: Floats) -> Floats:
    """A triangle of period 1 between 0 and 1."""
    return np.abs(2 * (x - np.floor(x)) - 1)
