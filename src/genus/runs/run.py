"""A run: a folder with a configuration, metrics, checkpoints, samples and a report."""

import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from genus import kinds, registry
from genus.contract import GenerativeModel
from genus.data import Source, open_source
from genus.errors import CheckpointError, SettingsError, brief
from genus.hardware import OutOfMemory, is_out_of_memory
from genus.kinds import Domain
from genus.nn.per_item import allocate
from genus.prob import noise
from genus.runs import checkpoint
from genus.runs.allowance import Allowance, AllowanceError, for_weights, physical_memory
from genus.runs.config import RunConfig, read_config
from genus.runs.documents import read_document, read_jsonl, refuse_link
from genus.settings import explain

FIRST_STAGE = "stage:first"
"""How the second stage of a run names its data: the codes of the folder ``first`` beside its own."""


class Description(BaseModel):
    """What a run was trained on. ``data.json`` of a run folder."""

    model_config = ConfigDict(frozen=True)

    name: str
    domain: dict[str, Any]
    condition: dict[str, Any] | None
    fingerprint: str
    items: int = Field(default=0, ge=0)
    """Training items; 0 in folders that do not say."""


class Run:
    """A run folder that exists: its model is ready to sample, score and encode.

    `genus.train` returns one and `genus.load` opens one. The folder may be a stranger's:
    everything in it is JSON or safetensors, checked and bounded before it is believed, no
    link is followed, and the data that it names are opened by `source` alone. What is wrong
    with a file is a `CheckpointError` (or `SettingsError`) that names it.

    device: where the model is put; samples come back on the CPU in any case.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        self.path, self.device = Path(path), torch.device(device)
        self.config: RunConfig = read_config(self.path / "config.json")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.config.model} on {self.config.data})"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @cached_property
    def described(self) -> Description:
        """What the training data were: name, domain, condition, fingerprint."""
        file = self.path / "data.json"
        try:
            return Description.model_validate(read_document(file))
        except FileNotFoundError:
            raise CheckpointError(f"{file}: no such file; a run folder holds a data.json.") from None
        except ValidationError as error:
            raise CheckpointError(f"{file}: {explain(error, Description)}") from None

    def _domain(self, description: dict[str, Any]) -> Domain:
        try:
            return kinds.from_json(description)
        except ValueError as error:
            raise CheckpointError(f"{self.path / 'data.json'}: {error}") from None

    @property
    def domain(self) -> Domain:
        """What one datum of the training data was."""
        return self._domain(self.described.domain)

    @property
    def condition(self) -> Domain | None:
        """What the model is conditioned on, or None."""
        described = self.described.condition
        return self._domain(described) if described and self.config.conditional else None

    @cached_property
    def source(self) -> Source:
        """The data that the run was trained on, opened again."""
        source = open_data(self.config, self.path)
        if source.fingerprint != self.described.fingerprint:
            raise CheckpointError(
                f"{self.path}: trained on {brief(self.described.name)} with fingerprint "
                f"{brief(self.described.fingerprint[:12])}; the data there now has {source.fingerprint[:12]!r}."
            )
        return source

    @cached_property
    def checkpoint(self) -> Path:
        """The newest checkpoint that verifies; a warning names newer ones that do not."""
        faults: list[str] = []
        newest = checkpoint.latest(self.checkpoints, faults.append)
        if newest is None:
            train_it = f"{self.path}: no checkpoint yet; train it first (genus train ... --out {self.path})."
            raise CheckpointError(" ".join(faults) or train_it)
        for fault in faults:
            warnings.warn(fault, stacklevel=2)
        return newest

    @property
    def weights(self) -> str:
        """Which file of the checkpoint holds the weights that count: those that were best on
        validation, else the averaged ones, else the last."""
        return next(s for s in ("best", "average", "model") if (self.checkpoint / f"{s}.safetensors").exists())

    @property
    def model_class(self) -> type[GenerativeModel]:
        """What kind of model it is, known without its weights."""
        return registry.get(self.config.model)

    @cached_property
    def model(self) -> GenerativeModel:
        """The trained model in evaluation mode, with the `weights` that count."""
        stem = self.weights
        shapes = checkpoint.shapes(self.checkpoint, stem)
        total = (self.checkpoint / f"{stem}.safetensors").stat().st_size
        try:
            allowance = for_weights(len(shapes), total)
            model = build(self.config, self.domain, self.condition, allowance, self.described.items)
        except Exception as error:  # settings and domain may be a stranger's, and constructors raise what they like
            raise CheckpointError(
                f"{self.path / 'config.json'}: {self.config.model} with these settings does not fit the domain "
                f"and the weights of the run ({brief(str(error), 300)[1:-1]})."
            ) from error
        checkpoint.compare_shapes(model, shapes, self.checkpoint)
        checkpoint.copy_into(model, checkpoint.load_tensors(self.checkpoint, stem), self.checkpoint)
        return model.to(self.device).requires_grad_(False).eval()

    @property
    def state(self) -> dict[str, Any]:
        """``state.json`` of the newest good checkpoint: step, steps, best, finished."""
        newest = checkpoint.latest(self.checkpoints)
        return checkpoint.load_state(newest) if newest else {}

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of ``metrics.jsonl``, in order."""
        file = self.path / "metrics.jsonl"
        records = read_jsonl(file, numbers=("step",))
        for record in records:
            for key, value in record.items():
                if "/" in key and type(value) not in (int, float):  # train/loss; NaN is a number too
                    raise CheckpointError(f"{file}: {brief(key)} should be a number; got {brief(value)}.")
        return records

    @property
    def training_seconds(self) -> float:
        """Wall-clock seconds that training took, over all its sittings."""
        return sum(record["seconds"] for record in read_jsonl(self.path / "timing.jsonl", numbers=("seconds",)))

    def sample(self, count: int, *, seed: int = 0, condition: Tensor | None = None, **options: Any) -> Tensor:
        """``count`` samples in the data's own terms; the same seed gives the same samples.

        Raises `OutOfMemory` where so many data of this domain do not fit.
        """
        with torch.inference_mode():
            generator = noise.stream(seed, "sample")
            condition = None if condition is None else condition.to(self.device)
            try:
                return self.model.sample(count, condition=condition, generator=generator, **options).cpu()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                size = f"{count} samples of {brief(str(self.domain))[1:-1]}"
                raise OutOfMemory(f"{self.path}: {size} do not fit into memory; ask for fewer at a time.") from None


def open_data(config: RunConfig, folder: Path) -> Source:
    """The data of a configuration; ``stage:first`` means something in a run's folder alone."""
    name = config.data
    if name == FIRST_STAGE:
        first = Path(os.path.abspath(folder)).parent / "first"
        refuse_link(first)
        name = f"run:{first}"
    return open_source(name, config.data_options)


def build(
    config: RunConfig,
    domain: Domain,
    condition: Domain | None,
    allowance: Allowance | None = None,
    items: int = 0,
) -> GenerativeModel:
    """The untrained model of a configuration; its initial weights are a function of the seed.

    allowance: what its constructor may take, by default the memory of this machine. items: how many training items
    there are, for models that keep something for each. Raises `SettingsError` before more is allocated.
    """
    try:
        with torch.random.fork_rng(), allowance or Allowance(physical_memory()):
            torch.manual_seed(noise.stream(config.seed, "initialise").initial_seed())
            model = registry.get(config.model)(domain, condition, **config.settings)
            allocate(model, items)
    except AllowanceError as error:
        raise SettingsError(f"{config.model}: a model of these settings takes {error}; make it smaller.") from None
    if domain.is_picture:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions are faster so
    return model
