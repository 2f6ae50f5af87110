"""Registry x checks: being in the models folder is being tested.

By default each check of a model runs on at most three subjects (`few`), chosen so that over all models and checks every
tiny domain and every kind of condition comes up; `make test-all` runs the whole product.
"""

from itertools import count

import pytest

from genus import registry
from genus.kinds import Grid, Vectors
from genus.testing import Subject, checks_for, subjects
from genus.testing.checks import Check
from genus.testing.subjects import few

# They share all but process and loss with ddpm, or all but the loss with vae: rows of numbers are enough.
SISTERS = {"edm", "flow_matching", "vdm", "iwae"}


def all_pairs() -> list[pytest.param]:
    places, pairs = count(), []
    for name in registry.names():
        by_check: dict[Check, list[Subject]] = {}
        for subject in subjects(registry.get(name)):
            for check in checks_for(subject):
                by_check.setdefault(check, []).append(subject)
        for check, found in by_check.items():
            chosen, label = few(found, next(places)), check.__name__.removeprefix("check_")
            if name in SISTERS:
                chosen = [s for s in found if isinstance(s.domain, Vectors)][:1] or chosen[:1]
            for subject in found:
                marks = [] if subject in chosen else [pytest.mark.slow]
                pairs.append(pytest.param(subject, check, id=f"{name}-{label}-{subject}", marks=marks))
    return pairs


PAIRS = all_pairs()


@pytest.mark.parametrize(("subject", "check"), PAIRS)
def test_contract(subject: Subject, check: Check) -> None:
    check(subject)


def test_the_default_suite_leaves_out_no_model_no_check_and_no_kind() -> None:
    every, default = (
        {(subject.model_class, check) for subject, check in (pair.values for pair in pairs)}
        for pairs in (PAIRS, [pair for pair in PAIRS if not pair.marks])
    )
    assert default == every
    domains, conditions = (
        [{getattr(pair.values[0], part) for pair in pairs} for pairs in (PAIRS, [p for p in PAIRS if not p.marks])]
        for part in ("domain", "condition")
    )
    assert domains[0] == domains[1]
    assert {type(condition) for condition in conditions[0]} == {type(condition) for condition in conditions[1]}


@pytest.mark.parametrize("name", registry.names())
def test_every_model_has_a_tiny_domain(name: str) -> None:
    assert list(subjects(registry.get(name))), f"{name} takes none of the tiny domains, so nothing was checked"


def test_codes_are_refused_by_models_that_read_levels_in_order() -> None:
    codes = Grid(1, (7, 7), 512, ordered=False)
    refusals = {name: registry.get(name).refuses(codes) for name in registry.names()}
    assert {name for name, sentence in refusals.items() if sentence and "codes have no order" in sentence} == {
        "pixelcnn_pp", "ppca", "glow", "nice", "realnvp", "ddpm", "dcgan", "edm",
        "flow_matching", "diffusion2015", "vdm",
    }  # fmt: skip
    assert refusals["gated_pixelcnn"] is None and refusals["vae"] is None
