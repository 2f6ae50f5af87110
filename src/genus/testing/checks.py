"""The contract, checked: one short function a promise.

Every ``check_*(subject)`` builds tiny models of a `Subject` and raises a `CheckError` with a
sentence if a promise is broken. `checks_for` chooses the checks by the roles that the class
signs, so a model is tested for what it claims, neither less nor more.
"""

import copy
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from safetensors import torch as safetensors
from torch import Tensor

from genus import registry, settings
from genus.contract import (
    ROLE_OF_METHOD,
    Batch,
    FitsInClosedForm,
    GenerativeModel,
    HasConditionals,
    HasLatents,
    HasLogProb,
    HasPosterior,
    IsConditional,
    IsEditable,
    Likelihood,
    Losses,
    batches,
    name_of,
)
from genus.errors import CapabilityError, SettingsError, brief
from genus.kinds import Discrete, Domain, Vectors
from genus.prob import gaussian, noise
from genus.prob.noise import stream
from genus.prob.posterior import Certain, DiagonalNormal
from genus.recipe import Recipe
from genus.testing import oracles
from genus.testing.statistics import LARGEST_Z, CheckError, constant_noise, require, z_of_counts, z_of_mean
from genus.testing.subjects import LABELS, Subject, subjects

Check = Callable[[Subject], None]
SHAKES = (0.1, 1.0)  # an untrained network may say little; a strongly shaken one must show what it reads


@dataclass(frozen=True)
class Result:
    """What came of one check: ``check`` is its name with the subject; ``reason`` is empty if it passed."""

    check: str
    passed: bool
    reason: str = ""


def verify(name: str) -> list[Result]:
    """Every check of a registered model. Raises `UnknownModelError` for other names."""
    return check_model(registry.get(name))


def check_model(model_class: type[GenerativeModel]) -> list[Result]:
    """Every check of a model class on every tiny domain that it takes."""
    return [run_check(check, subject) for subject in subjects(model_class) for check in checks_for(subject)]


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
    cls, domain, labelled = subject.model_class, subject.domain, subject.condition is not None
    if subject == next(subjects(cls), subject):  # about the class, so once is enough
        yield from (check_card, check_refusals)
    if not labelled:
        yield check_wrong_data
    yield from (check_samples, check_same_generator_same_samples, check_save_and_load)
    if issubclass(cls, FitsInClosedForm):
        yield check_fit
    else:
        yield from (check_losses, check_parts, check_criterion, check_symptoms, check_gradients, check_learning)
    if issubclass(cls, IsConditional):
        yield check_condition_is_asked_for
        if labelled:
            yield check_condition_changes_the_distribution
    if issubclass(cls, HasLatents):
        yield check_latents
    if issubclass(cls, HasPosterior):
        yield check_posterior
        if isinstance(domain, Discrete) and domain.levels**domain.num_dims <= 100:
            yield check_decoder_distribution
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
        if isinstance(domain, Discrete) and domain.levels**domain.num_dims <= 100:
            yield check_total_mass
            if kind is not Likelihood.ESTIMATE:
                yield check_samples_follow_log_prob
        if isinstance(domain, Vectors) and domain.features <= 2 and kind is not Likelihood.ESTIMATE:
            yield check_total_density
            if kind is Likelihood.EXACT:
                yield check_samples_follow_density
                if issubclass(cls, HasLatents) and not issubclass(cls, HasPosterior):
                    yield check_change_of_variables


# -- any model ------------------------------------------------------------------------------


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
        message = raised(CapabilityError, lambda: model.log_prob(x))
        require(len(message) > 40, "a model without a likelihood does not say why it has none.")
    if not isinstance(model, IsConditional):
        raised(CapabilityError, lambda: subject.model_class.tiny(subject.domain, LABELS))
    raised(ValueError, lambda: subject.model_class.tiny(AlienDomain()))


def check_wrong_data(subject: Subject) -> None:
    """Data of the wrong shape or type are refused by name, not modelled."""
    model, x = subject.make(), subject.batch(2).x
    wrong: list[Tensor] = [x[..., :-1]]
    wrong.append(x.float() / 2 if subject.domain.discrete else x * math.nan)
    questions: list[Callable[[Tensor], object]] = []
    if isinstance(model, HasLogProb) and model.likelihood is not Likelihood.NONE:
        questions.append(model.log_prob)
    if isinstance(model, HasLatents):
        questions.append(model.encode)
    for ask in questions:
        for data in wrong:
            raised(ValueError, partial(ask, data))


