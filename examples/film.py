"""Film strips of a diffusion run as one picture: data drowned, noise walked back, what the model takes it for.

python examples/film.py RUN PICTURE.png
"""

import io
import sys
from pathlib import Path

from PIL import Image

from genus.report.noise import film_of, strip_picture
from genus.runs import open_run


def main() -> int:
    """Write the picture."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    run = open_run(sys.argv[1])
    film = film_of(run.model, run.source.test)
    if film is None or film.forward is None:
        raise SystemExit(f"{sys.argv[1]}: {run.config.model} has no way from noise to data that can be drawn.")
    strips = [strip for strip in (film.forward, film.backward, film.guesses) if strip is not None]
    rows = [Image.open(io.BytesIO(strip_picture(strip, run.domain))).convert("RGB") for strip in strips]
    width, gap = max(row.width for row in rows), 8
    page = Image.new("RGB", (width, sum(row.height + gap for row in rows) - gap), "white")
    place = 0
    for row in rows:
        page.paste(row, (0, place))
        place += row.height + gap
    page.save(Path(sys.argv[2]), optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
