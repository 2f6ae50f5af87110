"""What the bound of a latent-variable model hides: how much its latents say, and how far the bound is from log p(x).

The mean KL term of the bound is two things (Hoffman & Johnson 2016, ELBO surgery,
http://approximateinference.org/accepted/HoffmanJohnson2016.pdf),

    E_x KL(q(z|x) || p(z))  =  I_q(x; z)  +  KL(q(z) || p(z)),    q(z) = mean of q(z|x) over the data:

what latents tell of the data, and how far latents of the data are from those that are sampled. A bound
can be good while the first is zero: the posterior has collapsed, and the decoder does without latents.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genus.contract import (
    Batch,
    GenerativeModel,
    HasPosterior,
    Likelihood,
    Posterior,
    Split,
    Symptom,
    has_standard_prior,
    require,
)
from genus.contract import name_of as registry_name
from genus.evaluate import bounds
from genus.evaluate._items import choose, gather
from genus.evaluate.bounds import Known, Mean, Point, Prior
from genus.evaluate.likelihood import evaluating
from genus.models.latent._symptoms import ACTIVE
from genus.prob import noise
from genus.prob.posterior import Certain, DiagonalNormal
from genus.settings import schema

SILENT = 0.1  # nats: latents that tell less than this tell nothing
ENCODED = 256  # data that are encoded together
PAIRED = 2**22  # numbers that are held together where every latent meets every posterior
BUDGET = 2**20  # latents that are decoded for an exact value
FEWEST_USED = 0.1  # share of a codebook
CURES = {
    "kl_warmup": "a KL warm-up (--kl-warmup 0.25, or longer)",
    "free_bits": "--free-bits",
    "beta": "a smaller --beta",
}


@dataclass(frozen=True)
class Usage:
    """How a grid of codes uses its codebook, over all items: ``perplexity`` is exp(entropy)."""

    name: str
    codes: int
    used: int
    entropy: float

    @property
    def perplexity(self) -> float:
        """As many equally frequent codes would have this entropy."""
        return math.exp(self.entropy)


@dataclass(frozen=True)
class Diagnosis:
    """The numbers of `diagnose`; nats, means over items.

    variances: Var_x(E_q[z]) of each latent; None for codes. kl_each: KL(q(z_l|x) || p(z_l)), where prior
    and posterior factorise. kl, aggregate: E KL(q(z|x) || p(z)) and KL(q(z) || p(z)). information: I_q(x; z)
    over these items, never above log(items). shuffled: log p(x|z) lost with the latents of another item.
    bound, prior: the estimates of log p(x) with K draws from q and from p. exact: log p(x) of the first
    items, elbo_gap and bound_gap what the ELBO and the tightest bound miss of it *there*.
    """

    model: str
    latents: str
    items: int
    draws: int
    seed: int
    variances: tuple[float, ...] | None
    kl_each: tuple[float, ...] | None
    kl: Mean | None
    information: Mean
    aggregate: float | None
    shuffled: Mean
    codes: tuple[Usage, ...] = ()
    bound: tuple[Point, ...] = ()
    prior: tuple[Point, ...] = ()
    exact: Mean | None = None
    exact_how: str = ""
    elbo_gap: Mean | None = None
    bound_gap: Mean | None = None
    symptoms: tuple[Symptom, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def active(self) -> int:
        """How many latents are used: Var_x(E_q[z]) > 0.01."""
        return sum(variance > ACTIVE for variance in self.variances or ())

    @property
    def reference(self) -> float | None:
        """The best that is known of log p(x): exact, or the tightest bound."""
        if self.exact is not None:
            return self.exact.value
        return self.bound[-1].nats.value if self.bound else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; what is not a finite number is None."""
        told: dict[str, Any] = _plain(asdict(self))
        return told | ({} if self.variances is None else {"active": self.active})


@dataclass(frozen=True)
class Encoded:
    """Items with their posteriors: ``z`` one draw each, ``log_q`` its log q(z|x)."""

    batch: Batch
    posteriors: tuple[Posterior, ...]
    means: Tensor
    z: Tensor
    log_q: Tensor
    """(N,) float64."""

    @property
    def certain(self) -> bool:
        """Whether latents follow from the data without doubt."""
        return isinstance(self.posteriors[0], Certain)


