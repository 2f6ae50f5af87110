"""genus edit RUN"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from genus.cli import flags

if TYPE_CHECKING:
    from torch import Tensor

    from genus.training import Run

ABOUT = """Completion: keep a part of a datum, let the model draw the rest.

examples:
  genus edit runs/gated_pixelcnn-...                       the upper halves of eight random test items
  genus edit runs/deep_nade-... --keep border --share 0.7  all but 30 % of the area, in the middle
  genus edit runs/ddpm-... --keep mask.png --items 3 17    where the picture mask.png is light
  genus edit runs/wavenet-... --keep first --share 0.25    the first quarter of a sound or sequence

A row for each item: the item, what is kept (the rest in grey), then completions. What is kept comes back bit for
bit. Which models can do it: genus models; what a completion knows of what is kept: docs/editing.md."""


@dataclasses.dataclass
class EditFlags:
    """What to keep, and of which items."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    keep: str | None = None
    """top, bottom, left, right, centre, border; box=TOP,LEFT,BOTTOM,RIGHT in pixels; a picture (light: kept); first,
    last: of anything. By default top for pictures, first for others."""
    share: float = 0.5
    """How much of a datum that is; for centre and border, of its area."""
    items: tuple[int, ...] = ()
    """Test items (default: random ones)."""
    rows: int = 8
    """How many items, if none are given."""
    count: int = 6
    """How many completions of each."""
    seed: int = 0
    """Which random items, and which completions."""
    out: Path | None = None
    """The picture to write (default: in RUN/explore)."""


def main(arguments: list[str]) -> int:
    """Write the picture and print its path."""
    chosen = flags.parse(EditFlags, arguments or ["--help"], "genus edit", ABOUT)

    import torch

    from genus.cli.exploring import data, items, listed
    from genus.contract import IsEditable, require
    from genus.domain import Grid
    from genus.explore import complete, keep_mask
    from genus.prob import noise
    from genus.training import Run

    run = Run(chosen.run)
    require(run.model, IsEditable, "edit")
    picture = isinstance(run.domain, Grid) and len(run.domain.size) == 2
    part = chosen.keep or ("top" if picture else "first")
    keep = keep_mask(run.domain, part, chosen.share)
    index = items(run, chosen.items, chosen.rows, chosen.seed)
    x, condition = data(run, index)
    with torch.inference_mode():
        generator = noise.stream(chosen.seed, "edit")
        done = complete(run.model, x, keep, chosen.count, condition=condition, generator=generator).cpu()
    print(f"rows: test items {listed(index)}; kept: {int(keep.sum())} of {keep.numel()} entries")
    which = "-".join(map(str, chosen.items[:8])) or f"seed-{chosen.seed}"
    name = Path(part).stem if Path(part).is_file() else part
    _write(run, x, keep, done, chosen.out, f"edit-{name}-{which}")
    return 0


def _write(run: "Run", x: "Tensor", keep: "Tensor", done: "Tensor", out: Path | None, name: str) -> None:
    """Rows of the item, what is kept of it, its completions; where nothing can be greyed, without the second."""
    import torch

    from genus.cli.exploring import write
    from genus.domain import Grid
    from genus.explore.completion import with_grey

    if not isinstance(run.domain, Grid):
        write(run, torch.cat([x.unsqueeze(1), done], 1), out, name)
        return
    shown, kept, domain = with_grey(x, keep, run.domain)
    completions = with_grey(done.flatten(0, 1), keep, run.domain)[0].unflatten(0, done.shape[:2])
    write(run, torch.cat([shown.unsqueeze(1), kept.unsqueeze(1), completions], 1), out, name, domain)
