"""Registry x checks: being in the models folder is being tested."""

import pytest

from genus import registry
from genus.testing import Subject, checks_for, subjects
from genus.testing.checks import Check


def all_pairs() -> list[pytest.param]:
    return [
        pytest.param(subject, check, id=f"{name}-{check.__name__.removeprefix('check_')}-{subject}")
        for name in registry.names()
        for subject in subjects(registry.get(name))
        for check in checks_for(subject)
    ]


@pytest.mark.parametrize(("subject", "check"), all_pairs())
def test_contract(subject: Subject, check: Check) -> None:
    check(subject)


@pytest.mark.parametrize("name", registry.names())
def test_every_model_has_a_tiny_domain(name: str) -> None:
    assert list(subjects(registry.get(name))), f"{name} takes none of the tiny domains, so nothing was checked"
