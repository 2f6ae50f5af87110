"""genus sample RUN"""

import dataclasses
from pathlib import Path

import tyro

from genus.cli import flags


@dataclasses.dataclass
class SampleFlags:
    """What to draw, and where to."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    count: int = 64
    """How many samples."""
    seed: int = 0
    """The same seed gives the same samples."""
    label: str | None = None
    """The label to draw (a class name), for conditional runs; by default all in turn."""
    out: Path | None = None
    """One file, by its ending (.png, .npz; .txt for texts, .csv for tables, .ply and .wav for one cloud or sound); or
    NAME, for all that fit: NAME.png, NAME.npz, NAME/*.ply, NAME/*.wav (default RUN/samples/seed-N)."""


def main(arguments: list[str]) -> int:
    """Draw samples and write them as a picture and as arrays."""
    run, basic, options = flags.run_and_flags(SampleFlags, arguments, "sample", "Draw samples from a run.")

    from genus.report.write import conditions, sample_endings, write_samples

    out = basic.out or run.path / "samples" / f"seed-{basic.seed}"
    if out.suffix:
        flags.file_named(out, sample_endings(run.domain, basic.count), f"{basic.count} of {run.domain}")
    condition = conditions(run, basic.count, basic.label)
    samples = run.sample(basic.count, seed=basic.seed, condition=condition, **options)
    for path in write_samples(run, samples, condition, out):
        print(path)
    return 0