def diagnose(
    model: GenerativeModel,
    split: Split,
    *,
    items: int = 500,
    samples: int = 128,
    seed: int = 0,
    budget: int = BUDGET,
) -> Diagnosis:
    """Diagnose a model with a posterior on items of a split (held out, unless you want to know of training data).

    Args:
        model: signs `HasPosterior`.
        split: whose items.
        items: how many, chosen by the seed.
        samples: draws of z an item for the curves, rounded down to a power of two.
        seed: the result is a function of it.
        budget: latents that may be decoded for an exact log p(x); 0 for none.

    Raises a `CapabilityError` for models without a posterior.
    """
    require(model, HasPosterior, "be diagnosed")
    assert isinstance(model, HasPosterior)
    index = choose(len(split), items, seed)
    if len(index) < 2:
        raise ValueError(f"expected 2 items or more, whose latents can be shuffled; got {len(index)}.")
    samples = bounds.largest_power(samples)
    with evaluating(model):
        batch = gather(split, index, seed).to(model.device)
        found = encode(model, batch if model.condition is not None else batch._replace(condition=None), seed)
        told = _of_latents(model, found, seed)
        told = replace(told, draws=samples, notes=(*told.notes, *_limits(told)))
        if found.certain or model.decoder_likelihood is Likelihood.NONE:
            why = "q is certain" if found.certain else "the decoder is no distribution"
            told = replace(told, draws=0, notes=(*told.notes, f"No bound by weighted draws: {why}."))
        else:
            told = _with_bounds(told, model, found, seed, budget)
        return replace(told, symptoms=symptoms(model, found, told, seed))


def encode(model: HasPosterior, batch: Batch, seed: int) -> Encoded:
    """The posteriors of a batch, some items at a time, with a draw from each."""
    distributions, z, log_q = [], [], []
    for n, part in enumerate(bounds.blocks(len(batch.x), ENCODED)):
        q = model.posterior(batch.x[part], None if batch.condition is None else batch.condition[part])
        draw = q.sample(1, noise.stream(seed, "diagnose", "draw", n))
        distributions.append(q)
        z.append(draw[0])
        log_q.append(q.log_prob(draw)[0].double())
    return Encoded(
        batch, tuple(distributions), torch.cat([q.mean for q in distributions]), torch.cat(z), torch.cat(log_q)
    )


