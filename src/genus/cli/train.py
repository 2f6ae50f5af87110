"""genus train MODEL --data SOURCE"""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from genus import registry
from genus.cli import flags


@dataclasses.dataclass
class RunFlags:
    """What to train on, for how long, and where to."""

    data: str
    """A named source (`genus data` lists them), or the path of a file or folder."""
    out: Path | None = None
    """The run folder; by default runs/MODEL-DATA-HASH, so the same command finds it again."""
    steps: int | None = None
    """Length of training in steps. At most one of --steps, --epochs and --minutes."""
    epochs: float | None = None
    """Length of training in passes over the training split."""
    minutes: float | None = None
    """Length of training in minutes on this machine (turned into steps once, at the start)."""
    seed: int = 0
    """Everything random is a function of it."""
    conditional: bool = False
    """Model the data given its label."""
    compile: bool = False
    """Compile the losses (torch.compile): pays on a GPU and for flows, costs up to a minute."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints; 0 saves after every step."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too (needs the tensorboard extra); metrics.jsonl is always written."""
    workers: int = 0
    """Processes that prepare batches ahead; the run is the same in every bit with any number."""
    accumulate: int = 1
    """Work off each batch in so many parts, to save memory; the step stays that of the whole batch."""
    strict: bool = False
    """Refuse to fall back to an older checkpoint where the newest one is damaged."""
    quiet: bool = False
    """Show no progress."""
    report: bool = False
    """Score the run and write its HTML report at the end (`genus report RUN` does it later)."""


def main(arguments: list[str]) -> int:
    """Train, and say what to do next."""
    if not arguments or arguments[0].startswith("-"):
        print("usage: genus train MODEL --data SOURCE [--minutes 5 | --steps N] [--recipe paper] [--any-setting VALUE]")
        print(f"\nMODEL is one of {', '.join(registry.names())}.")
        print("'genus train MODEL --help' shows every setting; 'genus data' lists the data sources.")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    name, *rest = arguments
    chosen = flags_of(name, rest)
    run_flags, groups = chosen.run, (chosen.model, chosen.training, chosen.source)

    from genus.training import configure, train

    common = {f.name: getattr(run_flags, f.name) for f in dataclasses.fields(run_flags)}
    out, quiet, report, strict = (common.pop(key) for key in ("out", "quiet", "report", "strict"))
    config = configure(name, common.pop("data"), recipe=chosen.recipe, **common, **flags.given(*groups))
    run = train(config, out, quiet=quiet, strict=strict)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first one speaks
        return 0
    if report:
        from genus.report.write import write_run_report

        write_run_report(run)
    if not quiet:
        words = ("sample", "evaluate", "report")
        Console().print("\n".join([f"done: {run.path}", *(f"  genus {w} {run.path}" for w in words)]), highlight=False)
    return 0


def flags_of(name: str, arguments: list[str]) -> Any:
    """Parse the flags of ``genus train NAME``: those of the run, the model, the recipe, the data."""
    cls = registry.get(name)

    from genus.data import DataOptions
    from genus.recipe import Recipe
    from genus.settings import schema

    quick = cls.recipes["quick"]
    settings = flags.optional("Settings", f"Settings of {name}.", flags.fields_of(schema(cls)), quick.settings)
    training = flags.optional(
        "Training", "Fields of the recipe.", flags.fields_of(Recipe, without=("settings", "steps")), quick.model_dump()
    )
    source = flags.optional("Data", "Options of the data source.", flags.fields_of(DataOptions), {})
    arg = tyro.conf.arg(help="Published settings: quick for a laptop, paper as in the paper.")
    recipe: Any = Annotated[Literal.__getitem__(tuple(cls.recipes)), arg]
    everything = dataclasses.make_dataclass(
        "Flags",
        [
            ("run", RunFlags),
            ("recipe", recipe, dataclasses.field(default="quick")),
            ("model", settings, dataclasses.field(default_factory=settings)),
            ("training", training, dataclasses.field(default_factory=training)),
            ("source", source, dataclasses.field(default_factory=source)),
        ],
    )
    about = (cls.__doc__ or "").split("\n\n")[0]
    return flags.parse(everything, arguments, f"genus train {name}", f"{about}\n\nPaper: {cls.paper}")
