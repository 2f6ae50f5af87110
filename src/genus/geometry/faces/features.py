"""Eyes, eyebrows, mouths and beards, on the head's surface."""

import numpy as np

from genus.geometry.faces.body import skin_colour
from genus.geometry.faces.canvas import (
    BEARD,
    EYEBROWS,
    EYES,
    MOUTH,
    WHITE,
    Floats,
    Scene,
    bump,
    channels,
    circle,
    clip,
    ellipse,
    ramp,
    srgb,
    wave,
)
from genus.geometry.faces.hair import beard_colour, hair_colour

IRIS = srgb("#6b4426", "#4f8fc4", "#5f9460", "#7d8b94")
EYE_Y, MOUTH_Y = -0.02, 0.335
LASH = channels(srgb("#221a1c"))


def eyes(s: Scene) -> None:
    """Both at once: the white, iris, pupil and highlight between the lids, the lid's line and its crease."""
    f = s.face
    sign = np.where(s.u < 0, -1.0, 1.0)
    x = np.abs(s.u) - f.apart
    half = 0.118 * f.eye
    p = x * (1 / half)
    arch = np.maximum(1 - p * p, 0)
    tall = 0.062 * f.eye
    low = EYE_Y + tall * 0.75 * arch
    high = low - tall * 1.75 * f.lids * arch
    beyond = np.maximum(np.abs(x) - half, 0)
    d = np.maximum(np.maximum(high - s.v, s.v - low) * 0.8, np.maximum(np.abs(x) - half, s.head + 0.01))
    here = clip(-(s.head + 0.005) * (1 / s.pixel))  # an eye may be turned out of sight
    socket = skin_colour(f) * np.array([0.45, 0.32, 0.28]).reshape(3, 1, 1, 1)
    s.paint(d - 0.012, socket, soft=0.02, alpha=0.5 * here)
    shade = 1 if s.drawn else 0.62 + 0.38 * ramp(s.v - high, -0.01, 0.06)
    seen = s.paint(d, (WHITE * 0.93) * shade, EYES, alpha=np.minimum(f.lids * 8, 1.0))
    ix, iy = sign * x - 0.028 * f.gaze, s.v - EYE_Y + 0.008
    colour = channels(IRIS[f.eye_colour.reshape(-1)]) * (0.8 + 0.4 * f.detail)
    away = circle(ix, iy, 0)
    s.paint(away - 0.064 * f.eye, colour * (0.5 if s.drawn else 0.3), alpha=seen)
    s.paint(away - 0.0525 * f.eye, colour * (1 + 0.9 * ramp(iy, -0.02, 0.05)) * shade, alpha=seen)
    s.paint(away - 0.0295 * f.eye, LASH * 0.3, alpha=seen)
    gx, gy = ix - 0.022 * np.where(f.light < 0, -1.0, 1.0), iy + 0.024
    s.paint(circle(gx, gy, 0.019 * f.eye), WHITE, alpha=seen)
    lash = np.abs(s.v - high) * 0.85 + beyond * 0.8
    s.stroke(lash, 0.010 + 0.009 * arch, LASH, alpha=here)
    s.trace(lash, here)
    crease = np.abs(s.v - high + 0.035 * arch) + beyond
    s.stroke(crease, 0.005, socket, alpha=here * 0.8 * (not s.drawn))


def eyebrows(s: Scene) -> None:
    """Two arcs; worry raises their inner ends."""
    f = s.face
    x = np.abs(s.u) - f.apart - 0.005
    p = x * (1 / 0.13)
    middle = -0.153 - f.lift + 0.035 * p * p - f.worry * (0.45 - 0.675 * p)
    thick = f.thick * (1.1 - 0.35 * p)
    away, ends = np.abs(s.v - middle) * 0.93, np.maximum(np.abs(x) - 0.13, s.head + 0.01)
    colour, soft = hair_colour(f) * 0.55, 0.0 if s.drawn else 0.012
    s.paint(np.maximum(away - thick, ends), colour, EYEBROWS, soft=soft, alpha=0.92, edge=np.maximum(away, ends))


