"""The Yale faces: 15 people with and without glasses, in five moods and under three lights, from the data home."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genus.data.files import data_home
from genus.data.packed import members
from genus.data.source import DataOptions, Source, TensorSplit, annotate
from genus.data.transforms import resize
from genus.errors import DataFormatError
from genus.kinds import Grid, Label

ARCHIVE = "yalefaces/yalefaces_gif.tar.xz"
PHOTOGRAPH = (320, 243)  # width and height
LARGEST = 1 << 20  # bytes of a photograph
FACE = 168  # side of the square that is cut out
SIZE = 64

EXPRESSIONS = ("neutral", "happy", "sad", "sleepy", "surprised", "wink")
LIGHTS = ("room", "centre", "left", "right")
SHOTS = (  # how the files are named
    *("normal", "glasses", "noglasses", "happy", "sad", "sleepy", "surprised", "wink"),
    *("centerlight", "leftlight", "rightlight"),
)
WEARING = {8: set(SHOTS) - {"noglasses"}, 13: set(SHOTS) - {"noglasses"},
           14: {"glasses", "centerlight", "leftlight", "rightlight"}}  # fmt: skip

# Where the face is, for each person (row) and shot: x,y of a point between the eyes and the tip of the nose.
# Found by matching every photograph, evened out in brightness, with the mean face; person 11 by eye; all seen.
CENTRES = """
181,116 177,122 199,129 179,124 184,122 182,124 183,113 179,127 - 183,129 187,130
195,136 181,130 195,136 195,129 192,129 195,138 195,116 182,137 203,139 199,137 203,138
164,139 173,146 164,139 163,145 166,138 163,146 159,125 158,149 174,142 177,145 180,142
193,123 190,115 186,124 192,124 193,123 191,118 186,120 185,128 188,121 178,113 181,127
188,116 193,113 190,114 186,120 184,121 183,119 194,121 187,118 190,114 186,115 189,120
116,122 99,124 116,122 114,119 110,127 105,119 99,118 109,123 130,126 127,133 128,129
162,143 167,131 162,143 173,134 170,146 164,144 171,142 156,153 167,120 173,137 167,137
160,141 160,141 165,129 162,121 166,118 154,122 180,128 171,120 165,126 155,127 164,132
154,125 178,129 154,125 157,125 156,140 149,133 156,121 139,123 173,131 174,125 167,129
170,122 183,122 174,120 173,122 174,122 173,123 172,110 168,122 185,123 185,122 187,126
182,130 178,134 173,130 178,136 182,132 175,136 181,120 168,136 176,140 176,137 179,139
208,124 195,124 208,124 180,110 173,117 173,117 185,110 181,120 189,126 202,122 198,140
189,145 184,144 184,148 184,145 181,146 181,151 180,143 185,151 176,151 172,148 180,148
135,127 132,128 135,127 132,126 130,134 138,128 132,127 129,126 132,126 130,128 134,127
166,139 174,122 164,128 175,142 175,141 164,129 167,125 174,141 170,135 164,144 173,146
"""


def open_yalefaces(options: DataOptions) -> Source:
    """Faces cut out of the photographs, 64x64 unless a size is asked for; the person is the label.

    A photograph that lies in the archive under two names is taken once. Of each person one shot is
    for test and one for validation, another one for every person in turn: held-out shots are of
    people who are seen in training.
    """
    shots = _read(data_home() / ARCHIVE)
    size = options.size or SIZE
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for number in sorted({whose for whose, _ in shots}):
        own = [k for k, (whose, _) in enumerate(shots) if whose == number]
        for k in own:
            turn = own.index(k) - number
            parts["test" if turn % len(own) == 0 else "validation" if turn % len(own) == 5 else "train"].append(k)
    x = resize(torch.from_numpy(np.stack(list(shots.values()))).unsqueeze(1), size)
    person = torch.tensor([whose - 1 for whose, _ in shots])
    attributes = {
        "expression": torch.tensor([EXPRESSIONS.index(shot) if shot in EXPRESSIONS else 0 for _, shot in shots]),
        "glasses": torch.tensor([int(shot == "glasses" or shot in WEARING.get(whose, ())) for whose, shot in shots]),
        "light": torch.tensor([LIGHTS.index(_light(shot)) for _, shot in shots]),
    }

    def split(part: str) -> TensorSplit:
        index = torch.tensor(parts[part], dtype=torch.int64)
        return TensorSplit(x[index], person[index], attributes={name: v[index] for name, v in attributes.items()})

    return Source(
        name="yalefaces" if size == SIZE else annotate("yalefaces", f"{size}x{size}"),
        domain=Grid(1, (size, size)),
        condition=Label(tuple(f"person {number}" for number in range(1, len(_centres()) + 1))),
        train=split("train"),
        validation=split("validation"),
        test=split("test"),
        attributes={"expression": EXPRESSIONS, "glasses": ("no", "yes"), "light": LIGHTS},
        licence="none stated; for research (Yale University)",
        citation="Belhumeur, Hespanha, Kriegman (1997). Eigenfaces vs. Fisherfaces. https://doi.org/10.1109/34.598228",
        notes="one shot of each person for test, one for validation",
    )


def _light(shot: str) -> str:
    return {"centerlight": "centre", "leftlight": "left", "rightlight": "right"}.get(shot, "room")


def _centres() -> list[dict[str, tuple[int, int]]]:
    """For each person: shot -> x and y of the face."""
    rows = [dict(zip(SHOTS, row.split(), strict=True)) for row in CENTRES.strip().splitlines()]
    return [
        {shot: (int(place.split(",")[0]), int(place.split(",")[1])) for shot, place in row.items() if place != "-"}
        for row in rows
    ]


def _read(path: Path) -> dict[tuple[int, str], np.ndarray]:
    """(person, shot) -> face ``(FACE, FACE)`` of bytes, person by person, each photograph once."""
    if not path.is_file():
        raise DataFormatError(
            f"yalefaces: no file {ARCHIVE} in {data_home()}; the set is for research and genus cannot fetch it: "
            "pack its GIF files (subject01.happy, ...) as that archive, and set GENUS_DATA to the folder around it."
        )
    contents = _members(path)
    faces: dict[tuple[int, str], np.ndarray] = {}
    seen: set[bytes] = set()
    for number, row in enumerate(_centres(), 1):
        for shot, (across, down) in row.items():
            name = f"subject{number:02d}.{shot}"
            if name not in contents:
                raise DataFormatError(f"{path}: holds no {name}; expected the 164 photographs of the set.")
            photograph = _decode(contents[name], f"{path}: {name}")
            if photograph.tobytes() not in seen:
                left, top = across - FACE // 2, down - FACE // 2
                faces[number, shot] = photograph[top : top + FACE, left : left + FACE]
            seen.add(photograph.tobytes())
    return faces


def _members(path: Path) -> dict[str, bytes]:
    """File name -> content of the photographs in the archive, with or without the ending .gif."""
    wanted = {f"subject{number:02d}.{shot}" for number, row in enumerate(_centres(), 1) for shot in row}

    def name_of(inside: str) -> str:
        return inside.rsplit("/", 1)[-1].removesuffix(".gif")

    found = members(path, lambda inside: name_of(inside) in wanted, largest=LARGEST)
    return {name_of(inside): content for inside, content in found}


def _decode(content: bytes, where: str) -> np.ndarray:
    """A photograph ``(243, 320)`` in grey."""
    try:
        with Image.open(io.BytesIO(content), formats=("GIF",)) as picture:
            if picture.size == PHOTOGRAPH:
                return np.asarray(picture.convert("L"))
            size = picture.size
    except Exception as error:  # decoders of foreign bytes may raise anything
        raise DataFormatError(f"{where}: not a readable GIF picture ({str(error)[:200]}).") from None
    raise DataFormatError(f"{where}: expected {PHOTOGRAPH[0]} x {PHOTOGRAPH[1]} pixels; got {size[0]} x {size[1]}.")
