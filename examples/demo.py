"""The main job: one species of every family, trained, sampled and scored on held-out data.

Trains seven models on real handwritten digits and one on furniture, twenty seconds to a
minute each, and writes ``runs/demo/report.html``. A second call resumes, or only scores.
"""

import sys
import time
from pathlib import Path

from rich.console import Console

from genus.compare import compare, machine, write_comparison
from genus.evaluate import merge
from genus.report.summary import summary

OUT = Path("runs/demo")
DIGITS = ("histogram", "markov", "nade", "vae", "realnvp", "ddpm", "dcgan")
MINUTES = {"digits": 0.25, "furniture": 0.95}


def main() -> int:
    """Train, compare, report."""
    began = time.monotonic()
    reports = compare(DIGITS, "digits", out=OUT / "digits", minutes=MINUTES["digits"])
    reports += compare(["point_diffusion"], "furniture", out=OUT / "furniture", minutes=MINUTES["furniture"])
    budget = {f"minutes for each model on {data}": minutes for data, minutes in MINUTES.items()}
    page = write_comparison(OUT, reports, {**budget, **machine()})
    console = Console()
    for card in merge(report.scorecard for report in reports):
        console.print(summary(card, console.width))
    console.print(f"\n{page} written; everything took {(time.monotonic() - began) / 60:.1f} minutes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
