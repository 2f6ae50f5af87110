"""The gallery: train models for a few minutes each, draw pictures of what they can do, write docs/gallery.md.

    python examples/gallery.py --minutes 5                  all of it
    python examples/gallery.py --minutes 1 --only faces     the pictures whose name holds a word

A call again goes on where the last one stopped: runs lie under runs/gallery, and a finished one is only
drawn. A run keeps the budget that it began with. Models and data that are not there are skipped.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genus import registry
from genus.data import list_sources
from genus.errors import GenusError
from genus.explore import (
    add,
    complete,
    decode,
    difference,
    directions,
    encode,
    interpolate,
    keep_mask,
    members,
    plane,
    quantiles,
    reconstruct,
    sweep,
    traverse,
)
from genus.explore.completion import with_grey
from genus.kinds import Domain, Grid
from genus.prob import noise
from genus.report.pictures import sheet
from genus.runs import Run, open_run
from genus.runs.stages import StagedRun
from genus.training import configure, train
from genus.training.signals import Interrupted

LARGEST = 150_000  # bytes of a picture
MNIST = Grid(1, (28, 28))
BINARY = {"binarize": "dynamic"}
FACES = ("realnvp", "glow", "vae")
CODES = ("vqvae", "vqvae2")  # whose own samples, of uniform codes, look like nothing
LETTERS = {"conditional": True, "latent_features": 6, "beta": 2.0, "kl_warmup": 0.25}
FEW_FACES = {"size": 64, "latent_features": 48, "hidden": (512,), "scale": "shared", "kl_warmup": 0.3,
             "weight_decay": 0.1, "batch_size": 32}  # fmt: skip
STYLE = {"conditional": True, "latent_features": 2, "hidden": (400, 400), "kl_warmup": 0.25}


@dataclass(frozen=True)
class Picture:
    """A picture of the gallery: its file name, the run it is of, how it is drawn, and what stands under it."""

    name: str
    model: str
    data: str
    draw: Callable[[Run], bytes]
    caption: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Of the run; pictures of one model on the same data share it."""
        return "-".join([self.model, self.data, *(f"{key}-{value}" for key, value in self.options.items())])


def main() -> int:
    """Train, draw, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of training for each model (default: 5)")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="pictures whose name holds one of these")
    parser.add_argument("--runs", type=Path, default=Path("runs/gallery"), help="where the runs lie")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="where gallery.md and pictures/ go")
    chosen = parser.parse_args()
    pictures = list(gallery())
    wanted = [p for p in pictures if not chosen.only or any(word in p.name for word in chosen.only)]
    if not wanted:
        parser.error(f"--only: no such picture; expected part of one of {', '.join(p.name for p in pictures)}.")
    failed = 0
    for picture in wanted:
        began = time.monotonic()
        try:
            content = picture.draw(trained(picture, chosen.runs, chosen.minutes))
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            return stop.exit_code
        except (GenusError, ValueError, OSError) as error:  # one picture less; the others are drawn
            failed += 1
            print(f"{picture.name}: left out: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            continue
        path = chosen.out / "pictures" / f"{picture.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"{path}  {len(content) / 1000:.0f} kB, {time.monotonic() - began:.0f} s", flush=True)
    print(write_page(pictures, chosen.out, chosen.runs))
    return 1 if failed else 0


def trained(picture: Picture, runs: Path, minutes: float) -> Run:
    """The picture's run: trained, resumed with the budget that it began with, or found finished."""
    folder = runs / picture.folder
    if (folder / "config.json").exists():
        return train(open_run(folder).config, folder)
    return train(configure(picture.model, picture.data, minutes=minutes, **picture.options), folder)


def write_page(pictures: list[Picture], out: Path, runs: Path) -> Path:
    """docs/gallery.md: the pictures that are there, each with what it shows and how it was trained."""
    there = [p for p in pictures if (out / "pictures" / f"{p.name}.png").exists()]
    entries = [
        f"## {p.name}\n\n{p.caption}{training(runs / p.folder)}\n\n![{p.name}](pictures/{p.name}.png)\n" for p in there
    ]
    head = (
        "# Gallery\n\nDrawn by `python examples/gallery.py`, which trains each model for minutes and takes runs that "
        "are there as they are: the recipe and the steps stand beside each picture. A short training shows what "
        "minutes give, not the best that a model can do.\n"
    )
    page = out / "gallery.md"
    page.write_text("\n".join([head, *entries]), encoding="utf-8")
    return page


def training(folder: Path) -> str:
    """How a run was trained, as a sentence; nothing where it is not here."""
    if not (folder / "config.json").exists():
        return ""
    run = open_run(folder)
    if isinstance(run, StagedRun):
        return f" {told(run.first)} {told(run.second)}"
    return f" {told(run)}"


