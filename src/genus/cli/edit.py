"""genus edit RUN"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from genus.cli import flags
from genus.cli.exploring import Whose
from genus.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from genus.runs import Run

ABOUT = """Real data, changed: moved along named directions in the latents of a run, or completed from a part.

examples:
  genus edit runs/vae-yalefaces-... --move expression=happy --scale 0.5 1 1.5     smile, more and more
  genus edit runs/vae-yalefaces-... --move expression=happy-neutral glasses=yes   moves add up
  genus edit runs/vae-mnist-... --move label=9-7 --items 4 8                      from a 7 to a 9
  genus edit runs/vae-... --move pca-1:2 latent-7:-3 --picture me.jpg             your own picture
  genus edit runs/vae-... --label 0 1 2 3 4 5 6 7 8 9                             conditional: another label
  genus edit runs/gated_pixelcnn-...                       completion: the upper halves of random test items
  genus edit runs/deep_nade-... --keep border --share 0.7  all but 30 % of the area, in the middle
  genus edit runs/ddpm-... --keep mask.png --items 3 17    where the picture mask.png is light
  genus edit runs/wavenet-... --keep first --share 0.25    the first quarter of a sound or sequence

With --move or --label (models with latents), a row for each item: the item, its reconstruction, then one picture
for each scale (and label): decode(encode(item) + scale * moves).

Else (models that complete), a row for each item: the item, what is kept (the rest in grey), then completions. What
is kept comes back bit for bit. Which models can do what: genus models; what a completion knows of what is kept:
docs/editing.md."""

SHARE, COUNT = 0.5, 6


@dataclasses.dataclass
class EditFlags(Whose):
    """What to change, and of which data."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    move: tuple[str, ...] = ()
    """NAME=VALUE: from the mean of all others to the mean of a group of the training data; NAME=ONE-OTHER: from OTHER
    to ONE; pca-1, latent-7: one standard deviation along a principal direction or a latent. With :SCALE behind it, so
    much of it. Several add up."""
    scale: tuple[float, ...] = ()
    """How much of all moves together; a picture each (default: 1)."""
    label: tuple[str, ...] = ()
    """Labels to decode with instead of the item's own, of conditional runs; a picture each."""
    keep: str | None = None
    """top, bottom, left, right, centre, border; box=TOP,LEFT,BOTTOM,RIGHT in pixels; a picture (light: kept); first,
    last: of anything. By default top for pictures, first for others."""
    share: float = SHARE
    """How much of a datum that is; for centre and border, of its area."""
    count: int = COUNT
    """How many completions of each."""


def main(arguments: list[str]) -> int:
    """Write the picture and print its path."""
    chosen = flags.parse(EditFlags, arguments or ["--help"], "genus edit", ABOUT)
    moves = bool(chosen.move or chosen.label or chosen.scale)
    completes = chosen.keep is not None or chosen.share != SHARE or chosen.count != COUNT
    if moves and completes:
        raise SettingsError(
            "--move, --scale and --label go through the latents; --keep, --share and --count complete what is kept: "
            "give flags of one kind."
        )
    if chosen.scale and not chosen.move:
        raise SettingsError("--scale: how much of the moves; expected --move, too.")

    from genus.cli.exploring import opened
    from genus.contract import HasLatents, IsEditable, name_of

    run = opened(chosen.run, chosen.out)
    if not (moves or completes) and isinstance(run.model, HasLatents) and not isinstance(run.model, IsEditable):
        raise SettingsError(
            f"{name_of(run.model)} does not complete data, it moves them in its latents: give --move (or --label, if "
            "it was trained with --conditional)."
        )
    return _move(run, chosen) if moves else _complete(run, chosen)


# -- moves ------------------------------------------------------------------------------


def _move(run: "Run", chosen: EditFlags) -> int:
    """Rows of the item, its reconstruction, and what becomes of it."""
    import torch

    from genus.cli.exploring import chosen_data, labels, write
    from genus.contract import HasLatents, require
    from genus.explore import decode, displacement, encode, shift

    require(run.model, HasLatents, "encode")
    x, own, what = chosen_data(run, chosen)
    z = encode(run.model, x, own)
    conditions = [labels(run, name, len(x), "--label") if name else own for name in chosen.label or ("",)]
    scales = chosen.scale or (1.0,)
    move, sentences = torch.zeros(z.shape[1:]), tuple[str, ...]()
    if chosen.move:
        move, sentences = displacement(chosen.move, run.model, run.source)
    moved = [shift(run.model, z, move, scales, condition) for condition in conditions]
    rows = torch.cat([x.unsqueeze(1), decode(run.model, z, own).cpu().unsqueeze(1), *(part.cpu() for part in moved)], 1)

    for sentence in sentences:
        print(sentence)
    print(f"rows: {what}")
    made = [f"label {name}" for name in chosen.label] or [f"scale {scale:g}" for scale in scales]
    if chosen.label and chosen.move:
        made = [f"{name} at scale {scale:g}" for name in made for scale in scales]
    print(f"columns: originals, reconstructions, {', '.join(made)}")
    words = "-".join((*chosen.move, *chosen.label))[:80]
    write(run, rows, chosen.out, f"edit-{words}-{chosen.which()}")
    return 0


# -- completion -------------------------------------------------------------------------


def _complete(run: "Run", chosen: EditFlags) -> int:
    """Rows of the item, what is kept of it, and its completions."""
    import torch

    from genus.cli.exploring import chosen_data
    from genus.contract import IsEditable, require
    from genus.explore import complete, keep_mask
    from genus.prob import noise

    require(run.model, IsEditable, "edit")
    part = chosen.keep or ("top" if run.domain.is_picture else "first")
    keep = keep_mask(run.domain, part, chosen.share)
    x, condition, what = chosen_data(run, chosen)
    with torch.inference_mode():
        generator = noise.stream(chosen.seed, "edit")
        done = complete(run.model, x, keep, chosen.count, condition=condition, generator=generator).cpu()
    print(f"rows: {what}; kept: {int(keep.sum())} of {keep.numel()} entries")
    name = Path(part).stem if Path(part).is_file() else part
    _write(run, x, keep, done, chosen.out, f"edit-{name}-{chosen.which()}")
    return 0


def _write(run: "Run", x: "Tensor", keep: "Tensor", done: "Tensor", out: Path | None, name: str) -> None:
    """Rows of the item, what is kept of it, its completions; without the second in arrays, and where nothing can be
    greyed."""
    import torch

    from genus.cli.exploring import write
    from genus.explore.completion import with_grey

    if not run.domain.on_grid or (out is not None and out.suffix.lower() == ".npz"):
        write(run, torch.cat([x.unsqueeze(1), done], 1), out, name)
        return
    shown, kept, domain = with_grey(x, keep, run.domain)
    completions = with_grey(done.flatten(0, 1), keep, run.domain)[0].unflatten(0, done.shape[:2])
    write(run, torch.cat([shown.unsqueeze(1), kept.unsqueeze(1), completions], 1), out, name, domain)
