"""What the checks share: errors that must come, tensors that must agree, what a model answers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.contract import Batch, GenerativeModel, HasLatents, HasLogProb, Likelihood, Losses
from genus.kinds import Domain
from genus.prob.noise import stream
from genus.testing.statistics import CheckError, require
from genus.testing.subjects import Subject

Check = Callable[[Subject], None]
SHAKES = (0.1, 1.0)  # an untrained network may say little; a strongly shaken one must show what it reads
STAGES = (0.0, 0.5, 1.0)  # of training, as `progress` is given them


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


def repeated_log_prob(
    model: GenerativeModel, x: Tensor, condition: Tensor | None, num_samples: int, repeats: int
) -> Tensor:
    """``repeats`` independent draws of a random log_prob, in one batch: ``(repeats, B)``."""
    many = x.repeat(repeats, *[1] * (x.ndim - 1))
    given = None if condition is None else condition.repeat(repeats, *[1] * (condition.ndim - 1))
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