def check_samples(subject: Subject) -> None:
    """Samples are data of the domain: shape, dtype and range, with no graph behind them."""
    model, domain = subject.make(), subject.domain
    for count in (1, 6):
        x = model.sample(count, condition=subject.labels(count), generator=stream("samples", count))
        require(tuple(x.shape) == (count, *domain.shape), f"expected {(count, *domain.shape)}; got {tuple(x.shape)}.")
        require(x.dtype == domain.dtype, f"expected samples of dtype {domain.dtype}; got {x.dtype}.")
        require(not x.requires_grad, "samples carry a graph of gradients.")
        within(domain, x)


def check_same_generator_same_samples(subject: Subject) -> None:
    """Samples are a function of the generator: of all of it, and of nothing else."""

    def draw(model: GenerativeModel, seed: int) -> Tensor:
        return model.sample(32, condition=subject.labels(32), generator=stream("draw", seed))

    model, state = subject.make(), torch.get_rng_state()
    first, again = draw(model, 0), draw(model, 0)
    require(torch.equal(first, again), "the same generator state gave other samples.")
    require(torch.equal(state, torch.get_rng_state()), "sample drew from torch's global generator.")
    wild = [subject.make(shake=shake) for shake in SHAKES]
    varied = any(not torch.equal(draw(model, 0), draw(model, 1)) for model in wild)
    require(varied, "another generator gave the same samples: it is ignored.")
    of_one_class = [draw(model, 0)[:: len(LABELS.names)] for model in wild]
    require(any(not (x == x[:1]).all() for x in of_one_class), "samples of one batch are all the same.")


def check_losses(subject: Subject) -> None:
    """Each player's losses are finite, one number a datum, and a function of the generator."""
    model, batch = subject.make(), subject.batch()
    state = torch.get_rng_state()
    for player in model.players():
        losses, again = (player.losses(batch, stream("losses")) for _ in range(2))
        require("loss" in losses, f"player {player.name}: no term is called 'loss'; got {', '.join(losses)}.")
        for name, term in losses.items():
            where = f"player {player.name}, term {name!r}"
            require(tuple(term.shape) == (len(batch.x),), f"{where}: expected shape (B,); got {tuple(term.shape)}.")
            require(bool(term.isfinite().all()), f"{where}: not finite.")
            require(torch.equal(term, again[name]), f"{where}: the same generator gave another value.")
    require(torch.equal(state, torch.get_rng_state()), "losses drew from torch's global generator in eval mode.")


def check_parts(subject: Subject) -> None:
    """A batch worked off in two parts, as by two processes, has the losses that the whole has."""
    model, batch = subject.make(), subject.batch(8)
    for player in model.players():
        whole, parts = player.losses(batch, stream("parts")), []
        for number in range(2):
            with noise.part_of(number, 2):
                parts.append(player.losses(batch.part(number, 2), stream("parts")))
        for name, term in whole.items():
            joined = torch.cat([part[name] for part in parts])
            close(
                term.detach(),
                joined.detach(),
                f"player {player.name}, term {name!r}: in two parts, the draws are others",
            )


def check_criterion(subject: Subject) -> None:
    """What ranks checkpoints is one finite number a datum, the same at every stage of training.

    A loss whose weights warm up would rank the first checkpoint best.
    """
    model, batch = subject.make(), subject.batch(8)
    found = []
    for fraction in (0.0, 0.5, 1.0):
        model.progress(fraction)
        with torch.no_grad():
            found.append(model.criterion(batch, stream("criterion")))
    early, _, late = found
    if early is None or late is None:
        require(all(value is None for value in found), "criterion is None at some stages of training only.")
        return
    require(tuple(late.shape) == (8,) and bool(late.isfinite().all()), f"expected 8 finite numbers; got {late}.")
    close(early, late, "the criterion depends on the stage of training")


def check_symptoms(subject: Subject) -> None:
    """Looking for symptoms changes nothing, draws from its generator only, takes a single datum too,
    and every cure names settings that there are."""
    known = settings.schema(subject.model_class).model_fields.keys() | Recipe.model_fields.keys()
    for shake in SHAKES:
        model, state = subject.make(shake=shake), torch.get_rng_state()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            found, again = (model.symptoms(subject.batch(32), stream("symptoms")) for _ in range(2))
            single = model.symptoms(subject.batch(1), stream("symptoms"))
        require(found == again, "the same generator state gave other symptoms.")
        require(torch.equal(state, torch.get_rng_state()), "symptoms drew from torch's global generator.")
        changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
        require(not changed, f"looking for symptoms changed {', '.join(changed)}.")
        for symptom in (*found, *single):
            complete = all((symptom.name, symptom.seen, symptom.cure))
            require(complete, f"a symptom needs a name, what was seen and a cure; got {symptom!r}.")
            flags = {flag.replace("-", "_") for flag in re.findall(r"--([a-z][a-z-]*[a-z])", symptom.cure)}
            require(flags <= known, f"{symptom.name}: the cure names {', '.join(sorted(flags - known))}, no setting.")


