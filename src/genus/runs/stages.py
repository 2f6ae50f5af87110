"""A run folder of two stages: FIRST of the data, then SECOND of its codes (`genus.models.two_stage`).

``RUN/first`` and ``RUN/second`` are ordinary run folders, each of which resumes exactly by itself; the
second's data are named ``stage:first``, so the whole may be moved. ``RUN/config.json`` holds both
configurations. `open_run` opens a folder of one stage or of two.
"""

import hashlib
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from genus import registry
from genus.contract import GenerativeModel, HasPosterior, refusal
from genus.data import DataOptions, Source
from genus.errors import CheckpointError, SettingsError
from genus.models.two_stage import TwoStage, with_options_of
from genus.runs import config
from genus.runs.config import RunConfig
from genus.runs.documents import read_document, refuse_link
from genus.runs.run import FIRST_STAGE, Description, Run
from genus.settings import explain


class StagedConfig(BaseModel):
    """Two configurations, the second of the first's codes. ``config.json`` of a run of two stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """FIRST+SECOND."""
    first: RunConfig
    second: RunConfig

    @property
    def data(self) -> str:
        """The data of the first stage."""
        return self.first.data

    @property
    def data_options(self) -> DataOptions:
        """How they are read."""
        return self.first.data_options

    @property
    def conditional(self) -> bool:
        """Whether the second stage is given the label."""
        return self.second.conditional

    @property
    def seed(self) -> int:
        """The second stage's."""
        return self.second.seed

    @property
    def settings(self) -> dict[str, Any]:
        """The models' settings, stage by stage."""
        return {"first": self.first.settings, "second": self.second.settings}

    def short_hash(self) -> str:
        """As `RunConfig.short_hash`, of both."""
        both = self.first.short_hash() + self.second.short_hash()
        return hashlib.sha256(both.encode()).hexdigest()[:8]

    def difference(self, other: "StagedConfig") -> list[str]:
        """As `RunConfig.difference`, of both, with the stages' names."""
        pairs = {"first": (self.first, other.first), "second": (self.second, other.second)}
        return [f"{stage} {told}" for stage, (mine, theirs) in pairs.items() for told in mine.difference(theirs)]


class StagedRun(Run):
    """A run folder with the run of a first stage and that of a second of its codes: one model, `TwoStage`."""

    config: StagedConfig  # type: ignore[assignment]

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        self.path, self.device = Path(path), torch.device(device)
        self.config = _read(self.path / "config.json")

    def _stage(self, name: str, told: RunConfig) -> Run:
        refuse_link(self.path / name)
        if not (self.path / name / "config.json").exists():
            raise CheckpointError(f"{self.path}: the {name} stage is not there yet; the command that began it goes on.")
        run = Run(self.path / name)
        difference = told.difference(run.config)
        if difference:
            raise CheckpointError(
                f"{self.path}: {name} is another run than config.json says ({'; '.join(difference)})."
            )
        return run

    @cached_property
    def first(self) -> Run:
        """The first stage's run."""
        return self._stage("first", self.config.first)

    @cached_property
    def second(self) -> Run:
        """The second stage's run."""
        return self._stage("second", self.config.second)

    @property
    def described(self) -> Description:
        """What the first stage was trained on."""
        return self.first.described

    @property
    def source(self) -> Source:
        """The data of the first stage."""
        return self.first.source

    @property
    def checkpoints(self) -> Path:
        """The second stage's, which is trained last."""
        return self.second.checkpoints

    @property
    def checkpoint(self) -> Path:
        """The second stage's newest."""
        return self.second.checkpoint

    @property
    def model_class(self) -> type[GenerativeModel]:
        """`TwoStage`, with the options of the second stage's samples."""
        return with_options_of(self.second.model_class)

    @cached_property
    def model(self) -> GenerativeModel:
        """Both stages as one model, in evaluation mode."""
        first, second = self.first.model, self.second.model
        try:
            joined = TwoStage(first, second)
        except ValueError as error:
            raise CheckpointError(f"{self.path}: the stages do not fit each other: {error}") from None
        return joined.to(self.device).requires_grad_(False).eval()

    @property
    def state(self) -> dict[str, Any]:
        """The second stage's; the first's before there is one."""
        return self.second.state if (self.path / "second" / "config.json").exists() else self.first.state

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The first stage's records, their terms under its name, and after its last step the second's."""
        prefix = prefixes(*stages_of(self.config.model))[0]
        first = [{_under(prefix, key): value for key, value in record.items()} for record in self.first.metrics]
        last = max((record["step"] for record in first), default=0)
        return first + [{**record, "step": last + record["step"]} for record in self.second.metrics]

    @property
    def training_seconds(self) -> float:
        """Wall-clock seconds of both stages."""
        return self.first.training_seconds + self.second.training_seconds


def _under(prefix: str, key: str) -> str:
    """``train/loss`` as ``train/vae/loss``."""
    split, slash, term = key.partition("/")
    return f"{split}/{prefix}/{term}" if slash else key


def open_run(path: str | Path, device: torch.device | str = "cpu") -> Run:
    """Open a run folder, of one stage or of two. Raises `CheckpointError` if it is none or is damaged.

    device: where its model is put.
    """
    file = Path(path) / "config.json"
    with suppress(FileNotFoundError):  # Run says what is missing
        if "first" in read_document(file):
            return StagedRun(path, device)
    return Run(path, device)


def _read(file: Path) -> StagedConfig:
    """Read and check the ``config.json`` of two stages."""
    try:
        read = StagedConfig.model_validate(read_document(file))
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file; a run folder holds a config.json.") from None
    except ValidationError as error:
        raise CheckpointError(f"{file}: {explain(error, StagedConfig)}") from None
    first, second = (config.checked(stage, file) for stage in (read.first, read.second))
    if read.model != f"{first.model}+{second.model}" or second.data != FIRST_STAGE:
        raise CheckpointError(
            f"{file}: expected the model {first.model}+{second.model} and {FIRST_STAGE!r} for the second stage's data; "
            f"got {read.model[:80]!r} and {second.data[:80]!r}."
        )
    return read.model_copy(update={"first": first, "second": second})


def stages_of(model: str) -> tuple[str, str]:
    """The two models of ``FIRST+SECOND``; raises where there are others than two, or unknown ones."""
    names = model.split("+")
    if len(names) != 2:
        raise SettingsError(
            f"expected one model, or two stages FIRST+SECOND; got {len(names)} in {model!r}. More are trained one "
            f"after the other: the codes of a run are data, --data run:PATH."
        )
    first, second = names
    for name in names:
        registry.check(name)
    if not issubclass(registry.get(first), HasPosterior):
        raise refusal(registry.get(first), "HasPosterior", f"be the first stage of {model}")
    return first, second


def prefixes(first: str, second: str) -> tuple[str, str]:
    """What a setting of each stage is called by: the model's name; first and second where both are one model."""
    return (first, second) if first != second else ("first", "second")
