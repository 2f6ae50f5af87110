"""A broken model beside its healthy twin."""

from dataclasses import dataclass

from genus.contract import GenerativeModel
from genus.kinds import Domain
from genus.testing.checks import Check
from genus.testing.mutants._toys import BINARY
from genus.testing.subjects import Subject


@dataclass(frozen=True)
class Mutant:
    """A broken subject, its healthy twin, and the check that tells them apart."""

    broken: Subject
    healthy: Subject
    check: Check


def mutant(
    broken: type[GenerativeModel],
    healthy: type[GenerativeModel],
    check: Check,
    domain: Domain = BINARY,
    condition: Domain | None = None,
) -> Mutant:
    """A mutant and its twin on a domain."""
    return Mutant(Subject(broken, domain, condition), Subject(healthy, domain, condition), check)
