"""Portraits in words: plain English over a closed vocabulary, one token a word.

Words rather than characters: a caption is some twenty tokens, each of which means something by itself, so a small
text encoder needs to learn what words say and not how they are spelt. Commas and full stops are words; what follows
the last one is ``<pad>``, token 0.
"""

import difflib
import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genus.errors import brief
from genus.geometry.faces.record import BACKGROUNDS, HAIR, HAIR_COLOURS, HAT_COLOURS, Faces, Floats
from genus.kinds import Tokens

PAD = "<pad>"
LENGTH = 48
NUMBERS = 9
"""Uniform numbers that the wording of a caption takes."""

MOODS = (("serious", "calm"), ("smiling", "happy"), ("sad", "unhappy"), ("surprised", "astonished"))
MEDIA = (("photo", "portrait"), ("drawing", "cartoon"))
SKINS = ("light", "tan", "brown", "dark")
HAIR_STYLES = ("bald", "short", "spiky", "curly", "bun", "long straight", "long wavy")
HAT_NAMES = ("", "cap", "beanie", "hat")
ASIDE = 0.4  # a turn beyond it is told
GRAMMAR = (
    "a an the this of with and who has wears is in front on shows person wearing looking to left right "
    "hair round square glasses sunglasses moustache beard closed eyes skin background , ."
)
NAMES = (PAD, *sorted({
    word for phrase in (GRAMMAR, *sum(MOODS + MEDIA, ()), *SKINS, *HAIR_STYLES, *HAT_NAMES, *HAIR_COLOURS,
                        *HAT_COLOURS, *BACKGROUNDS)
    for word in phrase.split()
}))  # fmt: skip
CAPTIONS = Tokens(LENGTH, len(NAMES), NAMES)
"""What a caption is."""


def article(phrase: str) -> str:
    """The phrase after ``a`` or ``an``."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def enumerated(phrases: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a , b and c``."""
    return " and ".join([" , ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)


def hair(f: Faces, i: int) -> str:
    """The hair of a face in words; empty for a bald one."""
    style, colour = HAIR[f.hair[i]], HAIR_COLOURS[f.hair_colour[i]]
    if style == "bald":
        return ""
    return f"{colour} hair in a bun" if style == "bun" else f"{HAIR_STYLES[f.hair[i]]} {colour} hair"


def caption(f: Faces, i: int, u: Floats) -> str:
    """Face ``i`` in a sentence; the uniform numbers ``u`` ``(NUMBERS,)`` choose the wording.

    Always told: expression, hair, whether it is drawn, and what is there of glasses, hat, beard and closed eyes. Skin,
    background and where a turned head looks are told more often than not.
    """
    mood = MOODS[f.expression[i]][int(u[0] * 2)]
    medium = MEDIA[f.style[i]][int(u[1] * 2)]
    ground = f"{BACKGROUNDS[f.background[i]]} background" if u[2] < 0.7 else ""
    way = "" if abs(f.turn[i]) < ASIDE or u[3] > 0.7 else "left" if f.turn[i] < 0 else "right"
    skin = f"{SKINS[min(int(f.skin[i] * 4), 3)]} skin" if u[4] < 0.6 else ""
    locks = hair(f, i)
    has = [locks, "a moustache" if f.beard[i] == 1 else "a beard" if f.beard[i] == 2 else "", skin]
    has = [part for part in has if part]
    if u[5] < 0.5:
        has.reverse()
    if f.closed[i]:
        has.append("closed eyes")
    glasses = ("", "round glasses", "square glasses", "sunglasses")[f.glasses[i]]
    hat = article(f"{HAT_COLOURS[f.hat_colour[i]]} {HAT_NAMES[f.hat[i]]}") if f.hat[i] else ""
    wears = [part for part in ((glasses, hat) if u[6] < 0.5 else (hat, glasses)) if part]
    who = f"{mood} person" if locks else f"{mood} bald person"
    looking = f"looking to the {way}" if way else ""
    before = f"{'in front of' if u[7] < 0.5 else 'on'} {article(ground)}" if ground else ""

    form = int(u[8] * 4)
    if form == 3:  # photo , smiling person , short black hair , blue background
        return " , ".join(part for part in (medium, who, *has, *wears, looking, ground) if part) + " ."
    if form == 2:  # a photo of a person who is smiling . the person has ... and is looking to the left , on ...
        start = f"{article(medium)} of {article(who.removeprefix(mood + ' '))} who is {mood}"
        does = [f"has {enumerated([*has, *wears])}"] if has or wears else []
        does += [f"is {looking}"] if looking else []
        tail = f". the person {enumerated(does)}" if does else ""
    elif form == 1:  # this photo shows a smiling person who has ... , wears ... and is looking to the left on ...
        start = f"this {medium} shows {article(who)}"
        does = [f"has {enumerated(has)}"] if has else []
        does += [f"wears {enumerated(wears)}"] if wears else []
        does += [f"is {looking}"] if looking else []
        tail = f"who {enumerated(does)}" if does else ""
    else:  # a photo of a smiling person with ... wearing ... , looking to the left , on ...
        start = f"{article(medium)} of {article(who)}"
        does = [f"with {enumerated(has)}"] if has else []
        does += [f"wearing {enumerated(wears)}"] if wears else []
        does += [f", {looking}"] if looking else []
        tail = " ".join(does)
    return " ".join(part for part in (start, tail, "," if before else "", before, ".") if part)


def captions(f: Faces, u: Floats) -> Tensor:
    """Captions of N faces as tokens ``(N, LENGTH)``; u: ``(N, NUMBERS)``, uniform in [0, 1)."""
    return tokens([caption(f, i, u[i]) for i in range(len(f))])


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, signs apart."""
    return re.findall(r"<pad>|[^\s,.]+|[,.]", text.lower())


def tokens(texts: Sequence[str]) -> Tensor:
    """Texts as tokens ``(N, LENGTH)`` of `CAPTIONS`, uint8, padded at the end.

    Raises ValueError for a text that is empty or too long, and for a word that is not in the vocabulary, with the
    nearest words that are.
    """
    known = {name: number for number, name in enumerate(NAMES)}
    out = np.zeros((len(texts), LENGTH), np.uint8)
    for row, text in enumerate(texts):
        words = words_of(text)
        if not 1 <= len(words) <= LENGTH:
            raise ValueError(f"{brief(text)}: expected 1 to {LENGTH} words, commas and full stops; got {len(words)}.")
        for place, word in enumerate(words):
            if word not in known or word == PAD:
                near = difflib.get_close_matches(word, NAMES[1:], n=3, cutoff=0.5)
                hint = f"the nearest are {', '.join(near)}" if near else f"the words are {' '.join(NAMES[1:])}"
                raise ValueError(f"{brief(text)}: the captions of portraits know no word {brief(word)}; {hint}.")
            out[row, place] = known[word]
    return torch.from_numpy(out)


def texts(x: Tensor) -> list[str]:
    """Tokens ``(N, LENGTH)`` as texts, the pads left out; the inverse of `tokens`."""
    CAPTIONS.check(x, "captions")
    rows = (" ".join(NAMES[code] for code in row if code) for row in x.tolist())
    return [re.sub(r" ([,.])", r"\1", row) for row in rows]
