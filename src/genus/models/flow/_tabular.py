"""Flows over tables of numbers: what is the same in all of them.

A row ``(B, D)`` is standardised and goes through steps, each after another order of the columns,
to a standard normal z. A step maps ``(B, D)`` and labels to ``(B, D)`` and log |det|, and undoes
itself. Inside a step every column has a monotone map of its own, a *transform*, whose parameters
a network reads from other columns.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from genus.contract import Likelihood, name_of
from genus.domain import Domain, Vectors
from genus.models.flow._coupling import Standardise
from genus.models.flow._flow import Flow
from genus.prob import noise


class Transform(Protocol):
    """A monotone map of numbers, the identity where all its parameters are zero.

    x is ``(D, B)``, columns before rows, and raw is ``(size, D, B)``.
    """

    size: int
    """Parameters of one number's map."""

    def __call__(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z and log dz/dx, both of x's shape."""
        ...

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        """z -> x."""
        ...


def columns_first(raw: Tensor, size: int) -> Tensor:
    """What a network says of rows, ``(B, size * D)``, as a transform takes it: ``(size, D, B)``; a view."""
    return raw.view(len(raw), size, -1).permute(1, 2, 0)


class Steps(nn.Module):
    """Standardise, then the steps in turn; before each but the first the columns are reordered.

    Columns are reversed, and every other time shuffled: where a step reads the first half and moves
    the second, two steps in a row move everything.
    """

    likelihood = Likelihood.EXACT
    orders: Tensor

    def __init__(self, features: int, steps: Sequence[nn.Module]):
        super().__init__()
        self.standardise = Standardise((features,))
        self.steps = nn.ModuleList(steps)
        orders = [torch.arange(features)]
        for k in range(1, len(steps)):
            shuffles = k % 2 == 0 and features > 3  # two or three columns have no better order than the reverse
            orders.append(
                noise.permutation(features, noise.stream("columns", k)) if shuffles else orders[0].flip(0).clone()
            )
        self.register_buffer("orders", torch.stack(orders), persistent=False)

    def forward(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """x -> z and log |det dz/dx|, ``(B,)``."""
        x, log_det = self.standardise(x)
        for order, step in zip(self.orders, self.steps, strict=True):
            x, more = step(x[:, order], label)
            log_det = log_det + more
        return x, log_det

    def inverse(self, z: Tensor, label: Tensor | None) -> Tensor:
        """z -> x."""
        for order, step in zip(self.orders.flip(0), list(self.steps)[::-1], strict=True):
            z = step.inverse(z, label)[:, order.argsort()]  # type: ignore[operator]
        return self.standardise.inverse(z)


class TableFlow(Flow):
    """A flow over vectors; a subclass sets ``flow`` to its `Steps`."""

    domains = (Vectors,)
    flow: Steps
    dequantization = None
    cure = "Try a lower --learning-rate, a smaller --clip-norm or fewer --layers."

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, cls.domains) and domain.num_dims < 2:
            return f"{name_of(cls)} models each column given others, so it needs two; got {domain}."
        return super().refuses(domain)
