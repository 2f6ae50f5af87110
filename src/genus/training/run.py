"""A run: a folder with a configuration, metrics, checkpoints, samples and a report."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genus import domain as domains
from genus import registry
from genus.contract import GenerativeModel
from genus.data import Source, open_source
from genus.domain import Domain, Grid
from genus.errors import CheckpointError
from genus.prob import noise
from genus.training import checkpoint
from genus.training.config import RunConfig, read_config


class Run:
    """A run folder that exists: its model is ready to sample, score and encode.

    `genus.train` returns one and `genus.load` opens one.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config: RunConfig = read_config(self.path / "config.json")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.config.model} on {self.config.data})"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @cached_property
    def _described(self) -> dict[str, Any]:
        file = self.path / "data.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file}: cannot be read ({error}).") from None

    @property
    def domain(self) -> Domain:
        """What one datum of the training data was."""
        return domains.from_json(self._described["domain"])

    @property
    def condition(self) -> Domain | None:
        """What the model is conditioned on, or None."""
        described = self._described["condition"]
        return domains.from_json(described) if described and self.config.conditional else None

    @cached_property
    def source(self) -> Source:
        """The data that the run was trained on, opened again."""
        source = open_source(self.config.data, self.config.data_options)
        if source.fingerprint != self._described["fingerprint"]:
            raise CheckpointError(
                f"{self.path}: trained on {self._described['name']!r} with fingerprint "
                f"{self._described['fingerprint'][:12]}; the data there now has {source.fingerprint[:12]}."
            )
        return source

    @cached_property
    def checkpoint(self) -> Path:
        """The newest checkpoint that verifies."""
        newest = checkpoint.latest(self.checkpoints)
        if newest is None:
            raise CheckpointError(
                f"{self.path}: no checkpoint yet; train it first (genus train ... --out {self.path})."
            )
        return newest

    @cached_property
    def model(self) -> GenerativeModel:
        """The trained model in evaluation mode: the weights that were best on validation,
        else the averaged ones, else the last."""
        model = build(self.config, self.domain, self.condition)
        stem = next(s for s in ("best", "average", "model") if (self.checkpoint / f"{s}.safetensors").exists())
        checkpoint.copy_into(model, checkpoint.load_tensors(self.checkpoint, stem), self.checkpoint)
        return model.requires_grad_(False).eval()

    @property
    def state(self) -> dict[str, Any]:
        """``state.json`` of the newest good checkpoint: step, steps, best, finished."""
        newest = checkpoint.latest(self.checkpoints)
        return checkpoint.load_state(newest) if newest else {}

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of ``metrics.jsonl``, in order."""
        return read_jsonl(self.path / "metrics.jsonl")

    @property
    def training_seconds(self) -> float:
        """Wall-clock seconds that training took, over all its sittings."""
        return sum(record["seconds"] for record in read_jsonl(self.path / "timing.jsonl"))

    def sample(self, count: int, *, seed: int = 0, condition: Tensor | None = None, **options: Any) -> Tensor:
        """``count`` samples in the data's own terms; the same seed gives the same samples."""
        with torch.inference_mode():
            generator = noise.stream(seed, "sample")
            return self.model.sample(count, condition=condition, generator=generator, **options)


def build(config: RunConfig, domain: Domain, condition: Domain | None) -> GenerativeModel:
    """The untrained model of a configuration; its initial weights are a function of the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(noise.stream(config.seed, "initialise").initial_seed())
        model = registry.get(config.model)(domain, condition, **config.settings)
    if isinstance(domain, Grid) and len(domain.size) == 2:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions are faster so
    return model


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a JSONL file; a line cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
