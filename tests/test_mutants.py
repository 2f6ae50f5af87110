"""The checks are checked: healthy toys pass everything, each mutant is caught by its check."""

import inspect

import pytest
import torch

from genus.kinds import Grid
from genus.testing import CheckError, checks, checks_for, run_check, subjects
from genus.testing.mutants import HEALTHY, MUTANTS, Chain, Mutant
from genus.testing.mutants.likelihood import LeakyMask
from genus.testing.oracles import all_states, check_causal


@pytest.mark.parametrize(
    "mutant", MUTANTS, ids=lambda m: f"{m.broken.model_class.__name__}-{m.check.__name__.removeprefix('check_')}"
)
def test_a_mutant_is_caught_and_its_twin_is_not(mutant: Mutant) -> None:
    mutant.check(mutant.healthy)
    with pytest.raises(CheckError):
        mutant.check(mutant.broken)


@pytest.mark.parametrize("model_class", HEALTHY, ids=lambda cls: cls.__name__)
def test_a_healthy_toy_passes_every_check(model_class: type) -> None:
    results = [run_check(check, subject) for subject in subjects(model_class) for check in checks_for(subject)]
    assert len(results) > 10
    assert [r for r in results if not r.passed] == []


def test_every_check_has_a_mutant() -> None:
    every = {name for name, _ in inspect.getmembers(checks, inspect.isfunction) if name.startswith("check_")}
    every -= {"check_model", "check_condition"}  # runs them all; the contract's own
    caught = {mutant.check.__name__ for mutant in MUTANTS}
    assert every <= caught, f"no mutant for {every - caught}"


@pytest.mark.parametrize(("model_class", "leaks"), [(Chain, False), (LeakyMask, True)])
def test_causality(model_class: type[Chain], leaks: bool) -> None:
    domain = Grid(1, (2, 2), 2)
    model = model_class(domain)
    torch.nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if leaks:
            with pytest.raises(CheckError, match="entry 0 moves the output for entry 0"):
                check_causal(model.logits, all_states(domain), 2)
        else:
            check_causal(model.logits, all_states(domain), 2)


def test_run_check_reports_instead_of_raising() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.check is checks.check_total_mass)
    result = run_check(mutant.check, mutant.broken)
    assert not result.passed
    assert "sum to" in result.reason
    assert run_check(mutant.check, mutant.healthy).passed
