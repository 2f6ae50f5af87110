"""The one training loop, checkpoints, running averages and run folders."""

from genus.training.config import RunConfig, configure
from genus.training.loop import DivergenceError, Interrupted, train
from genus.training.run import Run

__all__ = ["DivergenceError", "Interrupted", "Run", "RunConfig", "configure", "train"]