def check_gradients(subject: Subject) -> None:
    """Every parameter has a player, and a finite gradient that is not zero."""
    model, batch = subject.make().train(), subject.batch(64)
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    moved = {id(p) for player in model.players() for p in player.parameters}
    orphans = [name for key, name in names.items() if key not in moved]
    require(not orphans, f"no player moves {', '.join(orphans)}.")
    for player in model.players():
        model.zero_grad()
        for seed in range(2):
            mean_loss(player.losses(batch, stream("gradients", seed))).backward()
        for parameter in player.parameters:
            name, gradient = names.get(id(parameter), "a parameter that the model does not hold"), parameter.grad
            require(gradient is not None, f"player {player.name}: {name} gets no gradient.")
            assert gradient is not None
            require(bool(gradient.isfinite().all()), f"player {player.name}: the gradient of {name} is not finite.")
            require(bool(gradient.any()), f"player {player.name}: the gradient of {name} is zero everywhere.")


def check_learning(subject: Subject) -> None:
    """Each player's loss falls on one batch with its noise held fixed."""
    batch = subject.batch(16)
    for k in range(len(subject.make().players())):
        model = subject.make()
        player = model.players()[k]
        optimizer = torch.optim.Adam(player.parameters, lr=3e-3)
        history = []
        for _ in range(25):
            loss = mean_loss(player.losses(batch, stream("learning")))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        require(min(history[-5:]) < history[0], f"player {player.name}: the loss went {history[0]} to {history[-1]}.")


def check_save_and_load(subject: Subject) -> None:
    """A state dict, through safetensors, carries everything: the loaded model gives the same numbers."""
    model = subject.make(seed=0)
    saved = safetensors.save({name: value.clone().contiguous() for name, value in model.state_dict().items()})
    loaded = subject.bare(seed=1)
    loaded.load_state_dict(safetensors.load(saved))
    batch = subject.batch(8)
    for name, numbers in answers(model, batch).items():
        require(torch.equal(numbers, answers(loaded, batch)[name]), f"{name} differs after saving and loading.")


# -- likelihood -----------------------------------------------------------------------------


def check_log_prob(subject: Subject) -> None:
    """log p(x) is one finite number of nats a datum, and a function of the generator."""
    model, batch = subject.make(), subject.batch(16)
    state = torch.get_rng_state()
    first, again = (log_prob(model, batch.x, batch.condition, 2, stream("log_prob")) for _ in range(2))
    require(tuple(first.shape) == (16,), f"expected shape (B,) = (16,); got {tuple(first.shape)}.")
    require(bool(first.isfinite().all()), "log_prob is not finite on training data.")
    require(torch.equal(first, again), "the same generator gave another log_prob.")
    require(torch.equal(state, torch.get_rng_state()), "log_prob drew from torch's global generator.")
    if model.likelihood is Likelihood.EXACT:
        other = log_prob(model, batch.x, batch.condition, 1, stream("another"))
        require(torch.allclose(first, other), "an exact log_prob changes with the generator or num_samples.")
    if subject.domain.discrete and model.likelihood is Likelihood.EXACT:
        require(bool((first < 1e-4).all()), f"a probability above one: log_prob = {float(first.max()):.4f}.")


def check_items_are_independent(subject: Subject) -> None:
    """Neither the order nor the size of a batch moves a datum's log_prob."""
    model, batch = subject.make(), subject.batch(12)
    x, condition, order = batch.x, batch.condition, torch.arange(11, -1, -1)

    def of(items: Tensor) -> Tensor:
        return log_prob(model, x[items], None if condition is None else condition[items])

    with constant_noise():
        whole, turned = of(torch.arange(12)), of(order)
        single = [of(torch.tensor([i])) for i in range(4)]
    close(turned[order], whole, "log_prob depends on the order of the batch")
    close(torch.cat(single), whole[:4], "log_prob depends on the size of the batch")


def check_float64(subject: Subject) -> None:
    """In float64 an exact log_prob is the same number, only finer."""
    batch = subject.batch(8)
    single = log_prob(subject.make(), batch.x, batch.condition)
    double = subject.make().double()
    x = batch.x if subject.domain.discrete else batch.x.double()
    numbers = double.log_prob(x, condition=batch.condition)
    close(numbers.detach().double(), single, "float32 and float64 disagree about log_prob")


