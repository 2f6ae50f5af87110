"""What a model may promise. Read this first.

A model is an `nn.Module` that signs *roles*. A role is an abstract class: Python
refuses to build a model that signs a role and omits its method, and nothing in genus
ever asks ``hasattr``. What a likelihood *is* (exact, a bound, an estimate, none) is
worked out from the parts of the model, never declared by hand.

    class GenerativeModel      samples, and lists the losses that train it   (all)
    class HasLogProb           log p(x), with its kind
    class HasConditionals      the chain rule entry by entry: what compression needs
    class HasDecoder           data from latents: what a generator has
    class HasLatents           decode, and encode
    class HasPosterior         p(z), p(x|z) and q(z|x), each by itself: bounds, bits back, another prior
    class HasItemCodes         a code of its own for each training item, by inference for other data
    class IsConditional        samples and scores given a condition
    class IsEditable           keeps a part of a datum and redraws the rest
    class FitsInClosedForm     is fitted by one pass over the data, not by gradients
"""

from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from genus.errors import CapabilityError
from genus.kinds import Domain, Label
from genus.prob import noise
from genus.recipe import Recipe


class Likelihood(Enum):
    """The kind of number that `log_prob` gives. Ordered from strong to weak."""

    EXACT = "="
    BOUND = "≤"  # the printed bits/dim are an upper bound; log_prob is a lower bound
    ESTIMATE = "~"  # neither exact nor a bound (an ODE with a random trace)
    NONE = "–"

    @property
    def symbol(self) -> str:
        """What stands before the number in a table."""
        return self.value


def weakest(parts: Iterable[Likelihood]) -> Likelihood:
    """The likelihood of a whole is that of its weakest part."""
    order = list(Likelihood)
    return max(parts, key=order.index, default=Likelihood.EXACT)


class Batch(NamedTuple):
    """A batch of data in the domain's own terms.

    x: ``(B, *domain.shape)``. condition: ``(B, *condition.shape)`` or None.
    index: ``(B,)`` numbers of training items, for models that keep something for each (an auto-decoder's codes);
    None for any other data, so that a held-out item is never taken for the training item of its number.
    """

    x: Tensor
    condition: Tensor | None = None
    index: Tensor | None = None  # type: ignore[assignment]  # tuple.index is not needed here

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        condition, index = (None if part is None else part.to(device) for part in self[1:])
        return Batch(self.x.to(device), condition, index)

    def part(self, number: int, parts: int) -> "Batch":
        """The ``number``-th of ``parts`` equal slices."""
        if parts == 1:
            return self
        size = len(self.x) // parts
        return Batch(*(None if p is None else p[number * size : (number + 1) * size] for p in self))  # type: ignore[arg-type]


@runtime_checkable
class Split(Protocol):
    """One of the three disjoint parts of a data source, as models and training see it."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The items ``index``; ``generator`` drives augmentation where there is any."""
        ...


