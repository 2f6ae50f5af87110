"""Faces that move: what one does in a few frames, the first of which is the face as it was."""

from dataclasses import replace

import numpy as np

from genus.geometry.faces.record import EXPRESSIONS, MOOD, MOODS, SUNGLASSES, Faces, Floats, Ints

MOTIONS = ("turn_left", "turn_right", "blink", "smile")
LEFT, RIGHT, BLINK, SMILE = range(len(MOTIONS))
FARTHEST = 1.5  # turn


def motions(f: Faces, u: Floats) -> Ints:
    """A motion for each of N faces that can be seen on it, by a uniform number each, ``(N,)``: closed or hidden eyes
    do not blink, and who smiles does not begin to."""
    can = np.ones((len(f), len(MOTIONS)), np.int64)
    can[:, BLINK] = (f.closed == 0) & (f.glasses != SUNGLASSES)
    can[:, SMILE] = f.expression != EXPRESSIONS.index("smile")
    number = (u * can.sum(1)).astype(np.int64) + 1
    return (can.cumsum(1) >= number[:, None]).argmax(1)


def moving(f: Faces, motion: Ints, frames: int) -> Faces:
    """The frames of N faces one after the other, ``N * frames`` of them: frame 0 is the face itself.

    A turn goes on for 1.1 of `Faces.turn`, to 1.5 at most; eyes are closed in the middle of a blink; a smile is
    complete in the last frame.
    """
    time = np.tile(np.arange(frames) / max(frames - 1, 1), len(f))
    soft = time * time * (3 - 2 * time)
    still = f.at(np.arange(len(f)).repeat(frames))
    motion = motion.repeat(frames)
    way = np.where(motion == RIGHT, 1.0, -1.0) * (motion <= RIGHT)
    end = np.clip(still.turn + 1.1 * way, -FARTHEST, FARTHEST)
    shut = np.clip(1.8 - 5 * np.abs(time - 0.5), 0, 1) * (motion == BLINK)
    happy = soft * (motion == SMILE)
    mood = dict(zip(MOODS, MOOD[EXPRESSIONS.index("smile")], strict=True))
    moved = {name: getattr(still, name) + happy * (goal * still.vigour - getattr(still, name))
             for name, goal in mood.items()}  # fmt: skip
    moved["lids"] = np.where(still.closed == 1, still.lids, moved["lids"] * (1 - shut))
    return replace(still, turn=still.turn + soft * (end - still.turn), **moved)