def check_more_samples_are_tighter(subject: Subject) -> None:
    """A bound does not fall, on average, when it is given more samples."""
    large = (
        subject.domain.num_dims * (subject.domain.levels or 1) > 1000
    )  # a distribution of many levels an entry takes long
    model, batch, repeats = subject.make(), subject.batch(3 if large else 6), 16 if large else 48
    one, many = (repeated_log_prob(model, batch.x, batch.condition, k, repeats).mean(1) for k in (1, 8))
    z = z_of_mean(many - one, 0.0)
    require(z > -LARGEST_Z, f"8 samples give a looser bound than one: {many.mean():.4f} < {one.mean():.4f} ({z=:.1f}).")


def check_total_mass(subject: Subject) -> None:
    """The probabilities of all states sum to one if exact, to no more if a bound."""
    assert isinstance(subject.domain, Discrete)
    model, states = subject.make(), oracles.all_states(subject.domain)
    for label in range(subject.condition.count if subject.condition else 1):
        condition = None if subject.condition is None else torch.full((len(states),), label)
        if model.likelihood is Likelihood.EXACT:
            for instance, largest in ((model, 1e-6), (copy.deepcopy(model).double(), 1e-12)):
                total = float(log_prob(instance, states, condition).double().exp().sum())
                off = f"the probabilities of all {len(states)} states sum to {total:.13f}, not 1"
                require(abs(total - 1) < largest, f"{off} (to {largest:g}).")
        else:
            nats = repeated_log_prob(model, states, condition, 4, repeats=64)
            if model.likelihood is Likelihood.ESTIMATE:  # in nats without bias, so the mean goes before the exponential
                p = nats.mean(0).exp()
                mean, error = float(p.sum()), float((p * nats.std(0) / 8).norm())
                z = (mean - 1) / max(error, 1e-6)
            else:
                totals = nats.exp().sum(1)
                z, mean = z_of_mean(totals, 1.0), float(totals.mean())
            kind = "bounds" if model.likelihood is Likelihood.BOUND else "estimates"
            require(z < LARGEST_Z, f"the {kind} of all states sum to {mean:.4f}, above 1 ({z=:.1f}).")


def check_samples_follow_log_prob(subject: Subject) -> None:
    """How often each state is drawn agrees with its exact probability; a bound never exceeds it."""
    assert isinstance(subject.domain, Discrete)
    model, states, draws = subject.make(), oracles.all_states(subject.domain), 4096
    of_class = None if subject.condition is None else torch.ones(draws, dtype=torch.int64)
    with torch.no_grad():
        x = model.sample(draws, condition=of_class, generator=stream("frequencies"))
    counts = torch.bincount(oracles.state_index(x, subject.domain), minlength=len(states))
    given = None if of_class is None else of_class[: len(states)]
    if model.likelihood is Likelihood.EXACT:
        z = z_of_counts(counts, log_prob(model, states, given).exp())
        require(z < LARGEST_Z, f"samples do not follow log_prob (chi-square {z=:.1f}).")
        return
    repeats = 48
    nats = repeated_log_prob(model, states, given, 1, repeats)
    p = nats.mean(0).exp()
    blur = p * nats.std(0) / math.sqrt(repeats)  # the standard error of p
    error = torch.sqrt(p.clamp(max=1) * (1 - p.clamp(max=1)) / draws + blur**2).clamp(min=1 / draws)
    above = float(((p - counts / draws) / error).max())
    require(above < LARGEST_Z, f"a bound lies above the frequency of its state (z={above:.1f}).")


def check_total_density(subject: Subject) -> None:
    """The density integrates to one (a bound to no more), by importance sampling under wide tails."""
    model, draws = subject.make(), 8192
    condition = None if subject.condition is None else torch.ones(draws, dtype=torch.int64)
    exact = model.likelihood is Likelihood.EXACT
    typical = model.sample(1024, condition=head(condition, 1024), generator=stream("mode"))
    proposal = Proposal.around(typical if exact else subject.split.x, degrees=3, widen=1.5)
    x = proposal.sample(draws, stream("density"))
    nats = log_prob(model, x.float(), condition, 4, stream("density", 1))
    weights = (nats - proposal.log_prob(x)).exp()
    z, mean = z_of_mean(weights, 1.0), float(weights.mean())
    require(z < LARGEST_Z, f"the density integrates to {mean:.4f}, above 1 ({z=:.1f}).")
    require(not exact or z > -LARGEST_Z, f"the density integrates to {mean:.4f}, below 1 ({z=:.1f}).")