def spread(split: Split, count: int = 4096, generator: torch.Generator | None = None) -> Batch:
    """``count`` items from all over a split, or all of them: enough for means and spreads."""
    count = min(len(split), count)
    return split.batch(torch.arange(count) * len(split) // count, generator)


def batches(split: Split, size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """All items of a split in order, ``size`` at a time."""
    for start in range(0, len(split), size):
        yield split.batch(torch.arange(start, min(start + size, len(split))), generator)


Losses = dict[str, Tensor]
"""Terms of a loss by name, each of shape ``(B,)``. ``"loss"`` is what is minimised; every
other entry is shown and logged, so that the terms of the paper can be watched."""


@dataclass(frozen=True)
class Player:
    """One loss with the parameters that it moves. Most models have one; a GAN has two.

    In each step of training every player takes ``turns`` turns, in the order in which
    `GenerativeModel.players` lists them.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    losses: Callable[[Batch, torch.Generator | None], Losses]
    turns: int = 1
    rate: float = 1.0
    """Factor on the recipe's learning rate, for players that learn at different rates."""
    betas: tuple[float, float] | None = None
    """Adam's two decay rates of this player (the first is the momentum of sgd and rmsprop); None for the recipe's."""


@dataclass(frozen=True)
class Symptom:
    """Something that goes wrong while a model trains: its name ("posterior collapse"), what was
    seen (a sentence with numbers), and the cure to try (a sentence with settings)."""

    name: str
    seen: str
    cure: str

    def __str__(self) -> str:
        return f"{self.name}: {self.seen} {self.cure}"


ROLE_OF_METHOD = {
    "log_prob": "HasLogProb", "chain_rule": "HasConditionals", "encode": "HasLatents",
    "decode": "HasDecoder", "latent_shape": "HasDecoder", "sample_latents": "HasDecoder",
    "posterior": "HasPosterior", "log_likelihood": "HasPosterior", "latent_domain": "HasPosterior",
    "edit": "IsEditable", "fit": "FitsInClosedForm", "infer": "HasItemCodes", "losses_given": "HasItemCodes",
}  # fmt: skip


class GenerativeModel(nn.Module, ABC, metaclass=ABCMeta):
    """A model of one domain: the role that every model signs.

    Subclasses take ``(domain, condition=None, *, typed keyword settings)`` and pass the
    first two on. The keyword settings are the model's configuration: the command line,
    the run folder and the API all read them from the constructor's signature.

    domain: what one datum is. condition: what it comes with, or None for a model of the
    data alone; only models that sign `IsConditional` accept one, of the kinds that `conditions` lists.
    """

    paper: ClassVar[str]  # "Authors (year). Title. URL"
    domains: ClassVar[tuple[type[Domain], ...]]  # the kinds of domain it can model
    recipes: ClassVar[dict[str, Recipe]] = {}
    conditions: ClassVar[tuple[type[Domain], ...]] = (Label,)  # it takes these kinds; of `Parts`, each part's
    needs_condition: ClassVar[bool] = False  # whether it models nothing without one (a picture given a picture)
    needs_ordered_levels: ClassVar[bool] = False  # whether neighbouring levels must be alike, so that codes are refused
    deterministic: ClassVar[bool] = False  # whether a condition decides the datum (a translation of a picture)
    reads_batch: ClassVar[bool] = False  # whether losses in training read the rest of the batch (batch norm), so that
    # parts of a batch, and several processes, do not compute what the whole would

    def __init__(self, domain: Domain, condition: Domain | None = None):
        super().__init__()
        misfit = self.refuses(domain)
        if misfit:
            raise ValueError(misfit)
        if condition is not None and not isinstance(self, IsConditional):
            raise refusal(type(self), "IsConditional", "be conditioned")
        misfit = self.refuses_condition(domain, condition)
        if misfit:
            raise ValueError(misfit)
        self.domain = domain
        self.condition = condition

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        """Why this model cannot model ``domain``, as a sentence; None if it can."""
        if isinstance(domain, cls.domains):
            if cls.needs_ordered_levels and not domain.ordered:
                return f"{name_of(cls)} takes neighbouring levels for alike, and codes have no order; got {domain}."
            return None
        return f"{name_of(cls)} models {listed([d.kind for d in cls.domains])} data; got {domain}."

    @classmethod
    def refuses_condition(cls, domain: Domain, condition: Domain | None) -> str | None:
        """Why this model cannot model ``domain`` given ``condition``, as a sentence; None if it can."""
        kinds = listed([kind.plural for kind in cls.conditions])
        if condition is None:
            return f"{name_of(cls)} needs a condition ({kinds}); got none." if cls.needs_condition else None
        for _, part in () if isinstance(condition, cls.conditions) else condition.members:
            if not isinstance(part, cls.conditions):
                return f"{name_of(cls)} is conditioned on {kinds}; got {part}."
        return None

    @classmethod
    @abstractmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        """The smallest sensible instance for ``domain``: what the checks run on."""

    @abstractmethod
    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Loss terms of a batch, each ``(B,)``; ``"loss"`` is what is minimised."""

    def sample(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Tensor:
        """``count`` data, ``(count, *domain.shape)`` in the domain's own terms and dtype, without gradients.

        The same generator state gives the same samples.

        Args:
            count: How many, 1 or more.
            condition: ``(count, *condition.shape)`` for a model that was built with one.
            generator: Where randomness comes from.
            options: The model's own, such as ``steps=20``: the keyword arguments of its `_sample`.

        Raises a ValueError for a condition that is missing, not asked for or of another shape or range.
        """
        if count < 1:
            raise ValueError(f"count: expected 1 or more data; got {count}.")
        with torch.no_grad():
            return self._sample(count, self.given(condition, count), generator, **options)

    @abstractmethod
    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """`sample`, given what was checked. Keyword-only arguments are options of `sample`, explained in Args."""

    def given(self, condition: Tensor | None, count: int) -> Tensor | None:
        """A condition of ``count`` data, checked and on the model's device."""
        check_condition(self, condition, count)
        return None if condition is None else condition.to(self.device)

    @property
    def likelihood(self) -> Likelihood:
        """What kind of number `log_prob` gives; NONE for models without one."""
        return Likelihood.NONE

    def players(self) -> list[Player]:
        """Who plays in training: one player that moves everything, unless overridden."""
        return [Player("model", tuple(self.parameters()), self.losses)]

    def initialise(self, split: Split) -> None:
        """Data-dependent initialisation, called once before the first step: the scale of
        the data, output biases, actnorm, a codebook. What it sets lives in buffers or
        parameters, so checkpoints carry it. Nothing by default."""

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor | None:
        """What the best checkpoint is chosen by on the validation split: ``(B,)``, lower is
        better. None if nothing can rank two checkpoints (a GAN): then the last one is kept.
        """
        return self.held_out_losses(batch, generator)["loss"]

    def held_out_losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """`losses` of data that are no training items: a model with a code for each of these infers codes first."""
        if isinstance(self, HasItemCodes):
            batch = batch._replace(index=None)
            return self.losses_given(batch, self.infer(batch, generator), generator)
        return self.losses(batch, generator)

    def progress(self, fraction: float) -> None:
        """Told before each step how far training is, from 0 to 1 (KL warm-up, fade-in)."""

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        """What goes wrong in this family, looked for on a validation batch (evaluation mode, no
        gradients) at each validation of training. Nothing by default; must be cheap."""
        return []

    @property
    def num_parameters(self) -> int:
        """How many free numbers the model has."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    def __getattr__(self, name: str) -> Any:
        if name in ROLE_OF_METHOD:
            raise refusal(type(self), ROLE_OF_METHOD[name], name)
        return super().__getattr__(name)


class HasLogProb(ABC):
    """Promises log p(x) of raw data, and says of which kind the number is."""

    @property
    @abstractmethod
    def likelihood(self) -> Likelihood:
        """`weakest` of the parts that the number is made of."""

    @property
    def protocol(self) -> dict[str, str]:
        """What the number depends on besides model, data and draws, by name: it stands beside every score
        ("dequantization": "variational"). Nothing by default."""
        return {}

    def log_prob(
        self: Any,
        x: Tensor,
        *,
        condition: Tensor | None = None,
        num_samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log p(x) in nats, ``(B,)``: of probabilities for discrete domains, of a density
        in the data's own units for continuous ones.

        Args:
            x: ``(B, *domain.shape)``, raw data.
            condition: ``(B, *condition.shape)`` for a model that was built with one.
            num_samples: draws of whatever the number averages over (latents, dequantization
                noise); more make a bound tighter. Exact models have nothing to average.
            generator: where randomness comes from.

        Raises a ValueError for data that are not of the domain, and for a condition as `sample` does.
        """
        self.domain.check(x)
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1; got {num_samples}.")
        return self._log_prob(x, self.given(condition, len(x)), num_samples, generator)

    @abstractmethod
    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """`log_prob`, given what was checked."""


Walk = Generator[tuple[int, Tensor], Tensor, None]
"""Yields ``(place, logits)`` of the next entry, is sent the entry; see `HasConditionals`."""


class HasConditionals(ABC):
    """Promises the chain rule, entry by entry: ``p(x) = prod p(entry | the entries before it)``."""

    @abstractmethod
    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        """Walk through ``count`` data side by side, in whatever order the model reads them.

        A generator. For each entry it yields its place in ``x.flatten(1)`` and the unnormalised
        log-probabilities of its levels, ``(count, levels)``; then it is sent that entry of every
        datum, ``(count,)`` int64. Each place comes once. What an incremental sampler carries along
        lives in local variables. Whoever drives it decides what is sent: drawn entries make a
        sample, the entries of a datum its log p(x), decoded ones a decompressor.

        The logits are computed in the dtype of the parameters: after ``model.double()``, in float64.
        """


class HasDecoder(ABC):
    """Promises data from latents: what a generator has, be there an encoder or not."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of the latents of one datum."""

    def decode(self: Any, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """Data from latents ``(B, *latent_shape)``: the mode or mean of p(x|z) in the domain's own terms.

        Deterministic, and as differentiable as the data are. Raises a ValueError for latents of another shape, and
        for a condition as `sample` does.
        """
        if tuple(z.shape[1:]) != tuple(self.latent_shape):
            expected = ", ".join(("B", *map(str, self.latent_shape)))
            raise ValueError(f"z: expected latents ({expected}); got {tuple(z.shape)}.")
        return self._decode(z, self.given(condition, len(z)))

    @abstractmethod
    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """`decode`, given what was checked."""

    def sample_latents(self: Any, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` draws of latents as samples start from: normal noise ``(count, *latent_shape)`` by default."""
        return noise.normal((count, *self.latent_shape), generator, self.device)


class HasLatents(HasDecoder):
    """Promises a latent representation of data: there and back."""

    def encode(self: Any, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """The latents of ``x``: ``(B, *latent_shape)``; deterministic (the mean of a posterior).

        Raises a ValueError for data that are not of the domain, and for a condition as `sample` does.
        """
        self.domain.check(x)
        return self._encode(x, self.given(condition, len(x)))

    @abstractmethod
    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """`encode`, given what was checked."""


class Posterior(Protocol):
    """q(z|x) of a batch: what an encoder says of its latents."""

    @property
    def mean(self) -> Tensor:
        """The mode or mean, ``(B, *latent shape)``."""
        ...

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` draws for each datum, ``(count, B, *latent shape)``, differentiable where they can be."""
        ...

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x), ``(count, B)``, of latents ``(count, B, *latent shape)``."""
        ...


class HasPosterior(HasLatents):
    """Promises a latent-variable model taken apart: a prior p(z), a distribution p(x|z) and a posterior q(z|x).

    log p(x) >= E_q[ log p(x|z) + log p(z) - log q(z|x) ], whatever the prior: so another one can stand
    in for the model's own (two stages), draws can be weighted, and bits can be had back.
    """

    @property
    @abstractmethod
    def latent_domain(self) -> Domain:
        """What a latent is: ``Vectors(20)``, or a grid of codes."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """As `latent_domain` says."""
        return self.latent_domain.shape

    def sample_latents(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """As `sample_prior`."""
        return self.sample_prior(count, None, generator)

    @property
    def standard_prior(self) -> bool:
        """Whether p(z) is N(0, I), whatever the condition."""
        return False

    @property
    @abstractmethod
    def decoder_likelihood(self) -> Likelihood:
        """What kind of number `log_likelihood` is: EXACT, or NONE for a decoder that is no distribution."""

    @abstractmethod
    def posterior(self, x: Tensor, condition: Tensor | None = None) -> Posterior:
        """q(z|x) for raw data ``(B, *domain.shape)``."""

    @abstractmethod
    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(z) in nats, ``(B,)``, of latents ``(B, *latent shape)``."""

    @abstractmethod
    def sample_prior(
        self, count: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """``count`` latents drawn from p(z), ``(count, *latent shape)``."""

    @abstractmethod
    def log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(x|z) in nats, ``(B,)``."""

    @abstractmethod
    def generate(self, z: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Raw data drawn from p(x|z)."""

    def log_levels(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(x|z) of every level of every entry in nats, ``(B, num_dims, levels)``: what bits-back coding
        needs. Of discrete data whose entries are independent given z; other models leave it out."""
        raise CapabilityError(f"{name_of(type(self))} does not give p(x|z) entry by entry (log_levels).")

    def log_weight(
        self, x: Tensor, z: Tensor, q: Posterior, condition: Tensor | None = None, beta: float = 1.0
    ) -> Tensor:
        """log p(x|z) + beta (log p(z) - log q(z|x)), ``(count, B)``, at draws z ``(count, B, *latent shape)``.

        With beta = 1, the mean of its exponential over draws from q is p(x), whatever q is.
        """
        count, flat = len(z), z.flatten(0, 1)
        labels = None if condition is None else condition.repeat(count, *[1] * (condition.ndim - 1))
        log_p = self.log_likelihood(x.repeat(count, *[1] * (x.ndim - 1)), flat, labels).view(count, len(x))
        return log_p + beta * (self.log_prior(flat, labels).view(count, len(x)) - q.log_prob(z))


def has_standard_prior(model: object) -> bool:
    """Whether a model promises a prior p(z) = N(0, I); False for models without a prior of their own."""
    return isinstance(model, HasPosterior) and model.standard_prior


class HasItemCodes(ABC):
    """Promises a code of its own for each training item, learned with the weights, and codes for other data by
    inference: an auto-decoder. The codes lie in a `genus.nn.per_item.PerItem`; `losses` looks up ``batch.index``."""

    @abstractmethod
    def losses_given(self, batch: Batch, codes: Tensor, generator: torch.Generator | None = None) -> Losses:
        """`GenerativeModel.losses` of data with these codes ``(B, *code shape)``; ``batch.index`` is not looked at."""

    @abstractmethod
    def infer(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Codes of data that are no training items, ``(B, *code shape)``, without gradients: what descends on
        `losses_given` (`genus.nn.per_item.descend`). That of a datum depends on the datum, and draws for it, alone."""


class IsConditional(ABC):  # noqa: B024  a promise about methods that exist anyway
    """Promises to use a condition: built with one, `losses`, `sample` and `log_prob` obey it.

    `GenerativeModel.conditions` lists the kinds of condition, labels alone by default."""


class IsEditable(ABC):
    """Promises completion: keep this part, redraw the rest."""

    def edit(
        self: Any,
        x: Tensor,
        keep: Tensor,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Tensor:
        """Redraw the entries of ``x`` where the boolean ``keep`` (same shape) is False.

        Kept entries come back bit for bit. Raises a ValueError for data that are not of the domain, a ``keep``
        of another shape or type, and a condition as `sample` does.
        """
        if keep.shape != x.shape or keep.dtype != torch.bool:
            raise ValueError(
                f"keep: expected booleans of the shape {tuple(x.shape)}; got {keep.dtype}, {tuple(keep.shape)}."
            )
        self.domain.check(torch.where(keep, x, torch.zeros_like(x)))  # what is redrawn may hold anything
        with torch.no_grad():
            return self._edit(x, keep, self.given(condition, len(x)), generator, **options)

    @abstractmethod
    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """`edit`, given what was checked; keyword-only arguments are its options."""


class FitsInClosedForm(ABC):
    """Promises a fit by one pass over the data; such models are not trained by gradients."""

    @abstractmethod
    def fit(self, split: Split) -> None:
        """Set the parameters to the maximum of the (smoothed) likelihood of the split."""


ROLES: tuple[type, ...] = (
    HasLogProb, HasConditionals, HasDecoder, HasLatents, HasPosterior, HasItemCodes, IsConditional, IsEditable,
    FitsInClosedForm,
)  # fmt: skip


def listed(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def name_of(model: type | nn.Module) -> str:
    """The registry key of a model class: the name of the file that it lives in."""
    cls = model if isinstance(model, type) else type(model)
    return cls.__module__.rsplit(".", 1)[-1]


def refusal(cls: type, role: str, verb: str) -> CapabilityError:
    """The one error for every missing capability."""
    sentence = f"{name_of(cls)} cannot {verb}: it does not sign {role} (genus models says which models do)."
    return CapabilityError(sentence, role)


def require(model: nn.Module, role: type, verb: str) -> None:
    """Raise a `CapabilityError` unless the model signs the role."""
    if not isinstance(model, role):
        raise refusal(type(model), role.__name__, verb)


def check_condition(model: GenerativeModel, condition: Tensor | None, count: int) -> None:
    """Raise a ValueError unless ``condition`` is what the model was built for."""
    if model.condition is None:
        if condition is not None:
            raise ValueError(f"{name_of(model)} was built without a condition; got one. Train it with --conditional.")
        return
    if condition is None:
        raise ValueError(f"{name_of(model)} was built for a condition ({model.condition}); give one.")
    if len(condition) != count:
        raise ValueError(f"expected {count} conditions, one a datum; got {len(condition)}.")
    model.condition.check(condition, "condition")
