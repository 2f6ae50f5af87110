"""The contract, checked: one short function a promise, in one file a role.

Every ``check_*(subject)`` builds tiny models of a `Subject` and raises a `CheckError` with a
sentence if a promise is broken. `checks_for` chooses the checks by the roles that the class
signs, so a model is tested for what it claims, neither less nor more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from genus import registry
from genus.contract import (
    FitsInClosedForm,
    GenerativeModel,
    HasConditionals,
    HasItemCodes,
    HasLatents,
    HasLogProb,
    HasPosterior,
    IsConditional,
    IsEditable,
    Likelihood,
)
from genus.testing.checks._common import Check
from genus.testing.checks.chain_rule import check_chain_rule, check_walks_are_independent
from genus.testing.checks.conditions import (
    check_condition_changes_the_distribution,
    check_condition_is_asked_for,
    check_every_part_of_a_condition_is_read,
)
from genus.testing.checks.editing import check_edit
from genus.testing.checks.item_codes import check_inference, check_item_codes
from genus.testing.checks.latents import check_decoder_distribution, check_latents, check_posterior
from genus.testing.checks.likelihood import (
    check_change_of_variables,
    check_float64,
    check_items_are_independent,
    check_log_prob,
    check_more_samples_are_tighter,
    check_samples_follow_density,
    check_samples_follow_log_prob,
    check_total_density,
    check_total_mass,
)
from genus.testing.checks.model import (
    check_card,
    check_refusals,
    check_same_generator_same_samples,
    check_samples,
    check_save_and_load,
    check_wrong_data,
)
from genus.testing.checks.training import (
    check_criterion,
    check_fit,
    check_gradients,
    check_learning,
    check_losses,
    check_parts,
    check_symptoms,
)
from genus.testing.statistics import CheckError
from genus.testing.subjects import Subject, subjects


@dataclass(frozen=True)
class Result:
    """What came of one check: ``check`` is its name with the subject; ``reason`` is empty if it passed."""

    check: str
    passed: bool
    reason: str = ""


def verify(name: str) -> list[Result]:
    """Every check of a registered model. Raises `UnknownModelError` for other names."""
    return check_model(registry.get(name))


def check_model(model_class: type[GenerativeModel], on: Iterable[Subject] | None = None) -> list[Result]:
    """Every check of a model class on every tiny domain and condition that it takes, or on subjects of your own."""
    chosen = subjects(model_class) if on is None else on
    return [run_check(check, subject) for subject in chosen for check in checks_for(subject)]


def run_check(check: Check, subject: Subject) -> Result:
    """Run one check; whatever the model raises is a failure with its message."""
    name = f"{check.__name__.removeprefix('check_')} [{subject}]"
    try:
        check(subject)
    except CheckError as error:
        return Result(name, False, str(error))
    except Exception as error:  # a foreign model may raise anything
        return Result(name, False, f"{type(error).__name__}: {error}")
    return Result(name, True)


def checks_for(subject: Subject) -> Iterator[Check]:
    """The checks that a subject's roles and domain call for."""
    cls, domain = subject.model_class, subject.domain
    if subject == next(subjects(cls), subject):  # about the class, so once is enough
        yield from (check_card, check_refusals)
    if subject.condition is None or cls.needs_condition:
        yield check_wrong_data
    yield from (check_samples, check_same_generator_same_samples, check_save_and_load)
    if issubclass(cls, FitsInClosedForm):
        yield check_fit
    else:
        yield from (check_losses, check_parts, check_criterion, check_symptoms, check_gradients, check_learning)
    if issubclass(cls, IsConditional):
        yield check_condition_is_asked_for
        if subject.condition is not None:
            yield check_condition_changes_the_distribution
        if subject.condition is not None and len(subject.condition.members) > 1:
            yield check_every_part_of_a_condition_is_read
    if issubclass(cls, HasLatents):
        yield check_latents
    if issubclass(cls, HasPosterior):
        yield check_posterior
        if domain.states <= 100:
            yield check_decoder_distribution
    if issubclass(cls, HasItemCodes):
        yield from (check_item_codes, check_inference)
    if issubclass(cls, IsEditable):
        yield check_edit
    if issubclass(cls, HasConditionals):
        yield from (check_chain_rule, check_walks_are_independent)
    if issubclass(cls, HasLogProb) and subject.bare().likelihood is not Likelihood.NONE:
        yield from (check_log_prob, check_items_are_independent)
        kind = subject.bare().likelihood
        if kind is Likelihood.EXACT:
            yield check_float64
        if kind is Likelihood.BOUND:
            yield check_more_samples_are_tighter
        if domain.states <= 100:
            yield check_total_mass
            if kind is not Likelihood.ESTIMATE:
                yield check_samples_follow_log_prob
        if not domain.discrete and domain.num_dims <= 2 and kind is not Likelihood.ESTIMATE:
            yield check_total_density
            if kind is Likelihood.EXACT:
                yield check_samples_follow_density
                if issubclass(cls, HasLatents) and not issubclass(cls, HasPosterior):
                    yield check_change_of_variables