def check_samples_follow_density(subject: Subject) -> None:
    """Samples come from the density that log_prob states: the mean of q(x) / p(x) over them is one.

    q is a narrow normal density among the samples.
    """
    model, draws = subject.make(), 8192
    condition = None if subject.condition is None else torch.ones(draws, dtype=torch.int64)
    with torch.no_grad():
        x = model.sample(draws, condition=condition, generator=stream("inside"))
    narrow = Proposal.around(x, degrees=None, widen=0.5)
    ratios = (narrow.log_prob(x.double()) - log_prob(model, x, condition)).exp()
    z, mean = z_of_mean(ratios, 1.0), float(ratios.mean())
    require(abs(z) < LARGEST_Z, f"samples are not where the density is: E[q/p] = {mean:.4f}, not 1 ({z=:.1f}).")


def check_change_of_variables(subject: Subject) -> None:
    """log p(x) = log N(z; 0, 1) + log |det dz/dx| for z = encode(x), the Jacobian by central differences."""
    model, batch, h = subject.make().double(), subject.batch(8), 1e-5
    assert isinstance(model, HasLatents)
    x = batch.x.double()

    def encode(x: Tensor) -> Tensor:
        return model.encode(x, condition=batch.condition).detach().flatten(1)

    z = encode(x)
    require(z.shape == x.shape, f"expected a code of the datum's own size; got {tuple(z.shape)}.")
    steps = h * torch.eye(x.shape[1], dtype=torch.float64)
    jacobian = torch.stack([(encode(x + step) - encode(x - step)) / (2 * h) for step in steps], -1)
    expected = gaussian.log_prob(z, torch.zeros(()), torch.zeros(())).sum(1) + jacobian.slogdet()[1]
    close(log_prob(model, x, batch.condition), expected, "log_prob is not the change of variables by encode", 1e-6)


# -- other roles ----------------------------------------------------------------------------


def check_fit(subject: Subject) -> None:
    """The closed-form fit raises the likelihood of its data, and fitting twice is fitting once."""
    model, everything = subject.bare(), next(batches(subject.split, len(subject.split)))
    assert isinstance(model, FitsInClosedForm)
    before = log_prob(model, everything.x, everything.condition).mean()
    model.fit(subject.split)
    after = log_prob(model, everything.x, everything.condition)
    require(bool(after.mean() > before), f"the fit moved the mean log_prob from {before:.4f} to {after.mean():.4f}.")
    model.fit(subject.split)
    require(torch.equal(after, log_prob(model, everything.x, everything.condition)), "a second fit changed the model.")


def check_latents(subject: Subject) -> None:
    """Codes are deterministic, one a datum; decoding gives data; an invertible model gives its own back."""
    model, batch = subject.make(), subject.batch(8)
    assert isinstance(model, HasLatents)
    z, again = (model.encode(batch.x, condition=batch.condition).detach() for _ in range(2))
    require(len(z) == 8 and bool(z.isfinite().all()), f"expected 8 finite codes; got shape {tuple(z.shape)}.")
    require(torch.equal(z, again), "encoding the same data twice gave other codes.")
    require(not torch.equal(z[:4], z[4:]), "different data have the same codes.")
    x, x_again = (model.decode(z, condition=batch.condition).detach() for _ in range(2))
    require(torch.equal(x, x_again), "decoding the same codes twice gave other data.")
    require(
        tuple(x.shape) == tuple(batch.x.shape), f"decoded data: expected {tuple(batch.x.shape)}; got {tuple(x.shape)}."
    )
    require(x.dtype == subject.domain.dtype, f"decoded data: expected dtype {subject.domain.dtype}; got {x.dtype}.")
    within(subject.domain, x)
    invertible = isinstance(model, HasLogProb) and model.likelihood is Likelihood.EXACT
    if invertible and not isinstance(model, HasPosterior):
        close(x.double(), batch.x.double(), "an invertible model does not give its data back", 1e-3)