def log_aggregate(found: Encoded) -> Tensor:
    """log q(z) = log of the mean of q(z|x') over all items x', at the draw of each item: ``(N,)`` float64."""
    count, width = len(found.z), max(1, found.z[0].numel())
    rows = []
    for part in bounds.blocks(count, max(1, PAIRED // (ENCODED * width))):
        z = found.z[part].unsqueeze(1)  # every draw against every posterior
        columns = [q.log_prob(z.expand(-1, len(q.mean), *z.shape[2:])).double() for q in found.posteriors]
        rows.append(torch.cat(columns, 1).logsumexp(1) - math.log(count))
    return torch.cat(rows)


def log_likelihood(model: HasPosterior, batch: Batch, z: Tensor) -> Tensor:
    """log p(x|z) of each item with the latents beside it, ``(N,)`` float64."""
    return torch.cat(
        [
            model.log_likelihood(batch.x[p], z[p], None if batch.condition is None else batch.condition[p]).double()
            for p in bounds.blocks(len(z), ENCODED)
        ]
    )


def others(count: int, seed: int) -> Tensor:
    """For each item another one: a random order in which no item is its own."""
    order = noise.permutation(count, noise.stream(seed, "diagnose", "shuffle"))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other


def symptoms(model: GenerativeModel, found: Encoded, told: Diagnosis, seed: int) -> tuple[Symptom, ...]:
    """What is wrong: what the model itself finds, and latents that nothing depends on."""
    seen = list(model.symptoms(found.batch, noise.stream(seed, "diagnose", "symptoms")))
    if told.variances is not None and not any("collapse" in symptom.name for symptom in seen):
        unused = f"{told.active} of {len(told.variances)} latents tell one datum from another; "
        if told.active == 0 or told.information.value < SILENT:
            what = f"{unused}together they tell {told.information.value:.2f} nats of it."
            seen.append(Symptom("posterior collapse", what, _cure(model)))
    wasted = [usage for usage in told.codes if usage.used < FEWEST_USED * usage.codes]
    if wasted and not any("collapse" in symptom.name for symptom in seen):
        what = " ".join(f"{usage.used} of {usage.codes} codes are in use ({usage.name})." for usage in wasted)
        seen.append(Symptom("codebook collapse", what, "Try fewer codes, or a codebook that revives dead ones."))
    return tuple(seen)


# -- the parts ---------------------------------------------------------------------------


def _of_latents(model: HasPosterior, found: Encoded, seed: int) -> Diagnosis:
    """All that needs no weighted draws."""
    batch, notes = found.batch, []
    information = Mean.of(found.log_q - log_aggregate(found))
    own, other = (log_likelihood(model, batch, z) for z in (found.z, found.z[others(len(found.z), seed)]))
    discrete = model.latent_domain.discrete
    variances = None if discrete else tuple(found.means.flatten(1).double().var(0).tolist())
    kl = kl_each = None
    if discrete:
        notes.append("Codes follow from the data without doubt: there is no KL of each latent.")
    elif found.certain:
        notes.append("Latents follow from the data without doubt: the KL term has no value.")
    elif has_standard_prior(model) and isinstance(found.posteriors[0], DiagonalNormal):
        each = torch.cat([q.kl_to_standard() for q in found.posteriors if isinstance(q, DiagonalNormal)]).double()
        kl, kl_each = Mean.of(each.sum(1)), tuple(each.mean(0).tolist())
    else:
        notes.append("Prior or posterior does not factorise: the KL is of all latents together, by one draw an item.")
        kl = Mean.of(found.log_q - model.log_prior(found.z, batch.condition).double())
    return Diagnosis(
        model=registry_name(type(model)),
        latents=str(model.latent_domain),
        items=len(found.z),
        draws=0,
        seed=seed,
        variances=variances,
        kl_each=kl_each,
        kl=kl,
        information=information,
        aggregate=None if kl is None else kl.value - information.value,
        shuffled=Mean.of(own - other),
        codes=usages(model, found.means) if discrete else (),
        notes=tuple(notes),
    )


def usages(model: HasPosterior, codes: Tensor) -> tuple[Usage, ...]:
    """How codes ``(N, *latent shape)`` use their codebook; of a pyramid, each grid by itself."""
    domain = model.latent_domain
    assert domain.levels is not None
    found = []
    for name, grid in domain.split(codes).items():
        counts = torch.bincount(grid.flatten().long().cpu(), minlength=domain.levels).double()
        share = counts[counts > 0] / counts.sum()
        found.append(Usage(name, domain.levels, int((counts > 0).sum()), float(-(share * share.log()).sum())))
    return tuple(found)


def _limits(told: Diagnosis) -> list[str]:
    """Numbers that more items would change."""
    most = math.log(told.items)
    if told.information.value < most - 1:
        return []
    return [
        f"Information is near log({told.items}) = {most:.2f} nats, the most that {told.items} items can show: "
        "the latents may tell more. Take more items."
    ]


def _with_bounds(told: Diagnosis, model: HasPosterior, found: Encoded, seed: int, budget: int) -> Diagnosis:
    """The curves of both estimates, and how far they are from an exact value."""
    x, condition, weights = found.batch.x, found.batch.condition, []
    for name in ("posterior", "prior"):
        parts = []
        for n, (q, part) in enumerate(zip(found.posteriors, bounds.blocks(len(x), ENCODED), strict=True)):
            labels = None if condition is None else condition[part]
            distribution = q if name == "posterior" else Prior(model, found.z[part], labels)
            generator = noise.stream(seed, "diagnose", name, n)
            parts.append(bounds.log_weights(model, x[part], distribution, told.draws, labels, generator))
        weights.append(torch.cat(parts, 1))
    bound, prior = (bounds.points_of(log_w) for log_w in weights)
    told = replace(told, bound=bound, prior=prior)
    if not budget:
        return told
    known = _known(model, found, budget, seed)
    if not len(known.nats):
        return replace(told, exact_how=known.how)
    missing = [known.nats - nats[: len(known.nats)] for _, nats, _ in bounds.curve(weights[0])]
    return replace(
        told,
        exact=Mean.of(known.nats),
        exact_how=known.how,
        elbo_gap=Mean.of(missing[0]),
        bound_gap=Mean.of(missing[-1]),
    )


def _known(model: HasPosterior, found: Encoded, budget: int, seed: int) -> Known:
    """log p(x) of the first block of items at least, where it can be had."""
    x, condition, _ = found.batch
    first = slice(0, min(len(x), ENCODED))
    z = found.posteriors[0].sample(64, noise.stream(seed, "diagnose", "spread"))
    if not has_standard_prior(model):
        z = z.new_empty(0)  # a grid covers a standard normal prior only
    return bounds.exact(model, x[first], None if condition is None else condition[first], z, budget)


def _cure(model: GenerativeModel) -> str:
    """What to try, by the settings that the model has."""
    known = [cure for setting, cure in CURES.items() if setting in schema(type(model)).model_fields]
    return f"Try {', '.join([*known, 'a weaker decoder'])}."


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
