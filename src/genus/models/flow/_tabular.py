"""Flows over tables of numbers: what is the same in all of them.

A row ``(B, D)`` is standardised and goes through steps, each after another order of the columns,
to a standard normal z. Inside, columns come before rows, ``(D, B)``: what is done to each number then
reads memory in order, however few the columns are. A step maps ``(D, B)`` and a condition to ``(D, B)`` and
log |det|, and undoes itself. In a step every column has a monotone map of its own, a *transform*, whose
parameters a network reads from other columns.
"""

import itertools
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from genus.contract import Likelihood, name_of
from genus.kinds import Domain, Vectors
from genus.models.flow._flow import Flow
from genus.nn.condition import NOTHING, ConditionBias, Context, Encoded
from genus.nn.residual import zero
from genus.nn.standardise import Standardise
from genus.prob import noise


class Transform(Protocol):
    """A monotone map of numbers, the identity where all its parameters are zero.

    x is ``(D, B)`` and raw ``(size, D, B)``.
    """

    size: int
    """Parameters of one number's map."""

    def __call__(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z and log dz/dx, both of x's shape."""
        ...

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        """z -> x."""
        ...


class Affine:
    """z = x exp(s) + t; t and s are functions of the two parameters of a number: t is the first, and s the arc
    tangent of the second, within ± pi / 2, so that no step can blow up."""

    size = 2

    def __call__(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z and log dz/dx."""
        log_scale = raw[1].atan()
        return torch.addcmul(raw[0], x, log_scale.exp()), log_scale

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        """z -> x."""
        return (z - raw[0]) * (-raw[1].atan()).exp()


def on_columns(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """A linear layer ``(in, B)`` -> ``(out, B)``."""
    return torch.addmm(bias.unsqueeze(1), weight, x)


class ColumnMLP(nn.Module):
    """``(in_features, B)`` -> ``(out_features, B)``; its last layer starts at zero.

    depth: hidden layers. context: of the condition that is added to the first layer.
    """

    def __init__(self, in_features: int, out_features: int, hidden: int, depth: int, context: Context = NOTHING):
        super().__init__()
        widths = [in_features, *[hidden] * depth]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.last = zero(nn.Linear(hidden, out_features))
        self.label = ConditionBias(context, hidden)

    def forward(self, x: Tensor, given: Encoded | None = None) -> Tensor:
        for k, layer in enumerate(self.layers):
            x = on_columns(layer.weight, layer.bias, x)  # type: ignore[arg-type]
            if k == 0 and given is not None:
                x = x + self.label.vector(given).t()
            x = x.relu_()  # in place: half the memory, which is most of the time of small layers
        return on_columns(self.last.weight, self.last.bias, x)  # type: ignore[arg-type]


class HalfCoupling(nn.Module):
    """A step of a flow: the first half of the columns stays, the second goes through ``transform``, whose
    parameters a network reads from the first."""

    def __init__(self, features: int, transform: Transform, *, hidden: int, depth: int, context: Context):
        super().__init__()
        self.halves, self.transform = [features // 2, features - features // 2], transform
        self.network = ColumnMLP(self.halves[0], self.halves[1] * transform.size, hidden, depth, context)

    def forward(self, x: Tensor, given: Encoded | None = None) -> tuple[Tensor, Tensor]:
        """x ``(D, B)`` -> z of the same shape, and log |det dz/dx|, ``(B,)``."""
        stay, move = x.split(self.halves)
        z, log_slope = self.transform(move, self.parameters_of(stay, given))
        return torch.cat([stay, z]), log_slope.sum(0)

    def inverse(self, z: Tensor, given: Encoded | None = None) -> Tensor:
        """z -> x."""
        stay, move = z.split(self.halves)
        return torch.cat([stay, self.transform.inverse(move, self.parameters_of(stay, given))])

    def parameters_of(self, stay: Tensor, given: Encoded | None) -> Tensor:
        """The parameters of every moved column's map, ``(size, D - D // 2, B)``."""
        raw = self.network(stay, given).to(stay.dtype)  # whatever the network computes in
        return raw.view(self.transform.size, -1, raw.shape[1])


class FlowSteps(nn.Module):
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

    def forward(self, x: Tensor, given: Encoded | None) -> tuple[Tensor, Tensor]:
        """x -> z and log |det dz/dx|, ``(B,)``."""
        x, log_det = self.standardise(x)
        x = x.t()
        for order, step in zip(self.orders, self.steps, strict=True):
            x, more = step(x.index_select(0, order), given)  # its gradient is faster than that of x[order]
            log_det = log_det + more
        return x.t(), log_det

    def inverse(self, z: Tensor, given: Encoded | None) -> Tensor:
        """z -> x."""
        z = z.t()
        for order, step in zip(self.orders.flip(0), list(self.steps)[::-1], strict=True):
            z = step.inverse(z, given)[order.argsort()]  # type: ignore[operator]
        return self.standardise.inverse(z.t())


class TableFlow(Flow):
    """A flow over vectors; a subclass sets ``flow`` to its `FlowSteps`."""

    domains = (Vectors,)
    flow: FlowSteps
    dequantization = None
    cure = "Try a lower --learning-rate, a smaller --clip-norm or fewer --layers."

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, cls.domains) and domain.num_dims < 2:
            return f"{name_of(cls)} models each column given others, so it needs two; got {domain}."
        return super().refuses(domain)
