"""genus compare --data SOURCE --models a,b,c --minutes 2"""

import dataclasses
from pathlib import Path

from rich.console import Console

from genus.cli import flags


@dataclasses.dataclass
class CompareFlags:
    """What to compare, and the budget."""

    data: str
    """A named source, or the path of a file or folder."""
    models: str
    """Registry names, separated by commas."""
    minutes: float | None = None
    """Training time of each model on this machine."""
    steps: int | None = None
    """Training steps of each model, instead of minutes."""
    seeds: int = 1
    """Train each model with so many seeds."""
    num_samples: int = 1
    """Draws per item that a bound averages over."""
    count: int | None = None
    """Samples and real items compared in the sample metrics."""
    out: Path | None = None
    """The folder to write to (default runs/compare-DATA)."""
    quiet: bool = False
    """Show no progress."""


def main(arguments: list[str]) -> int:
    """Train, score, and write one page."""
    from genus.data import DataOptions

    data = flags.optional("Data", "Options of the data source.", flags.fields_of(DataOptions), {})
    about = "Train and score several models under one written budget, and rank them honestly."
    chosen = flags.parse(flags.joined(basic=CompareFlags, data=data), arguments, "genus compare", about)

    from genus.compare import compare
    from genus.evaluate import merge
    from genus.report.summary import summary

    settings = dataclasses.asdict(chosen.basic)
    source, models, out = settings.pop("data"), settings.pop("models").split(","), settings.pop("out")
    out = out or Path("runs") / f"compare-{Path(source).stem}"
    reports = compare(models, source, out=out, **settings, **flags.given(chosen.data))
    console = Console()
    for card in merge(report.scorecard for report in reports):
        console.print(summary(card, console.width))
    console.print(f"\n{out / 'report.html'}", highlight=False, markup=False, soft_wrap=True)
    return 0
