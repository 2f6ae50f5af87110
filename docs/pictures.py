"""Draw the README's picture from the runs of ``make demo``: samples of every species."""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import genus
from genus.report.pictures import sheet

RUNS = Path("runs/demo")
OUT = Path(__file__).parent / "pictures" / "demo.png"
CAPTIONS = {"nade": "autoregressive", "vae": "latent-variable", "realnvp": "normalizing flow", "ddpm": "diffusion",
            "dcgan": "adversarial"}  # fmt: skip


def picture(path: Path, count: int, columns: int) -> np.ndarray:
    """Samples of a run as an RGB array."""
    run = genus.load(path)
    return np.asarray(
        Image.open(io.BytesIO(sheet(run.sample(count, seed=1), run.domain, columns=columns))).convert("RGB")
    )


def main() -> None:
    """Write docs/pictures/demo.png."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, len(CAPTIONS), height_ratios=(1, 1.05))
    for place, (name, family) in enumerate(CAPTIONS.items()):
        axis = figure.add_subplot(grid[0, place])
        axis.imshow(picture(RUNS / "digits" / f"{name}-0", 16, 4))
        axis.set_title(f"{name}\n{family}", fontsize=10)
        axis.axis("off")
    axis = figure.add_subplot(grid[1, :])
    axis.imshow(picture(RUNS / "furniture" / "point_diffusion-0", 16, 8))
    axis.set_title("point_diffusion: chairs, tables, lamps, shelves", fontsize=10)
    axis.axis("off")
    OUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUT, dpi=110)


if __name__ == "__main__":
    main()