def mouth_distance(s: Scene) -> tuple[Floats, Floats, Floats]:
    """Distance to the opening between the lips; how far along it (-1 to 1), and the height of its line."""
    f = s.face
    p = clip(s.u * (1 / f.mouth), -1.0, 1.0)
    t = 1 - p * p
    full = t + f.ring * (np.sqrt(t) - t)
    line = MOUTH_Y + f.bow * (t - 0.55)
    high, low = line - f.upper * full, line + f.lower * full
    inside = np.maximum(high - s.v, s.v - low) * 0.85
    beyond = np.maximum(np.abs(s.u) - f.mouth, 0)
    out = np.maximum(inside, 0)
    return np.sqrt(beyond * beyond + out * out) + np.minimum(inside, 0), p, high


def mouth(s: Scene) -> None:
    """Lips, and between them, if it is open, the dark with teeth and a tongue."""
    f = s.face
    d, p, high = mouth_distance(s)
    t = 1 - p * p
    lip = skin_colour(f) * np.array([0.72, 0.34, 0.36]).reshape(3, 1, 1, 1) * (0.9 + 0.2 * f.shade)
    full = 0.026 + 0.016 * t * (s.v > high)
    shade = 1.0 if s.drawn else 0.85 + 0.3 * ramp(s.v - high, -0.03, 0.04)
    s.paint(np.maximum(d - full, s.head + 0.01), lip * shade, MOUTH, line=0.006, edge=np.maximum(d, s.head))
    dark = channels(srgb("#4a1a1e"))
    opened = np.minimum((f.lower + f.upper) * 30, 1.0)
    inside = s.paint(np.maximum(d, s.head + 0.02), dark, alpha=opened)
    tongue = ellipse(s.u, s.v - high - f.lower - f.upper - 0.01, f.mouth * 0.7, 0.05)
    s.paint(tongue, channels(srgb("#c4565e")), alpha=inside)
    teeth = s.v - high - (0.048 - 0.022 * f.ring) * np.minimum(t * 1.5, 1)
    s.paint(teeth, WHITE * 0.92, alpha=inside)
    s.stroke(np.maximum(d, 0), 0.009, lip * 0.18, alpha=(1 - opened) * (s.head < -0.02))
    corner = bump(np.abs(s.u) - f.mouth - 0.01, s.v - MOUTH_Y + 0.55 * f.bow, 0.035, 0.035)
    s.light *= 1 - 0.4 * corner


def beard(s: Scene) -> None:
    """What grows on cheeks, chin and lip, up to the ears."""
    ua = np.abs(s.u)
    side = ramp(ua, 0.20, 0.42)
    edge = 0.245 + 0.10 * bump(ua - 0.24, 0 * ua, 0.17, 1) - 0.36 * side * side
    d = np.maximum(s.head - 0.055 * ramp(s.y, 0.0, 0.4), (edge - s.v) * 0.9)
    _hairy(s, d)


def moustache(s: Scene) -> None:
    """Between the nose and the mouth, its ends hanging a little."""
    ua = np.abs(s.u)
    p = ua * (1 / 0.19)
    middle = 0.255 + 0.055 * p * p
    _hairy(s, np.maximum(np.abs(s.v - middle) - 0.050 * (1.1 - 0.7 * p), ua - 0.19))


def _hairy(s: Scene, d: Floats) -> None:
    grain = 0 if s.drawn else 0.14 * wave(s.u * 21 + s.v * 2) * ramp(s.pixel, 0.05, 0.02)
    shade = s.lit(s.nx, s.ny * 0.6 + 0.1, s.nz) * (0.95 + grain)
    s.paint(d, beard_colour(s.face) * shade, BEARD, line=0.012, soft=0.0 if s.drawn else 0.015)