def check_posterior(subject: Subject) -> None:
    """Draws from q(z|x) are latents, and as likely as its log_prob says: certain codes have log q = 0, a diagonal
    normal distribution's mean log q is minus its entropy."""
    model, batch, draws = subject.make(), subject.batch(8), 512
    assert isinstance(model, HasPosterior)
    with torch.no_grad():
        q = model.posterior(batch.x, batch.condition)
        z = q.sample(draws, stream("posterior"))
        log_q = q.log_prob(z)
    latents = (draws, 8, *model.latent_domain.shape)
    require(tuple(z.shape) == latents, f"draws of latents: expected shape {latents}; got {tuple(z.shape)}.")
    within(model.latent_domain, z.flatten(0, 1))
    require(tuple(log_q.shape) == latents[:2], f"log q: expected shape {latents[:2]}; got {tuple(log_q.shape)}.")
    if isinstance(q, DiagonalNormal):
        entropy = 0.5 * (q.log_var.double() + math.log(2 * math.pi * math.e)).sum(1)
        score = z_of_mean((log_q.double() + entropy).mean(1), 0.0)
        require(abs(score) < LARGEST_Z, f"the mean of log q over its draws is not minus its entropy (z={score:.1f}).")
    elif isinstance(q, Certain):
        require(not log_q.any(), "certain latents: expected log q = 0.")
    if model.standard_prior:
        z = 3 * noise.normal((8, *model.latent_shape), stream("prior"))
        with torch.no_grad():
            given = model.log_prior(z, batch.condition)
        expected = gaussian.log_prob(z, z.new_zeros(()), z.new_zeros(())).sum(1)
        close(given, expected, "a prior that promises to be N(0, I) has another density")


def check_decoder_distribution(subject: Subject) -> None:
    """p(x|z) sums to one over all states and is what `generate` draws from; p(x|z) p(z) / q(z|x), averaged over
    draws from q, sums to no more than one."""
    assert isinstance(subject.domain, Discrete)
    model, states, draws = subject.make(), oracles.all_states(subject.domain), 4096
    assert isinstance(model, HasPosterior)
    if model.decoder_likelihood is Likelihood.NONE:
        return
    labels = subject.labels(3)
    for instance, largest in ((copy.deepcopy(model).double(), 1e-12), (model, 1e-6)):
        with torch.no_grad():
            z = instance.posterior(subject.batch(3).x, labels).sample(1, stream("given"))[0]
        for row in range(len(z)):
            of_all = None if labels is None else labels[row].expand(len(states))
            with torch.no_grad():
                p = instance.log_likelihood(states, z[row].expand(len(states), *z[row].shape), of_all).double().exp()
            require(abs(float(p.sum()) - 1) < largest, f"p(x|z) sums to {float(p.sum()):.13f}, not 1 (to {largest:g}).")
    of_draws = None if labels is None else labels[-1].expand(draws)
    with torch.no_grad():
        x = model.generate(z[-1].expand(draws, *z[-1].shape), of_draws, stream("generate"))
        counts = torch.bincount(oracles.state_index(x, subject.domain), minlength=len(states))
        q = model.posterior(states, of_all)
        weights = model.log_weight(states, q.sample(64, stream("weights")), q, of_all).double().exp()
    score = z_of_counts(counts, p)
    require(score < LARGEST_Z, f"generate does not draw from p(x|z) (chi-square z={score:.1f}).")
    score, mean = z_of_mean(weights.sum(1), 1.0), float(weights.sum(1).mean())
    require(score < LARGEST_Z, f"the weights of all states sum to {mean:.4f}, above 1 (z={score:.1f}).")


def check_condition_is_asked_for(subject: Subject) -> None:
    """A conditional model insists on its condition, an unconditional one refuses it."""
    model = subject.make()
    if subject.condition is None:
        raised(ValueError, lambda: model.sample(2, condition=torch.tensor([0, 1])))
    else:
        raised(ValueError, lambda: model.sample(2))
        raised(ValueError, lambda: model.sample(2, condition=torch.tensor([0, 1, 2])))
        raised(ValueError, lambda: model.sample(2, condition=torch.tensor([0, 99])))


def check_condition_changes_the_distribution(subject: Subject) -> None:
    """Another label gives other samples from the same noise, and another log_prob."""

    def draw(model: GenerativeModel, start: int) -> Tensor:
        return model.sample(64, condition=subject.labels(64, start), generator=stream("condition"))

    wild = [subject.make(shake=shake) for shake in SHAKES]
    obeyed = any(not torch.equal(draw(model, 0), draw(model, 1)) for model in wild)
    require(obeyed, "samples do not change with the condition.")
    model, x = wild[0], subject.batch(16).x
    if isinstance(model, HasLogProb) and model.likelihood is not Likelihood.NONE:
        one, other = (log_prob(model, x, subject.labels(16, start)) for start in (0, 1))
        require(not torch.allclose(one, other, atol=1e-6), "log_prob does not change with the condition.")


