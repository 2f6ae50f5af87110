"""Honest numbers: each one a `Score` with its protocol, floors and real data beside it.

evaluate(model, source)        all of the numbers below, with their reference rows
log_likelihood(model, split)   bits/dim and nats, held out, with the kind of number
fidelity, shapes               how samples compare with real data
memorisation                   how samples compare with the training data
speed                          what sampling costs
"""

from genus.evaluate.likelihood import log_likelihood
from genus.evaluate.memorisation import Neighbours, nearest
from genus.evaluate.score import Row, Score, Scorecard, format, merge
from genus.evaluate.scorecard import evaluate

__all__ = ["Neighbours", "Row", "Score", "Scorecard", "evaluate", "format", "log_likelihood", "merge", "nearest"]
