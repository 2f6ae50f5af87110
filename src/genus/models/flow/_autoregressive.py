"""Masked autoregressive steps: each column is transformed given the columns before it.

z_i = T(x_i; parameters read from x_1 .. x_{i-1}), so the Jacobian is triangular and one pass of a
masked network gives the density (MADE, Germain et al. 2015, https://arxiv.org/abs/1502.03509).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from genus.models.flow._tabular import Transform, on_columns
from genus.nn.condition import NOTHING, ConditionBias, Context, Encoded
from genus.nn.residual import zero


class MaskedLinear(nn.Linear):
    """A linear layer with some of its connections cut."""

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(in, B)`` -> ``(out, B)``."""
        return on_columns(self.weight * self.mask, self.bias, x)


class MaskedMLP(nn.Module):
    """``size`` outputs for each of D columns that depend on earlier columns (and a condition) only.

    A hidden unit of degree m reads columns 1 .. m; the outputs of column i read units of degree < i. The
    units are sorted by degree: whatever column i needs is a prefix of each layer, and `in_turn` uses that.

    features: D. size: outputs a column. hidden, depth: units of a layer, and hidden layers. context:
    of the condition that is added to the first layer. The last layer starts at zero.
    """

    def __init__(self, features: int, size: int, *, hidden: int, depth: int, context: Context = NOTHING):
        super().__init__()
        self.features, self.size = features, size
        lowest = 0 if context.features else 1  # units of degree 0 read the condition alone
        degrees = lowest + torch.arange(hidden) * (features - lowest) // hidden
        column = torch.arange(features)
        masks = [degrees[:, None] > column, *[degrees[:, None] >= degrees] * (depth - 1)]
        self.layers: Sequence[MaskedLinear] = nn.ModuleList(map(MaskedLinear, masks))  # type: ignore[assignment]
        self.last = MaskedLinear((column[:, None] >= degrees).repeat(size, 1))
        zero(self.last)
        self.label = ConditionBias(context, hidden)
        self.ends = [int((degrees <= i).sum()) for i in range(features)]  # units that column i may read

    def forward(self, x: Tensor, given: Encoded | None) -> Tensor:
        """``(D, B)`` -> ``(size * D, B)``, the outputs of one kind below each other."""
        for k, layer in enumerate(self.layers):
            x = layer(x)
            if k == 0 and given is not None:
                x = x + self.label.vector(given).t()
            x = x.relu_()
        return self.last(x)

    def in_turn(self, fill: Callable[[int, Tensor], Tensor], count: int, given: Encoded | None) -> Tensor:
        """``(D, B)``, column by column: ``fill(i, outputs (size, 1, B))`` gives column i as ``(1, B)``.

        Every unit is worked out once, as soon as the columns that it reads are there: the whole costs
        one pass, not D.
        """
        weight = self.last.weight.view(self.size, self.features, -1)
        bias = self.last.bias.view(self.size, self.features, 1)
        known = None if given is None else self.label.vector(given).t()
        x = weight.new_empty(0, count)
        hidden = [x for _ in self.layers]
        start = 0
        for i, end in enumerate(self.ends):
            below = x
            for k, layer in enumerate(self.layers):
                fresh = torch.addmm(layer.bias[start:end, None], layer.weight[start:end, : len(below)], below)
                if k == 0 and known is not None:
                    fresh = fresh + known[start:end]
                below = hidden[k] = torch.cat([hidden[k], fresh.relu()])
            x = torch.cat([x, fill(i, (weight[:, i, :end] @ below + bias[:, i])[:, None])])
            start = end
        return x


class Autoregressive(nn.Module):
    """A step of a flow: ``transform`` on every column, its parameters read from the columns before."""

    def __init__(self, features: int, transform: Transform, *, hidden: int, depth: int, context: Context):
        super().__init__()
        self.transform = transform
        self.network = MaskedMLP(features, transform.size, hidden=hidden, depth=depth, context=context)

    def forward(self, x: Tensor, given: Encoded | None = None) -> tuple[Tensor, Tensor]:
        """x ``(D, B)`` -> z of the same shape, and log |det dz/dx|, ``(B,)``; all columns at once."""
        raw = self.network(x, given).to(x.dtype)  # whatever the network computes in
        z, log_slope = self.transform(x, raw.view(self.transform.size, *x.shape))
        return z, log_slope.sum(0)

    def inverse(self, z: Tensor, given: Encoded | None = None) -> Tensor:
        """z -> x, a column at a time."""
        return self.network.in_turn(lambda i, raw: self.transform.inverse(z[i : i + 1], raw), z.shape[1], given)
