"""Draw the portraits, and what each of them comes with: docs/pictures/portraits.png.

python examples/portraits.py
"""

import textwrap
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genus.data import captions
from genus.data.portraits import FRAMES, open_clips, open_portraits
from genus.geometry.faces import REGIONS

OUT = Path(__file__).parents[1] / "docs" / "pictures" / "portraits.png"
SIZE, COLUMNS, ROWS, GAP, FRAME = 96, 12, 2, 8, 72
SHOWN = (0, 17, 29)  # faces that are shown with all that they come with
CLIPS = 60
PALETTE = ["#c9ced8", "#edc29b", "#6b4630", "#ffffff", "#3a2418", "#17171c", "#c8404a", "#96704f", "#3f68bd", "#4f9660"]


def image(picture: Tensor, size: int) -> Image.Image:
    """A picture ``(3, H, W)`` or ``(1, H, W)`` at a size, its pixels as they are."""
    pixels = picture.expand(3, -1, -1).permute(1, 2, 0).contiguous()
    return Image.fromarray(pixels.numpy()).resize((size, size), Image.Resampling.NEAREST)


def main() -> None:
    """Write docs/pictures/portraits.png."""
    count, tints = COLUMNS * ROWS + SHOWN[-1], dict(enumerate(PALETTE))
    assert len(tints) == len(REGIONS)
    given = {what: open_portraits(SIZE, None, what, count).train for what in ("map", "outline", "lowres", "caption")}
    colours = torch.tensor([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in PALETTE], dtype=torch.uint8)
    x = given["map"].x
    wide = COLUMNS * SIZE
    middle = ROWS * SIZE + GAP
    bottom = middle + SIZE + 64
    sheet = Image.new("RGB", (wide, bottom + 2 * FRAME + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    others = [item for item in range(count) if item not in SHOWN][: COLUMNS * ROWS]
    for place, item in enumerate(others):
        sheet.paste(image(x[item], SIZE), (place % COLUMNS * SIZE, place // COLUMNS * SIZE))

    for place, item in enumerate(SHOWN):
        left = place * wide // len(SHOWN)
        region = colours[given["map"].condition[item, 0].long()].permute(2, 0, 1)
        parts = (x[item], region, given["outline"].condition[item] * 255, given["lowres"].condition[item])
        for k, part in enumerate(parts):
            sheet.paste(image(part, SIZE), (left + k * SIZE, middle))
        text = captions.texts(given["caption"].condition[item : item + 1])[0]
        draw.text((left + 2, middle + SIZE + 4), textwrap.fill(text, 62), "#222222", font)

    clips = open_clips(FRAME, None, CLIPS).train
    for place in range(4):
        clip = clips.x[(clips.condition == place).nonzero()[1, 0]]
        for k in range(FRAMES):
            at = place % 2 * (wide + GAP) // 2 + k * FRAME, bottom + place // 2 * (FRAME + GAP)
            sheet.paste(image(clip[:, k], FRAME), at)
    OUT.parent.mkdir(exist_ok=True)
    sheet.save(OUT, optimize=True)
    print(f"{OUT.name}: {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
