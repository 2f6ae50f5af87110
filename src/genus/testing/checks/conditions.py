"""What a conditional model promises: it asks for its condition, and obeys all of it."""

import math
from functools import partial

import torch
from torch import Tensor

from genus.contract import GenerativeModel, HasLogProb, Likelihood
from genus.kinds import Parts
from genus.prob.noise import stream
from genus.testing.checks._common import SHAKES, AlienDomain, head, log_prob, raised
from genus.testing.statistics import require
from genus.testing.subjects import Subject


def check_condition_is_asked_for(subject: Subject) -> None:
    """A conditional model insists on its condition, as many as there are data and of its kind; one of the data alone
    refuses any."""
    model, foreign = subject.make(), partial(subject.model_class.tiny, subject.domain, AlienDomain())
    raised(ValueError, foreign)
    if subject.model_class.needs_condition:
        raised(ValueError, partial(subject.model_class.tiny, subject.domain))
    if subject.condition is None:
        raised(ValueError, partial(model.sample, 2, condition=torch.tensor([0, 1])))
        return
    two, three = subject.conditions(2), subject.conditions(3)
    assert two is not None
    wrong = torch.full(two.shape, subject.condition.levels or math.nan)
    for condition in (None, three, wrong, two.unsqueeze(-1)):
        raised(ValueError, partial(model.sample, 2, condition=condition))


def check_condition_changes_the_distribution(subject: Subject) -> None:
    """Another condition gives other samples from the same noise, and another log_prob."""
    obeys(subject, subject.conditions(64, 0), subject.conditions(64, 1), "the condition")


def check_every_part_of_a_condition_is_read(subject: Subject) -> None:
    """Of a condition of named parts, each part by itself changes samples and log_prob."""
    assert isinstance(subject.condition, Parts)
    one, other = subject.conditions(64, 0), subject.conditions(64, 1)
    assert one is not None and other is not None
    parts, others = subject.condition.split(one), subject.condition.split(other)
    for name in parts:
        changed = subject.condition.join({**parts, name: others[name]})
        obeys(subject, one, changed, f"the part {name!r} of the condition")


def obeys(subject: Subject, one: Tensor | None, other: Tensor | None, what: str) -> None:
    """Raise a `CheckError` unless samples and log_prob differ between two conditions ``(64, *shape)``."""

    def draw(model: GenerativeModel, condition: Tensor | None) -> Tensor:
        return model.sample(64, condition=condition, generator=stream("condition"))

    wild = [subject.make(shake=shake) for shake in SHAKES]
    obeyed = any(not torch.equal(draw(model, one), draw(model, other)) for model in wild)
    require(obeyed, f"samples do not change with {what}.")
    model, x = wild[0], subject.batch(16).x
    if isinstance(model, HasLogProb) and model.likelihood is not Likelihood.NONE:
        first, second = (log_prob(model, x, head(condition, 16)) for condition in (one, other))
        require(not torch.allclose(first, second, atol=1e-6), f"log_prob does not change with {what}.")