def check_edit(subject: Subject) -> None:
    """Kept entries come back bit for bit, the others are redrawn, and the input is left alone."""
    model, batch = subject.make(), subject.batch(32)
    assert isinstance(model, IsEditable)
    x, condition = batch.x, batch.condition
    keep = noise.uniform(tuple(x.shape), stream("keep")) < 0.5
    if not subject.domain.discrete:
        keep = keep[..., :1].expand(x.shape)  # whole points
    before = x.clone()
    edited, again, other = (
        model.edit(x, keep, condition=condition, generator=stream("edit", seed)).detach() for seed in (0, 0, 1)
    )
    require(torch.equal(x, before), "edit changed its input in place.")
    require(edited.dtype == x.dtype and edited.shape == x.shape, "an edited datum has another shape or dtype.")
    within(subject.domain, edited)
    changed = int((edited[keep] != x[keep]).sum())
    require(changed == 0, f"{changed} of {int(keep.sum())} kept entries changed.")
    require(torch.equal(edited, again), "the same generator gave another edit.")
    require(not torch.equal(edited, other), "another generator gave the same edit: nothing is redrawn.")
    everything = model.edit(x, torch.ones_like(keep), condition=condition, generator=stream("edit"))
    require(torch.equal(everything, x), "keeping everything did not return the datum.")


def check_chain_rule(subject: Subject) -> None:
    """The walk comes to each place once, with a logit for each level, and the entries' log-probabilities sum to
    log p(x): to 1e-4 in float32, to 1e-9 in float64."""
    domain, batch = subject.domain, subject.batch(8)
    assert isinstance(domain, Discrete)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        model = subject.make().to(dtype)
        places, nats = [], torch.zeros(8, dtype=torch.float64)
        for place, logits, entry in walked(model, batch):
            expected = (8, domain.levels)
            require(tuple(logits.shape) == expected, f"logits: expected shape {expected}; got {tuple(logits.shape)}.")
            nats += logits.double().log_softmax(-1).gather(-1, entry.unsqueeze(-1)).squeeze(-1)
            places.append(place)
        strangers = sorted(set(range(domain.num_dims)) ^ set(places))
        require(not strangers, f"places that the walk leaves out or makes up: {brief(strangers)}.")
        require(len(places) == domain.num_dims, f"{len(places)} steps for {domain.num_dims} places: some come twice.")
        with torch.no_grad():
            expected_nats = model.log_prob(batch.x, condition=batch.condition).double()
        close(nats, expected_nats, f"in {dtype}, the chain rule does not give log_prob", tolerance)


