"""genus evaluate RUN"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from genus.cli import flags


@dataclasses.dataclass
class EvaluateFlags:
    """What to score, and how."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    split: Literal["test", "validation"] = "test"
    """Choose settings on validation; score test once."""
    count: int | None = None
    """Samples and real items compared (default: the split, at most 1000; 100 point clouds)."""
    num_samples: int = 1
    """Draws per item that a bound averages over: K of the importance-weighted bound."""
    limit: int | None = None
    """Score the likelihood of so many items only."""
    seed: int = 0
    """The scores are a function of it."""


def main(arguments: list[str]) -> int:
    """Print the scores beside their floors and keep them in scores.json."""
    run, basic, options = flags.run_and_flags(EvaluateFlags, arguments, "evaluate", "Score a run on held-out data.")

    from genus.report.summary import summary
    from genus.report.write import score

    settings = dataclasses.asdict(basic)
    settings.pop("run")
    console = Console()
    console.print(summary(score(run, options=options, **settings), console.width))
    return 0
