r"""NADE: the chain rule with one hidden layer that is carried along from entry to entry.

p(x) = prod_i p(x_i | x_<i) in raster order, every factor a one-hidden-layer network, and all
of them share their input weights W. So the hidden pre-activations need not be computed D
times: they are *running sums* (Larochelle & Murray, eqs. 9-10, Algorithm 1),

    a_1 = c,    h_i = sigmoid(a_i),    p(x_i = 1 | x_<i) = sigmoid(b_i + V_i h_i),    a_{i+1} = a_i + W_i x_i

and both a pass and a sample cost O(D H). The gradient is the same sum run backwards; see
`RunningActivation`.

What differs from the paper: more than two levels are allowed (one-hot inputs, so one column
of W per entry and level, and a softmax over levels); a class label adds a vector to c; the
biases b start at the data's own log-odds; Adam on a cosine with averaged weights, where the
paper used plain SGD.

Promises: exact log p(x); conditional on a label. It completes nothing: only a prefix of the
raster order could be kept.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genus.contract import (
    Batch,
    GenerativeModel,
    HasConditionals,
    HasLogProb,
    IsConditional,
    Likelihood,
    Losses,
    Split,
    Walk,
    check_condition,
)
from genus.kinds import Domain, Grid, classes_of
from genus.models.autoregressive._entries import log_odds, width_of
from genus.prob import noise
from genus.recipe import Recipe

CHUNK_ELEMENTS = 1 << 18  # activations held at once, positions x batch x hidden: 1 MiB stays in a core's cache
ROWS = 128  # data worked on at once on a processor: so a chunk has several positions
LARGEST = 100_000  # inputs: 400 MB of weights at 500 hidden units


class RunningActivation(torch.autograd.Function):
    """``V_i sigmoid(start + sum_{j<i} W_j x_j)`` for all positions i; autograd would store O(D B H).

    Works through the positions chunk by chunk, so that the products of a chunk are one batched
    product. Forward keeps the running activation at the start of each chunk only; backward takes
    the chunks in reverse, computes the hidden units again, and carries the gradient that comes
    from all later positions along as a reverse running sum.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: Tensor, w: Tensor, v: Tensor) -> Tensor:
        """Shapes: x (D, I, B), start (B, H), w (D, I, H), v (D, O, H) -> (D, O, B). x is data: no gradient."""
        size = max(1, CHUNK_ELEMENTS // max(1, start.numel()))
        products, checkpoints = x.new_empty(len(x), v.shape[1], x.shape[-1]), []
        a = start
        for chunk in slices(len(x), size):
            checkpoints.append(a)
            h, a = hidden_units(x[chunk], a, w[chunk])
            torch.bmm(v[chunk], h.mT, out=products[chunk])
        ctx.size, ctx.checkpoints = size, checkpoints if any(ctx.needs_input_grad) else []
        ctx.save_for_backward(x, w, v)
        return products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        """From d loss / d products, (D, O, B)."""
        x, w, v = ctx.saved_tensors
        grad = grad.contiguous()
        grad_w, grad_v = torch.empty_like(w), torch.empty_like(v)
        later = torch.zeros_like(ctx.checkpoints[0])  # what the positions after i send back
        for chunk, a in zip(reversed(slices(len(x), ctx.size)), reversed(ctx.checkpoints), strict=True):
            h, _ = hidden_units(x[chunk], a, w[chunk])
            torch.bmm(grad[chunk], h, out=grad_v[chunk])
            sums = torch.empty(len(h) + 1, *later.shape, dtype=later.dtype, device=later.device)
            multiply(grad[chunk].mT, v[chunk], out=sums[:-1])
            h.addcmul_(h, h, value=-1)  # sigmoid' = h - h^2
            sums[-1] = later
            for i in reversed(range(len(h))):  # d loss / d a_i, through position i and all after it
                torch.addcmul(sums[i + 1], sums[i], h[i], out=sums[i])
            torch.bmm(x[chunk], sums[1:], out=grad_w[chunk])  # W_i x_i enters at a_{i+1}
            later = sums[0].clone()
        return None, later, grad_w, grad_v


def hidden_units(x: Tensor, a: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden units (K, B, H) of a chunk whose first activation is ``a``, and the activation after the chunk."""
    sums = torch.empty(len(x) + 1, *a.shape, dtype=a.dtype, device=a.device)
    sums[0] = a
    for i in range(len(x)):
        accumulate(sums[i], x[i].T, w[i], out=sums[i + 1])
    return sums[:-1].sigmoid_(), sums[-1].clone()


def multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Batched matrix product; broadcasting is three times as fast where the inner size is 1."""
    (torch.mul if left.shape[-1] == 1 else torch.bmm)(left, right, out=out)


def accumulate(a: Tensor, left: Tensor, right: Tensor, out: Tensor) -> None:
    """a + left @ right in one pass over memory, by broadcasting where the inner size is 1."""
    (torch.addcmul if left.shape[-1] == 1 else torch.addmm)(a, left, right, out=out)


def slices(count: int, size: int) -> list[slice]:
    """``0 .. count-1`` in consecutive pieces of at most ``size``."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


class NADE(GenerativeModel, HasLogProb, HasConditionals, IsConditional):
    """Neural autoregressive distribution estimator, in raster order (channel, row, column).

    A grid of two levels has one input and one logit per entry, as in the paper; a grid of L
    levels has L of each (one-hot, softmax).

    Args:
        hidden: units H of the hidden layer.
    """

    paper = (
        "Larochelle, Murray (2011). The Neural Autoregressive Distribution Estimator. "
        "https://proceedings.mlr.press/v15/larochelle11a.html"
    )
    domains = (Grid,)
    recipes = {  # noqa: RUF012
        "quick": Recipe(learning_rate=2e-3, batch_size=100, steps=600, schedule="cosine", ema=0.99),
        # By trial on binarized MNIST: 500 steps at 1e-3, 3e-3, 1e-2 reached 117.1, 101.3, 93.7 nats.
        "paper": Recipe(learning_rate=1e-2, batch_size=100, steps=10_000, schedule="cosine", ema=0.999),
    }
    domain: Grid

    def __init__(self, domain: Grid, condition: Domain | None = None, *, hidden: int = 500):
        super().__init__(domain, condition)
        if hidden < 1:
            raise ValueError(f"hidden: expected at least 1 unit; got {hidden}.")
        self.width = width_of(domain)
        self.w = nn.Parameter(nn.init.normal_(torch.empty(domain.num_dims, self.width, hidden), std=0.05))
        self.v = nn.Parameter(nn.init.normal_(torch.empty(domain.num_dims, self.width, hidden), std=0.05))
        self.b = nn.Parameter(torch.zeros(domain.num_dims, self.width))
        self.c = nn.Parameter(torch.zeros(hidden))
        if condition is not None:
            self.label = nn.Parameter(nn.init.normal_(torch.empty(classes_of(condition), hidden), std=0.05))

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, hidden=8)  # type: ignore[arg-type]  # __init__ refuses other domains

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and domain.num_dims * width_of(domain) > LARGEST:
            inputs = f"{domain.num_dims * width_of(domain):,} one-hot inputs"
            return f"nade has two weights per hidden unit and input: {domain} makes {inputs}, over {LARGEST:,}."
        return super().refuses(domain)

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    def initialise(self, split: Split) -> None:
        """Start the biases b at the data's own (add-one) log-odds, entry by entry."""
        self.b.data.copy_(log_odds(split, self.domain))

    def first_activation(self, count: int, condition: Tensor | None) -> Tensor:
        """a_1 = c, plus the label's own vector: ``(B, H)``."""
        check_condition(self, condition, count)
        return self.c.expand(count, -1) if condition is None else self.c + self.label[condition]

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Of p(x_i | x_<i) for every entry i, in raster order, batch last: ``(D, 1 or levels, B)``."""
        self.domain.check(x)
        flat = x.flatten(1).T  # (D, B)
        inputs = flat.unsqueeze(1) if self.width == 1 else F.one_hot(flat.long(), self.width).mT
        with torch.autocast(x.device.type, enabled=False):  # a sum over D entries wants its full precision
            start = self.first_activation(len(x), condition)
            rows = ROWS if x.device.type == "cpu" else max(1, len(x))
            products = [
                RunningActivation.apply(part.to(self.w.dtype).contiguous(), first, self.w, self.v)
                for part, first in zip(inputs.split(rows, -1), start.split(rows), strict=True)
            ]
            return torch.cat(products, -1) + self.b.unsqueeze(-1)

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        logits, flat = self.logits(x, condition), x.flatten(1).T.unsqueeze(1)
        if self.width == 1:
            return -F.binary_cross_entropy_with_logits(logits, flat.to(logits.dtype), reduction="none").sum((0, 1))
        return logits.log_softmax(1).gather(1, flat.long()).sum((0, 1))

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        a = self.first_activation(count, condition)
        for place, (w, v, b) in enumerate(zip(self.w, self.v, self.b, strict=True)):
            logits = F.linear(a.sigmoid(), v, b)
            entry = yield place, F.pad(logits, (1, 0)) if self.width == 1 else logits
            a = a + (entry.unsqueeze(1) * w if self.width == 1 else w[entry])

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x, condition=batch.condition)}

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """One pass, entry by entry; for two levels an entry is drawn by one comparison: u < sigmoid(z + b)."""
        a = self.first_activation(count, condition).clone()
        values = self.chain(a, self.chooser(count, generator))  # (D, B, width)
        entries = values.squeeze(2) if self.width == 1 else values.argmax(2)
        return entries.T.to(self.domain.dtype).reshape(count, *self.domain.shape)

    def chooser(self, count: int, generator: torch.Generator | None) -> Callable[[int, Tensor], Tensor]:
        """Draws entry i from the products V_i h, as what it feeds in: 0/1 or one-hot, ``(B, width)``."""
        if self.width > 1:
            biases = self.b.unbind()
            return lambda i, z: F.one_hot(noise.categorical(z + biases[i], generator), self.width).to(z.dtype)
        u = noise.uniform((self.domain.num_dims, count), generator, self.device, self.w.dtype)
        thresholds = (u.logit() - self.b).unsqueeze(2).unbind()
        return lambda i, z: torch.gt(z, thresholds[i], out=z)

    @torch.no_grad()
    def chain(self, a: Tensor, choose: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Carry the activation ``a`` (B, H), in place, through the entries that ``choose`` picks: ``(D, B, width)``."""
        h, values = torch.empty_like(a), []
        for i, (w, v) in enumerate(zip(self.w.unbind(), self.v.mT.unbind(), strict=True)):
            values.append(choose(i, torch.mm(torch.sigmoid(a, out=h), v)))
            a.addmm_(values[-1], w)
        return torch.stack(values)
