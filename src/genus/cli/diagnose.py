"""genus diagnose RUN"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genus.cli import flags
from genus.errors import SettingsError

if TYPE_CHECKING:
    from genus.contract import Split
    from genus.evaluate.diagnose import Diagnosis
    from genus.runs import Run

DENSITIES = 64  # items whose density is estimated along the flow, which takes some 160 network calls each

ABOUT = """What the bound of a latent-variable model hides: whether its latents tell anything, and how far the bound is
from log p(x). For diffusion models: what each sampler gives for how many network calls.

examples:
  genus diagnose runs/vae-digits-...                 numbers, curves, reconstructions
  genus diagnose runs/vae-digits-... --samples 4096  a bound of 4096 draws, beside plain Monte Carlo
  genus diagnose --curse --out curse.png             why plain Monte Carlo from the prior fails
  genus diagnose runs/ddpm-... --calls 5 20 100      Fréchet distance of every sampler with so many network calls
  genus diagnose runs/ddpm-... --full --items 1000   beside the ancestral sampler with all steps

The numbers go to RUN/diagnosis.json (RUN/samplers.json), the pictures to RUN/explore/; the run's report shows both."""


@dataclasses.dataclass
class DiagnoseFlags:
    """What to look at, and how closely."""

    run: tyro.conf.Positional[Path | None] = None
    """The run folder (none with --curse)."""
    items: int = 500
    """Items that are looked at; information cannot exceed the logarithm of their number."""
    samples: int = 128
    """Draws of the latents an item, rounded down to a power of two."""
    split: Literal["test", "validation", "train"] = "test"
    """Whose items."""
    seed: int = 0
    """The result is a function of it."""
    curse: bool = False
    """Instead of a run: the error of plain Monte Carlo by draws and latents, where log p(x) is known."""
    calls: tuple[int, ...] = (5, 10, 20, 50)
    """Of diffusion models: network calls that a sample may take."""
    full: bool = False
    """Also the ancestral sampler with every step that the model has."""
    batch_size: int = 128
    """Samples that are drawn together."""
    out: Path | None = None
    """Where to write the picture (default RUN/explore/diagnosis.png, or runs/curse.png)."""


def main(arguments: list[str]) -> int:
    """Print the numbers and the warnings; write JSON and pictures."""
    chosen = flags.parse(DiagnoseFlags, arguments or ["--help"], "genus diagnose", ABOUT)
    if chosen.curse == (chosen.run is not None):
        raise SettingsError("expected the path of a run folder, or --curse without one.")
    if chosen.out is not None:
        chosen.out = flags.file_named(chosen.out, (".png", ".svg") if chosen.curse else (".png",))
    return _curse(chosen) if chosen.curse else _run(chosen)


def _run(chosen: DiagnoseFlags) -> int:
    from genus.drawing import png_of
    from genus.evaluate.diagnose import diagnose
    from genus.models.diffusion._diffusion import GaussianDiffusion
    from genus.report.diagnosis import ROWS, picture, plots, reconstructions

    assert chosen.run is not None
    run = flags.opened(chosen.run)
    split = run.source.splits[chosen.split]
    if isinstance(run.model, GaussianDiffusion):
        return _samplers(chosen, run, split)
    told = diagnose(run.model, split, items=chosen.items, samples=chosen.samples, seed=chosen.seed)
    console = Console(highlight=False)
    console.print(Text(f"{run.config.model} on {run.source.name}: {told.items:,} items of the {chosen.split} split, "
                       f"latents: {told.latents}\n", style="bold"))  # fmt: skip
    _show(console, told)
    out = chosen.out or run.path / "explore" / "diagnosis.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = run.path / "diagnosis.json"
    kept.write_text(json.dumps({"split": chosen.split, **told.to_json()}, indent=1, allow_nan=False), encoding="utf-8")
    paths = [kept]
    if (drawn := plots(told)) is not None:
        out.write_bytes(png_of(drawn))
        paths.append(out)
    paths.append(out.with_name(f"{out.stem}-reconstructions.png"))
    paths[-1].write_bytes(picture(reconstructions(run.model, split, seed=chosen.seed), run.domain))
    for path in paths:
        print(path)
    print(f"rows: {'; '.join(ROWS)}")
    return 0


