"""What any model promises: its card, its refusals, samples that are data, and weights that can be saved."""

import math
from collections.abc import Callable
from functools import partial

import torch
from safetensors import torch as safetensors
from torch import Tensor

from genus import settings
from genus.contract import (
    ROLE_OF_METHOD,
    GenerativeModel,
    HasLatents,
    HasLogProb,
    IsConditional,
    Likelihood,
    name_of,
)
from genus.errors import CapabilityError, SettingsError
from genus.prob.noise import stream
from genus.testing.checks._common import SHAKES, AlienDomain, answers, raised, within
from genus.testing.statistics import CheckError, require
from genus.testing.subjects import LABELS, Subject


def check_card(subject: Subject) -> None:
    """A docstring, a paper with year and address, recipes, and a word on every setting."""
    cls = subject.model_class
    require(bool((cls.__doc__ or "").strip()), "the class has no docstring.")
    require(
        "(" in cls.paper and "http" in cls.paper, f"paper: expected authors (year), title, address; got {cls.paper}."
    )
    for name in ("quick", "paper"):
        require(name in cls.recipes, f"recipes: expected quick and paper; got {', '.join(cls.recipes) or 'none'}.")
    for name, recipe in cls.recipes.items():
        try:
            settings.validate(cls, recipe.settings, f"recipe {name}")
        except SettingsError as error:
            raise CheckError(str(error)) from None
    for name, field in settings.schema(cls).model_fields.items():
        require(bool(field.description), f"the setting {name!r} is not explained in the docstring's Args section.")
    for name, field in settings.schema(cls._sample).model_fields.items():
        explained = bool(field.description)
        require(explained, f"the option {name!r} of sample is not explained in its Args section.")
    model = subject.make()
    require(type(model).__name__ in repr(model), "repr does not name the class.")
    promised = issubclass(cls, HasLogProb)
    if not promised:
        require(model.likelihood is Likelihood.NONE, "a likelihood is claimed but HasLogProb is not signed.")


def check_refusals(subject: Subject) -> None:
    """What is not promised is refused with one clear `CapabilityError`; foreign domains too."""
    model = subject.make()
    name = name_of(model)
    for method, role in ROLE_OF_METHOD.items():
        if any(base.__name__ == role for base in type(model).__mro__):
            continue
        require(not hasattr(model, method), f"{method} exists but {role} is not signed.")
        message = raised(CapabilityError, partial(getattr, model, method))
        require(name in message and role in message, f"asked for {method}: the error names neither model nor role.")
    if isinstance(model, HasLogProb) and model.likelihood is Likelihood.NONE:
        x = subject.batch(2).x
        message = raised(CapabilityError, lambda: model.log_prob(x, condition=subject.conditions(2)))
        require(len(message) > 40, "a model without a likelihood does not say why it has none.")
    if not isinstance(model, IsConditional):
        raised(CapabilityError, lambda: subject.model_class.tiny(subject.domain, LABELS))
    raised(ValueError, lambda: subject.model_class.tiny(AlienDomain(), subject.condition))


def check_wrong_data(subject: Subject) -> None:
    """Data of the wrong shape or type are refused by name, not modelled."""
    model, x = subject.make(), subject.batch(2).x
    condition = subject.conditions(2)
    wrong: list[Tensor] = [x[..., :-1]]
    wrong.append(x.float() / 2 if subject.domain.discrete else x * math.nan)
    questions: list[Callable[[Tensor], object]] = []
    if isinstance(model, HasLogProb) and model.likelihood is not Likelihood.NONE:
        questions.append(partial(model.log_prob, condition=condition))
    if isinstance(model, HasLatents):
        questions.append(partial(model.encode, condition=condition))
    for ask in questions:
        for data in wrong:
            raised(ValueError, partial(ask, data))


def check_samples(subject: Subject) -> None:
    """Samples are data of the domain: shape, dtype and range, with no graph behind them."""
    model, domain = subject.make(), subject.domain
    for count in (1, 6):
        x = model.sample(count, condition=subject.conditions(count), generator=stream("samples", count))
        require(tuple(x.shape) == (count, *domain.shape), f"expected {(count, *domain.shape)}; got {tuple(x.shape)}.")
        require(x.dtype == domain.dtype, f"expected samples of dtype {domain.dtype}; got {x.dtype}.")
        require(not x.requires_grad, "samples carry a graph of gradients.")
        within(domain, x)


def check_same_generator_same_samples(subject: Subject) -> None:
    """Samples are a function of the generator: of all of it, and of nothing else. Of a model that says that it is
    deterministic they are a function of its condition."""

    def draw(model: GenerativeModel, seed: int) -> Tensor:
        return model.sample(32, condition=subject.same_condition(32), generator=stream("draw", seed))

    model, state = subject.make(), torch.get_rng_state()
    first, again = draw(model, 0), draw(model, 0)
    require(torch.equal(first, again), "the same generator state gave other samples.")
    require(torch.equal(state, torch.get_rng_state()), "sample drew from torch's global generator.")
    wild = [subject.make(shake=shake) for shake in SHAKES]
    if model.deterministic:
        require(model.needs_condition, "a deterministic model without a condition has one datum to give.")
        same = all(torch.equal(draw(model, 0), draw(model, 1)) for model in wild)
        require(same, "another generator gave other samples: the model is not deterministic.")
        return
    varied = any(not torch.equal(draw(model, 0), draw(model, 1)) for model in wild)
    require(varied, "another generator gave the same samples: it is ignored.")
    require(
        any(not (x == x[:1]).all() for x in (draw(model, 0) for model in wild)), "samples of one batch are the same."
    )


def check_save_and_load(subject: Subject) -> None:
    """A state dict, through safetensors, carries everything, in the middle of training as at its end: the loaded
    model gives the same numbers."""
    model, batch = subject.make(seed=0), subject.batch(8)
    for fraction in (1.0,) if type(model).progress is GenerativeModel.progress else (0.5, 1.0):
        model.progress(fraction)
        saved = safetensors.save({name: value.clone().contiguous() for name, value in model.state_dict().items()})
        loaded = subject.bare(seed=1)
        loaded.load_state_dict(safetensors.load(saved))
        found = answers(loaded, batch)
        for name, numbers in answers(model, batch).items():
            same = torch.equal(numbers, found[name])
            require(same, f"{name} differs after saving and loading (at {fraction:.0%} of training).")