def check_walks_are_independent(subject: Subject) -> None:
    """The logits of a step are a function of what was sent before it in *this* walk.

    Two walks take turns, the second with other data from some step on: up to that step both give the same bits,
    and the first gives the bits that it gives alone. Logits stay as they are after they were given.
    """
    batch, levels = subject.batch(8), subject.domain.levels
    assert levels is not None
    other = batch._replace(x=((batch.x.long() + 1) % levels).to(batch.x.dtype))
    model = subject.make(shake=SHAKES[-1])
    alone = [(place, logits.clone()) for place, logits, _ in walked(model, batch)]
    for turn in {0, len(alone) // 2, len(alone) - 1}:
        both = list(zip(walked(model, batch), walked(model, batch, other, turn), strict=True))
        for step, ((place, logits), (one, two)) in enumerate(zip(alone, both, strict=True)):
            where = f"step {step}, place {place}"
            require(one[0] == two[0] == place, f"{where}: other data are read in another order.")
            same = torch.equal(one[1], logits)
            require(same, f"{where}: the logits change with another walk, or after they were given.")
            known = step > turn or torch.equal(two[1], logits)
            require(known, f"{where}: the logits depend on what is sent later, or in another walk.")


# -- helpers --------------------------------------------------------------------------------


@dataclass(frozen=True)
class AlienDomain(Domain):
    """A domain that no model knows."""

    kind = "alien"
    plural = "aliens"
    dtype = torch.float32

    @property
    def shape(self) -> tuple[int, ...]:
        """Two numbers."""
        return (2,)

    @property
    def levels(self) -> None:
        """Continuous."""
        return None


def raised(kind: type[Exception], ask: Callable[[], object]) -> str:
    """The message of the ``kind`` of error that ``ask`` must raise."""
    try:
        ask()
    except kind as error:
        return str(error)
    except Exception as error:
        raise CheckError(f"expected a {kind.__name__}; got {type(error).__name__}: {error}") from error
    raise CheckError(f"expected a {kind.__name__}; nothing was raised.")


def within(domain: Domain, x: Tensor) -> None:
    """Raise a `CheckError` unless ``x`` are data of the domain."""
    try:
        domain.check(x)
    except ValueError as error:
        raise CheckError(str(error)) from None


def close(a: Tensor, b: Tensor, message: str, tolerance: float = 1e-4) -> None:
    """Raise a `CheckError` unless two tensors agree to ``tolerance`` of their size."""
    gap = float((a - b).abs().max())
    size = 1 + float(b.abs().max())
    require(gap <= tolerance * size, f"{message}: by up to {gap:.2e} where numbers reach {size - 1:.2e}.")


def mean_loss(losses: Losses) -> Tensor:
    """What training minimises."""
    return losses["loss"].mean()


def log_prob(
    model: GenerativeModel,
    x: Tensor,
    condition: Tensor | None = None,
    num_samples: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`HasLogProb.log_prob` without gradients, in float64."""
    generator = generator if generator is not None else stream("log_prob")
    with torch.no_grad():
        return model.log_prob(x, condition=condition, num_samples=num_samples, generator=generator).double()


def walked(
    model: GenerativeModel, batch: Batch, other: Batch | None = None, turn: int = 0
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The steps of a walk through a batch, and from step ``turn`` on through another: place, logits, entry."""
    assert isinstance(model, HasConditionals)
    walk, step = model.chain_rule(len(batch.x), condition=batch.condition), 0
    answer: tuple[int, Tensor] | None = next(walk)
    while answer is not None:
        place, logits = answer
        x = batch.x if other is None or step < turn else other.x
        require(0 <= place < x[0].numel(), f"the walk comes to place {place} of {x[0].numel()}.")
        entry = x.flatten(1)[:, place].long()
        yield place, logits.detach(), entry
        try:
            answer, step = walk.send(entry.clone()), step + 1
        except StopIteration:
            answer = None


def repeated_log_prob(
    model: GenerativeModel, x: Tensor, condition: Tensor | None, num_samples: int, repeats: int
) -> Tensor:
    """``repeats`` independent draws of a random log_prob, in one batch: ``(repeats, B)``."""
    many = x.repeat(repeats, *[1] * (x.ndim - 1))
    given = None if condition is None else condition.repeat(repeats)
    return log_prob(model, many, given, num_samples).view(repeats, len(x))


def head(tensor: Tensor | None, count: int) -> Tensor | None:
    """The first rows, where there is a tensor."""
    return None if tensor is None else tensor[:count]


def answers(model: GenerativeModel, batch: Batch) -> dict[str, Tensor]:
    """Everything that a model says about a batch, by name."""
    said = {"sample": model.sample(len(batch.x), condition=batch.condition, generator=stream("answer"))}
    if isinstance(model, HasLogProb) and model.likelihood is not Likelihood.NONE:
        said["log_prob"] = log_prob(model, batch.x, batch.condition)
    if isinstance(model, HasLatents):
        said["encode"] = model.encode(batch.x, condition=batch.condition)
    return said


@dataclass(frozen=True)
class Proposal:
    """A bell around some data: multivariate t with ``degrees`` of freedom, or normal for None."""

    mean: Tensor
    factor: Tensor
    degrees: int | None

    @classmethod
    def around(cls, x: Tensor, degrees: int | None, widen: float) -> "Proposal":
        """The bell with the mean of ``x`` and ``widen`` times its spread."""
        x = x.double()
        covariance = torch.cov(x.T).reshape(x.shape[1], x.shape[1])
        return cls(x.mean(0), widen * torch.linalg.cholesky(covariance), degrees)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` draws in float64."""
        eps = noise.normal((count, len(self.mean)), generator, dtype=torch.float64)
        if self.degrees is not None:
            normals = noise.normal((count, self.degrees), generator, dtype=torch.float64)
            eps = eps / normals.square().mean(1, keepdim=True).sqrt()  # a chi-square over its degrees
        return self.mean + eps @ self.factor.T

    def log_prob(self, x: Tensor) -> Tensor:
        """The density, in nats."""
        u = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False)
        dims, squared = len(self.mean), u.square().sum(0)
        volume = self.factor.diagonal().log().sum()
        if self.degrees is None:
            return -0.5 * squared - volume - 0.5 * dims * math.log(2 * math.pi)
        v = self.degrees
        constant = math.lgamma((v + dims) / 2) - math.lgamma(v / 2) - 0.5 * dims * math.log(v * math.pi)
        return constant - volume - 0.5 * (v + dims) * torch.log1p(squared / v)