def _samplers(chosen: DiagnoseFlags, run: "Run", split: "Split") -> int:
    from genus.drawing import png_of
    from genus.evaluate.fidelity import Estimate
    from genus.evaluate.samplers import densities, sampler_curves
    from genus.models.diffusion._diffusion import GaussianDiffusion
    from genus.report.diagnosis import with_error
    from genus.report.noise import curves_plot
    from genus.report.write import SAMPLERS

    assert isinstance(run.model, GaussianDiffusion)
    console = Console(highlight=False)
    items = min(chosen.items, len(split))
    console.print(Text(f"{run.config.model} on {run.source.name}: {items:,} samples for each row", style="bold"))
    found = sampler_curves(
        run.model, run.source, split, calls=chosen.calls, full=chosen.full, items=items, seed=chosen.seed,
        batch_size=chosen.batch_size,
    )  # fmt: skip
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("sampler")
    for name in ("network calls", "Fréchet distance", "seconds"):
        table.add_column(name, justify="right")
    table.add_row(Text("training items", style="dim"), "", with_error(Estimate(found.floor, found.stderr), 3), "")
    for point in found.points:
        distance = with_error(Estimate(point.distance, point.stderr), 3)
        table.add_row(point.sampler, str(point.calls), distance, f"{point.seconds:.1f}")
    console.print(table)
    kept, out = run.path / SAMPLERS, chosen.out or run.path / "explore" / "samplers.png"
    kept.write_text(json.dumps(found.to_json(), indent=1, allow_nan=False), encoding="utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(png_of(curves_plot(found)))
    told = densities(run.model, split, items=min(items, DENSITIES), seed=chosen.seed)
    console.print(f"\n-log p(x) of {told.items} items, {told.unit}:")
    if told.bound is not None:
        console.print(f"  ≤ {with_error(told.bound, 3)}  the bound")
    leaves = "" if told.noise is None else f"; its random signs leave ± {told.noise:.3f} of that"
    console.print(f"  ~ {with_error(told.flow, 3)}  along the probability flow{leaves}")
    for path in (kept, out):
        print(path)
    return 0


def _show(console: Console, told: "Diagnosis") -> None:
    """Numbers, curves, notes and warnings."""
    from genus.report.diagnosis import facts, with_error

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for what, number, meaning in facts(told):
        table.add_row(Text(what), Text(number), Text(meaning, style="dim"))
    if told.kl_each is not None:
        most = sorted(told.kl_each, reverse=True)
        text = " ".join(f"{value:.2f}" for value in most[:32]) + (" ..." if len(most) > 32 else "")
        table.add_row(Text("KL of each latent"), Text(text), Text("nats, the largest first", style="dim"))
    console.print(table)
    if told.bound:
        curves = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("log p(x) by K draws", "from q(z|x): a bound", "effective", "from p(z): plain", "effective"):
            curves.add_column(Text(name), justify="right")
        for bound, prior in zip(told.bound, told.prior, strict=True):
            curves.add_row(str(bound.draws), with_error(bound.nats), f"{bound.effective:.1f}", with_error(prior.nats),
                           f"{prior.effective:.1f}")  # fmt: skip
        console.print()
        console.print(curves)
    if told.exact is None and told.exact_how:
        console.print(Text(f"exact log p(x): {told.exact_how}", style="dim"))
    console.print()
    for note in told.notes:
        console.print(Text(note, style="dim"))
    for symptom in told.symptoms:
        console.print(Text(f"warning: {symptom}\n", style="yellow"))


def _curse(chosen: DiagnoseFlags) -> int:
    from genus.drawing import png_of
    from genus.evaluate.curse import curse
    from genus.report.diagnosis import curse_plot
    from genus.report.plots import svg_of

    found = curse(seed=chosen.seed)
    console = Console(highlight=False)
    console.print("nats missing to log p(x) with K draws from the prior p, from an encoder q\n")
    table = Table(box=None, pad_edge=False)
    shown = range(0, len(found.draws), 4)
    for name in ("latents", *(f"{distribution} {found.draws[n]}" for distribution in "pq" for n in shown)):
        table.add_column(name, justify="right", no_wrap=True)
    for latents, prior, posterior in zip(found.latents, found.prior, found.posterior, strict=True):
        cells = (f"{round(errors[n].value, 2) + 0.0:.2f}" for errors in (prior, posterior) for n in shown)
        table.add_row(str(latents), *cells)
    console.print(table)
    path = chosen.out or Path("runs") / "curse.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = curse_plot(found)
    path.write_bytes(svg_of(drawn) if path.suffix == ".svg" else png_of(drawn))
    print(path)
    return 0
