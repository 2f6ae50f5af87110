"""The checks that every model must pass, shipped so that anyone can check their own.

    from genus.testing import verify, check_model
    verify("vae")                     # every check on tiny instances of a registered model
    check_model(MyModel)              # the same for a class of your own

Each check is a plain function ``check_*(subject)`` that raises a `CheckError` with a sentence;
`checks_for` chooses them by the roles that the model signs. `oracles` gives exact answers to
compare with, `statistics` compares random numbers by z-scores, and `mutants` are broken models
that the checks must catch: the checks are checked themselves. `registered` lets the training loop
and the commands know a model of your own for a while.
"""

from genus.testing.checks import Result, check_model, checks_for, run_check, verify
from genus.testing.guests import registered
from genus.testing.statistics import CheckError
from genus.testing.subjects import Subject, subjects

__all__ = [
    "CheckError", "Result", "Subject", "check_model", "checks_for", "registered", "run_check", "subjects", "verify",
]  # fmt: skip
