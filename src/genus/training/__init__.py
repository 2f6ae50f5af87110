"""The one training loop: from a configuration to a finished run folder."""

from genus.training.divergence import DivergenceError
from genus.training.signals import Interrupted
from genus.training.stages import configure, train

__all__ = ["DivergenceError", "Interrupted", "configure", "train"]