def told(run: Run) -> str:
    """The recipe and the steps of one training."""
    steps = run.state["step"]
    return f"Recipe `{run.config.recipe_name}`, {steps:,} steps." if steps > 1 else "Fitted in one pass."


# -- what is in it ----------------------------------------------------------------------


def gallery() -> Iterator[Picture]:
    """Every picture whose model and data are known here."""
    known = {source.name for source in list_sources()}
    for picture in everything():
        if set(picture.model.split("+")) <= set(registry.names()) and picture.data in known:
            yield picture


def everything() -> Iterator[Picture]:
    """All pictures that there could be."""
    for model in registry.names():
        binary = registry.family(model) == "autoregressive"  # as their papers do, and minutes get farther
        if model not in CODES and registry.get(model).refuses(replace(MNIST, levels=2) if binary else MNIST) is None:
            said = f"Samples of {model}, trained on {'dynamically binarized ' if binary else ''}MNIST."
            yield Picture(f"samples-{model}", model, "mnist", samples, said, BINARY if binary else {})
    for model in ("gated_pixelcnn", "deep_nade", "wavenet"):
        data, part, options = ("tones", "first", {}) if model == "wavenet" else ("mnist", "top", BINARY)
        said = f"{model}: a test item, what is kept of it, and six ways to complete it."
        yield Picture(f"completions-{model}", model, data, completions(part), said, options)
    for model in ("glow", "realnvp"):
        for data in ("mnist", "glyphs"):
            said = f"{model}: from one test item to another, through the latents, on an arc."
            yield Picture(f"interpolations-{model}-{data}", model, data, interpolations, said)
        said = f"{model} on letters: test items above; below, more and more of (bold - regular) is added."
        yield Picture(f"bold-{model}", model, "glyphs", sums("weight=regular", "weight=bold"), said)
    yield from two_stages()
    yield from of_latents()
    yield Picture(
        "traversal-vae", "vae", "mnist", traversal, "vae: its eight most active latents, from -3 to +3 deviations."
    )
    for model in FACES:
        for name, plus, minus in (
            ("smile", "expression=happy", "expression=neutral,light=room"),
            ("glasses", "glasses=yes", "glasses=no,expression=neutral"),
        ):
            said = f"{model} on the Yale faces: test items above; below, more and more of the {name} is added."
            yield Picture(
                f"faces-{name}-{model}",
                model,
                "yalefaces",
                sums(minus, plus),
                said,
                FEW_FACES if model == "vae" else {"size": 32},
            )
    for data in ("tones", "fsdd"):
        yield Picture(f"sounds-wavenet-{data}", "wavenet", data, sounds, f"wavenet on {data}: sounds that it made up.")


def two_stages() -> Iterator[Picture]:
    """Models of codes, and what they are codes of."""
    said = "vqvae+gated_pixelcnn: samples; 7x7 codes of a VQ-VAE, and a gated PixelCNN of the codes."
    yield Picture("samples-vqvae-gated_pixelcnn", "vqvae+gated_pixelcnn", "mnist", typical, said)
    said = "vqvae2+multiscale_pixelcnn: samples of letters, 64x64 in colour; codes on two grids, coarse and fine."
    pyramid = {"size": 64, "colour": "rgb"}
    yield Picture("samples-vqvae2-multiscale_pixelcnn", "vqvae2+multiscale_pixelcnn", "glyphs", typical, said, pyramid)
    said = "vqvae2: test items, and what their codes keep of them."
    yield Picture("reconstructions-vqvae2", "vqvae2+multiscale_pixelcnn", "glyphs", reconstructions, said, pyramid)
    for model in ("ppca", "autoencoder", "vae"):
        said = f"{model}: test items, and what their latents keep of them."
        yield Picture(f"reconstructions-{model}", model, "mnist", reconstructions, said)


def of_latents() -> Iterator[Picture]:
    """What moving in the latents of a VAE does."""
    said = "vae with two latents, not told the digits: the whole latent space, in steps of equal probability."
    two = {key: value for key, value in STYLE.items() if key != "conditional"}
    yield Picture("plane-vae", "vae", "mnist", latent_plane, said, two)
    said = "vae with two latents, told the digits: a test item, then its handwriting in each of the ten digits."
    yield Picture("style-vae", "vae", "mnist", other_labels, said, STYLE)
    said = "vae: test sevens above; below, more and more of (nine - seven) is added."
    yield Picture("sevens-to-nines-vae", "vae", "mnist", sums("label=7", "label=9"), said)
    said = "vae told the letters: each latent swept through the range of its prior; what is left is style."
    yield Picture("sweeps-vae", "vae", "glyphs", sweeps, said, LETTERS)


# -- how it is drawn --------------------------------------------------------------------


