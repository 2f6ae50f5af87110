"""genus evaluate RUN, genus evaluate FOLDER --against SOURCE"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.console import Console

from genus.cli import flags
from genus.errors import SettingsError

if TYPE_CHECKING:
    from genus.data import DataOptions
    from genus.evaluate.features import Features
    from genus.evaluate.score import Scorecard
    from genus.kinds import Domain
    from genus.runs import Run

ABOUT = """Score a run on held-out data, or any folder of samples against real data.

examples:
  genus evaluate runs/vae-digits-...                         on its own held-out data
  genus evaluate runs/vae-mnist-... --against fashion-mnist  on other data of that size
  genus evaluate pictures --against mnist                    samples of any origin
  genus evaluate pictures --against real-pictures --size 32  both read at 32x32
  genus evaluate meshes --against furniture                  meshes and clouds too
  genus evaluate samples.npz --against digits --out scores.json
  genus evaluate pictures --against mnist --features dinov2-small.safetensors

All items of the folder or file are samples. They are compared with as many
held-out real items; rows of real data and of floors stand beside them."""


@dataclasses.dataclass
class ScoreFlags:
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
    features: Path | None = None
    """A feature network of your own: .onnx, or the .safetensors of a DINOv2. Nothing is downloaded."""
    features_preset: Literal["inception", "imagenet", "dinov2", "raw"] | None = None
    """How pictures are prepared for it (default: by the size of its input)."""
    features_sha256: str | None = None
    """Refuse the file of --features unless it has this SHA-256."""
    features_output: str | None = None
    """Which output, where an ONNX network has several."""


@dataclasses.dataclass
class EvaluateFlags(ScoreFlags):
    """What to score, and how."""

    run: tyro.conf.Positional[Path]
    """The run folder; or, with --against, a folder or file of samples."""
    against: str | None = None
    """The real data: a named source, a folder or a file (default: the data of the run)."""
    out: Path | None = None
    """A JSON file for the scores (default: scores.json in the run; none for a folder of samples)."""


def main(arguments: list[str]) -> int:
    """Print the scores beside their floors; those of a run are kept in its folder."""
    target = flags.target(arguments)
    if target is None:
        flags.parse(_flags(), arguments or ["--help"], "genus evaluate", f"{ABOUT}\n\nMore flags depend on the run.")
        raise SettingsError("expected the path of a run folder, or of samples with --against.")
    if (target / "config.json").is_file() or not target.exists():
        return _of_run(target, arguments)
    chosen = _parse(arguments)
    return _of_samples(target, chosen.basic, flags.given(chosen.data))


def settings_of(basic: ScoreFlags) -> dict[str, Any]:
    """The flags that `genus.evaluate.evaluate` takes as they are."""
    return {name: getattr(basic, name) for name in ("split", "count", "num_samples", "limit", "seed")}


def features_of(basic: ScoreFlags, domain: "Domain") -> "Features | None":
    """The feature network that the user names, with its SHA-256 printed; None for the usual one."""
    own = (basic.features_preset, basic.features_sha256, basic.features_output)
    if basic.features is None:
        if any(value is not None for value in own):
            raise SettingsError("--features-preset, --features-sha256 and --features-output go with --features FILE.")
        return None

    from genus.evaluate.network import NetworkFile, network_features

    features = network_features(NetworkFile(basic.features, *own), domain)
    _say(features.about)
    return features


def _of_run(path: Path, arguments: list[str]) -> int:
    from genus.data import open_source
    from genus.evaluate.against import in_levels
    from genus.report.write import score

    if not path.exists():
        raise SettingsError(f"{path}: no such file or folder; expected a run, or samples with --against.")
    run = flags.opened(path)
    chosen = _parse(arguments, run.model_class)
    basic, given = chosen.basic, flags.given(chosen.data)
    if given and basic.against is None:
        name = flags.shown_as(chosen.data, next(iter(given)))
        raise SettingsError(f"{name} is how to read the data of --against; a run has data of its own.")
    source = None
    if basic.against is not None:
        source = in_levels(open_source(basic.against, _as_run(run, given)), run.domain)
    card = score(
        run, against=source, out=basic.out, options=flags.given(chosen.sample),
        features=features_of(basic, run.domain), **settings_of(basic),
    )  # fmt: skip
    _show(card)
    return 0


def _of_samples(path: Path, basic: EvaluateFlags, given: dict[str, Any]) -> int:
    if basic.against is None:
        raise SettingsError(
            f"{path} is no run (it holds no config.json); to score a folder or file of samples, "
            f"name the real data: genus evaluate {path} --against SOURCE."
        )
    if basic.num_samples != 1 or basic.limit is not None:
        raise SettingsError("--num-samples and --limit concern the likelihood of a model; samples have none.")

    from genus.data import data_options
    from genus.evaluate.against import compared, open_against, score_samples

    opened = open_against(path, basic.against, data_options(**given))
    features = features_of(basic, opened.source.domain)
    count = compared(opened, basic.split, basic.count)
    _say(*opened.notes, f"compared: {count:,} of each, chosen by lot where there are more")
    card = score_samples(
        opened, name=path.resolve().name, split=basic.split, count=basic.count, seed=basic.seed, features=features
    )
    _show(card)
    if basic.out is not None:
        basic.out.parent.mkdir(parents=True, exist_ok=True)
        basic.out.write_text(json.dumps(card.to_json(), indent=1), encoding="utf-8")
    return 0


def _say(*lines: str) -> None:
    Console().print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def _show(card: "Scorecard") -> None:
    from genus.evaluate.memorisation import verdict
    from genus.report.summary import summary

    console = Console()
    console.print()
    console.print(summary(card, console.width))
    if found := verdict(card.model):
        console.print(f"memorisation: {card.model.name}: {found}", highlight=False, markup=False)


def _flags(model: type | None = None) -> Any:
    """The flags of the command: what to score, how to read the real data, what the run's model takes."""
    from genus.data import DataOptions

    fields = flags.fields_of(DataOptions, without=("limit", "holdout"))
    about = "How to read the data of --against, and the samples if they are not a run."
    own = {} if model is None else {"sample": flags.sample_options(model)}
    return flags.joined(basic=EvaluateFlags, **own, data=flags.optional("Data", about, fields, {}))


def _parse(arguments: list[str], model: type | None = None) -> Any:
    """The flags as given; an ``--out`` that is no JSON file is refused before anything is scored."""
    chosen = flags.parse(_flags(model), arguments, "genus evaluate", ABOUT)
    if chosen.basic.out is not None:
        chosen.basic.out = flags.file_named(chosen.basic.out, (".json",))
    return chosen


def _as_run(run: "Run", given: dict[str, Any]) -> "DataOptions":
    """Other data are read as the data of the run were, unless the user says otherwise."""
    from genus.data import data_options

    own = run.config.data_options.model_dump(
        include={"size", "colour", "binarize", "points", "length"}, exclude_none=True
    )
    return data_options(**{**own, **given})
