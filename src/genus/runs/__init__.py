"""The run folder on disk: configuration, checkpoints, records, and the codes of its model as data (``run:PATH``)."""

from genus.data.named import SCHEMES
from genus.runs.codes import open_codes
from genus.runs.config import RunConfig
from genus.runs.run import Run
from genus.runs.stages import StagedConfig, StagedRun, open_run

SCHEMES["run:"] = open_codes

__all__ = ["Run", "RunConfig", "StagedConfig", "StagedRun", "open_run"]