def small(rows: Tensor, domain: Domain) -> bytes:
    """Rows ``(rows, columns, *shape)`` as one picture that is small enough for a page."""
    for width in (880, 660, 440, 220):
        content = sheet(rows.flatten(0, 1).cpu(), domain, columns=rows.shape[1], width=width)
        if len(content) <= LARGEST:
            break
    return content


def some(run: Run, count: int) -> Tensor:
    """``count`` random test items."""
    split = run.source.test
    return split.batch(noise.permutation(len(split), noise.stream("gallery"))[:count]).x


def samples(run: Run) -> bytes:
    """Two rows of samples."""
    return small(run.sample(20, seed=1).unflatten(0, (2, 10)), run.domain)


def sounds(run: Run) -> bytes:
    """A column of samples."""
    return small(run.sample(4, seed=1).unsqueeze(1), run.domain)


def completions(part: str) -> Callable[[Run], bytes]:
    """Items, what is kept, completions."""

    def draw(run: Run) -> bytes:
        x, keep = some(run, 6), keep_mask(run.domain, part)
        with torch.inference_mode():
            done = complete(run.model, x, keep, 6, generator=noise.stream("gallery", "completions"))
        if not isinstance(run.domain, Grid):
            return small(torch.cat([x[:2, None], done[:2, :3]], 1), run.domain)
        shown, kept, domain = with_grey(x, keep, run.domain)
        filled = with_grey(done.flatten(0, 1), keep, run.domain)[0].unflatten(0, done.shape[:2])
        return small(torch.cat([shown[:, None], kept[:, None], filled], 1), domain)

    return draw


def interpolations(run: Run) -> bytes:
    """Six pairs."""
    x = some(run, 12)
    rows = interpolate(run.model, x[:6], x[6:], 10)
    rows[:, 0], rows[:, -1] = x[:6], x[6:]
    return small(rows, run.domain)


def traversal(run: Run) -> bytes:
    """The most active latents, from the mean of all."""
    z = encode(run.model, run.source.train.batch(torch.arange(1000)).x)
    along = directions(z, 8)
    return small(traverse(run.model, along.centre.view(z.shape[1:]).to(z.dtype), along, 9), run.domain)


def typical(run: Run) -> bytes:
    """Two rows of samples, each entry's most typical value."""
    return small(run.sample(20, seed=1, pixels="mode").unflatten(0, (2, 10)), run.domain)


def reconstructions(run: Run) -> bytes:
    """Items, and below them what the latents keep."""
    x = some(run, 10)
    return small(torch.stack([x, reconstruct(run.model, x).cpu()]), run.domain)


def labelled(run: Run) -> tuple[Tensor, Tensor | None]:
    """A thousand training items, with their labels if the run has them."""
    x, condition, _ = run.source.train.batch(torch.arange(1000))
    return x, None if run.condition is None else condition


def latent_plane(run: Run) -> bytes:
    """The plane of two latents."""
    z = encode(run.model, *labelled(run))
    along = directions(z, 2)
    return small(plane(run.model, along.centre.to(z.dtype), along, quantiles(run.model, z, along, 15)[0]), run.domain)


def other_labels(run: Run) -> bytes:
    """Six items, and each decoded with all labels."""
    index = noise.permutation(len(run.source.test), noise.stream("gallery"))[:6]
    x, condition, _ = run.source.test.batch(index)
    z, classes = encode(run.model, x, condition), torch.arange(10)
    others = decode(run.model, z.repeat_interleave(10, 0), classes.repeat(6)).unflatten(0, (6, 10))
    return small(torch.cat([x.unsqueeze(1), others.cpu()], 1), run.domain)


def sweeps(run: Run) -> bytes:
    """Each latent of a letter R through the range of its prior."""
    x, condition = labelled(run)
    assert condition is not None
    z, letter = encode(run.model, x, condition), torch.tensor(17)
    along = directions(z, 6)
    to, _ = quantiles(run.model, z, along, 9)
    return small(sweep(run.model, z[condition == letter][0], along, to, condition=letter), run.domain)


def sums(minus: str, plus: str) -> Callable[[Run], bytes]:
    """Test items of a group, and the same with the difference of two groups added."""

    def draw(run: Run) -> bytes:
        source = run.source
        means = [
            encode(run.model, source.train.batch(members(words, source, source.train)[:1000]).x)
            for words in (minus, plus)
        ]
        x = source.test.batch(members(minus.split(",")[0], source, source.test, fewest=1)[:8]).x
        moved = add(run.model, x, difference(*means), (0.5, 1.0, 1.5))
        return small(torch.cat([x[None], moved.transpose(0, 1)]), run.domain)

    return draw


if __name__ == "__main__":
    sys.exit(main())
