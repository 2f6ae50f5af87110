"""Registry x checks: being in the models folder is being tested."""

import pytest

from genus import registry
from genus.kinds import Grid, Vectors
from genus.testing import Subject, checks_for, subjects
from genus.testing.checks import Check

# They share all but process and loss with ddpm, or all but the loss with vae, which are checked on every domain.
SISTERS = {"edm", "flow_matching", "vdm", "iwae"}


def is_slow(name: str, subject: Subject) -> bool:
    """Whether a subject is left to `make test-all`: of sisters, all but one grid and, with labels, rows of numbers."""
    first = subject == next(subjects(subject.model_class))
    return name in SISTERS and not first and not isinstance(subject.domain, Vectors)


def all_pairs() -> list[pytest.param]:
    return [
        pytest.param(
            subject, check, id=f"{name}-{check.__name__.removeprefix('check_')}-{subject}",
            marks=[pytest.mark.slow] if is_slow(name, subject) else [],
        )
        for name in registry.names()
        for subject in subjects(registry.get(name))
        for check in checks_for(subject)
    ]  # fmt: skip


@pytest.mark.parametrize(("subject", "check"), all_pairs())
def test_contract(subject: Subject, check: Check) -> None:
    check(subject)


@pytest.mark.parametrize("name", registry.names())
def test_every_model_has_a_tiny_domain(name: str) -> None:
    assert list(subjects(registry.get(name))), f"{name} takes none of the tiny domains, so nothing was checked"


def test_codes_are_refused_by_models_that_read_levels_in_order() -> None:
    codes = Grid(1, (7, 7), 512, ordered=False)
    told = {name: registry.get(name).refuses(codes) for name in registry.names()}
    assert {name for name, said in told.items() if said and "codes have no order" in said} == {
        "pixelcnn_pp", "ppca", "glow", "nice", "realnvp", "ddpm", "dcgan", "edm",
        "flow_matching", "diffusion2015", "vdm",
    }  # fmt: skip
    assert told["gated_pixelcnn"] is None and told["vae"] is None
