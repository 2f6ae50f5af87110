"""The one training loop, checkpoints, running averages and run folders."""

from genus.training.config import RunConfig, configure
from genus.training.divergence import DivergenceError, OutOfMemory
from genus.training.loop import train
from genus.training.run import Run
from genus.training.signals import Interrupted

__all__ = ["DivergenceError", "Interrupted", "OutOfMemory", "Run", "RunConfig", "configure", "train"]
