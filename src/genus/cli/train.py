"""genus train MODEL --data SOURCE, genus train FIRST+SECOND --data SOURCE"""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic.fields import FieldInfo
from rich.console import Console

from genus import registry
from genus.cli import flags

if TYPE_CHECKING:
    from genus.contract import GenerativeModel


@dataclasses.dataclass
class RunFlags:
    """What to train on, for how long, and where to."""

    data: str
    """A named source (`genus data` lists them), the path of a file or folder, or run:PATH, the codes of a run."""
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
    criterion: Literal["loss", "frechet"] = "loss"
    """What the best checkpoint is chosen by: the model's own criterion on validation data, or the Fréchet distance of
    samples to them (for models without a loss that ranks; costs samples at each validation)."""
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
        print(f"\nMODEL is one of {', '.join(registry.names())};")
        print("or FIRST+SECOND: two stages, the second of the first's latents (vqvae+gated_pixelcnn, vae+ddpm).")
        print("'genus train MODEL --help' shows every setting; 'genus data' lists the data sources.")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    name, *rest = arguments
    run_flags, settings = _settings_of_two(name, rest) if "+" in name else _settings_of_one(name, rest)

    from genus.training import configure, train

    common = {f.name: getattr(run_flags, f.name) for f in dataclasses.fields(run_flags)}
    out, quiet, report, strict = (common.pop(key) for key in ("out", "quiet", "report", "strict"))
    adopted = {"first": common["first"]} if "first" in common else {}
    config = configure(name, common.pop("data"), **common, **settings)
    run = train(config, out, quiet=quiet, strict=strict, **adopted)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first one speaks
        return 0
    if report:
        from genus.report.write import write_run_report

        write_run_report(flags.opened(run.path))
    if not quiet:
        words = ("sample", "evaluate", "report")
        Console().print(
            "\n".join([f"done: {run.path}", *(f"  genus {w} {run.path}" for w in words)]),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return 0


def _settings_of_one(name: str, arguments: list[str]) -> tuple[RunFlags, dict[str, Any]]:
    """The flags of the run, and everything else that was given."""
    chosen = flags_of(name, arguments)
    return chosen.run, flags.given(chosen.model, chosen.recipe, chosen.data)


@dataclasses.dataclass
class StagedFlags(RunFlags):
    """What to train on, for how long, and where to. Settings of a stage have its name before them."""

    data: str | None = None  # type: ignore[assignment]
    """A named source (`genus data` lists them), or the path of a file or folder; needed unless --first is given."""
    steps: int | None = None
    """Length of both trainings together in steps. At most one of --steps, --epochs and --minutes."""
    epochs: float | None = None
    """Length of both trainings together in passes over the training split."""
    minutes: float | None = None
    """Length of both trainings together in minutes on this machine."""
    share: float = 0.5
    """The first stage's part of --minutes, --steps or --epochs."""
    first: Path | None = None
    """A finished run that is the first stage, copied into this one: several second stages can share it."""
    conditional: bool = False
    """The second stage models the latents given the label."""
    recipe: str = "quick"
    """Published settings of both stages: quick for a laptop, paper as in the papers."""


def _settings_of_two(model: str, arguments: list[str]) -> tuple[StagedFlags, dict[str, Any]]:
    """The same of FIRST+SECOND: each stage's settings, recipe and budget under its name."""
    from genus.data import DataOptions
    from genus.recipe import Recipe
    from genus.runs.config import RunConfig
    from genus.settings import schema
    from genus.training.stages import BUDGETS, prefixes, stages_of

    names = stages_of(model)
    data = flags.optional("Data", "Options of the data source.", flags.fields_of(DataOptions), {})
    stages: dict[str, type] = {}
    about = [f"Two stages: {names[0]}, then {names[1]} of its latents."]
    for name, prefix, stage in zip(names, prefixes(*names), ("first", "second"), strict=True):
        cls = registry.get(name)
        quick = cls.recipes["quick"]
        own = {key: RunConfig.model_fields[key] for key in BUDGETS} | {"recipe": _recipes(cls, "of this stage")}
        fields = flags.fields_of(schema(cls)) | flags.fields_of(Recipe, without=("settings", "steps")) | own
        told = f"Settings, recipe and budget of {name}, the {stage} stage."
        defaults = {**quick.model_dump(), **quick.settings, "steps": None}
        stages[stage] = flags.optional(stage, told, fields, defaults, f"{prefix}.")
        about.append(f"Paper of {name}: {cls.paper}")
    shown = flags.joined(run=StagedFlags, data=data, **stages)
    chosen = flags.parse(shown, arguments, f"genus train {model}", "\n\n".join(about))
    groups = zip(prefixes(*names), (chosen.first, chosen.second), strict=True)
    settings = {f"{prefix}.{key}": value for prefix, group in groups for key, value in flags.given(group).items()}
    return chosen.run, {**flags.given(chosen.data), **settings}


def flags_of(name: str, arguments: list[str]) -> Any:
    """Parse the flags of ``genus train NAME``: those of the run, the model, the recipe, the data."""
    cls = registry.get(name)

    from genus.data import DataOptions
    from genus.recipe import Recipe
    from genus.settings import schema

    quick = cls.recipes["quick"]
    recipe = {"recipe": _recipes(cls, "of the model")} | flags.fields_of(Recipe, without=("settings", "steps"))
    shown = flags.joined(
        run=RunFlags,
        model=flags.optional("Settings", f"Settings of {name}.", flags.fields_of(schema(cls)), quick.settings),
        recipe=flags.optional("Recipe", "How to train.", recipe, {"recipe": "quick", **quick.model_dump()}),
        data=flags.optional("Data", "Options of the data source.", flags.fields_of(DataOptions), {}),
    )
    about = (cls.__doc__ or "").split("\n\n")[0]
    return flags.parse(shown, arguments, f"genus train {name}", f"{about}\n\nPaper: {cls.paper}")


def _recipes(cls: "type[GenerativeModel]", which: str) -> FieldInfo:
    """The flag that names one of the model's recipes."""
    names: Any = Literal.__getitem__(tuple(cls.recipes))
    told = f"Published settings {which}: quick for a laptop, paper as in the paper."
    return FieldInfo(annotation=names, default=None, description=told)
