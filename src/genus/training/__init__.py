"""The one training loop, checkpoints, running averages and run folders."""

from genus.training.codes import open_data
from genus.training.config import RunConfig
from genus.training.divergence import DivergenceError, OutOfMemory
from genus.training.run import Run
from genus.training.signals import Interrupted
from genus.training.stages import StagedConfig, configure, open_run, train

__all__ = ["DivergenceError", "Interrupted", "OutOfMemory", "Run", "RunConfig", "StagedConfig", "configure",
           "open_data", "open_run", "train"]  # fmt: skip
