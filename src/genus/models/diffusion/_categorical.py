"""Diffusion of categories in discrete time: a noise process, what follows from it, and its bound.

Entries hop between states in T small steps, each entry by itself, and a network learns to undo them:

    q(x_t | x_{t-1}) = row x_{t-1} of Q_t,       q(x_t | x_0) = row x_0 of Q_bar_t = Q_1 Q_2 ... Q_t
    q(x_{t-1} | x_t, x_0) ~ q(x_t | x_{t-1}) q(x_{t-1} | x_0)                          (equation 3)
    p(x_{t-1} | x_t) ~ sum over x_0 of q(x_{t-1}, x_t | x_0) p~(x_0 | x_t)
                     = q(x_t | x_{t-1}) (p~ Q_bar_{t-1})(x_{t-1})                      (equation 4)

One formula: equation 3 is equation 4 with a p~ that is sure of x_0. It weighs p~ by q(x_t | x_0), so p~ is what
the *other* entries say of an entry; its own noisy state is taken in by Bayes' rule. The perfect p~ of entry i is
p(x_0^i | x_t without entry i), and then p(x_{t-1}^i | x_t) is the true one.

Nothing here knows the shape of a datum: x is any integer tensor ``(B, ...)``, steps are ``(B,)`` from 0 (data) to T
(noise). Distributions have the states as their last axis. Data have ``levels`` values; the absorbing process has one
state more, the mask. Equation numbers are those of Austin et al. (2021), https://arxiv.org/abs/2107.03006.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from genus.models.diffusion._samplers import of_steps
from genus.prob import noise

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""``(x_t, step)`` with step ``(B,)`` in 1 .. T -> log p~(x_0 | x_t), ``(B, ..., levels)``."""

Reverse = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(x_t, step, previous)`` with previous < step -> log p(x_previous | x_t), ``(B, ..., states)``."""

Kernel = Literal["uniform", "absorbing", "gaussian"]
"""What a hop does: to any level alike, to the mask for good, or to levels nearby."""

LARGEST = 2**26  # numbers in the gaussian kernel's table: 512 MiB


# --- noise processes --------------------------------------------------------------------------


class CategoricalProcess(nn.Module, ABC):
    """q: how data become noise. Subclasses give Q_bar from the left (`spread`), Q from the right (`likelihood`)
    and where it ends (`stationary`)."""

    def __init__(self, levels: int, states: int, steps: int):
        super().__init__()
        if levels < 2 or steps < 1:
            raise ValueError(f"expected at least two levels and one step; got {levels} and {steps}.")
        self.levels, self.states, self.steps = levels, states, steps

    @property
    @abstractmethod
    def stationary(self) -> Tensor:
        """p(x_T) of an entry, ``(states,)`` float64: what samples start from."""

    @abstractmethod
    def spread(self, p: Tensor, step: Tensor) -> Tensor:
        """p Q_bar_t, the distribution of x_t for x_0 of the distribution p: ``(B, ..., levels)`` -> ``(B, ...,
        states)``."""

    @abstractmethod
    def likelihood(self, x_t: Tensor, step: Tensor, previous: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """q(x_t | x_previous) for every state of x_previous, previous < step: ``(B, ..., states)``."""

    def distribution(self, x_0: Tensor, step: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """q(x_t | x_0), ``(B, ..., states)``."""
        return self.spread(one_hot(x_0, self.levels, dtype), step)

    def diffuse(self, x_0: Tensor, step: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A draw of q(x_t | x_0), int64 of the shape of x_0."""
        return noise.categorical(self.distribution(x_0, step).log(), generator)

    def seen(self, x_0: Tensor, step: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Known entries as the network may see them at a step: as noisy as the others."""
        return self.diffuse(x_0, step, generator)

    def log_posterior(
        self, x_t: Tensor, x_0: Tensor, step: Tensor, previous: Tensor, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """log q(x_previous | x_t, x_0), ``(B, ..., states)`` (equation 3); NaN where q(x_t | x_0) is zero."""
        joint = self.likelihood(x_t, step, previous, dtype).log() + self.distribution(x_0, previous, dtype).log()
        return joint.log_softmax(-1)

    def log_reverse(self, x_t: Tensor, log_p: Tensor, step: Tensor, previous: Tensor) -> Tensor:
        """log p(x_previous | x_t) of log p~(x_0 | x_t) ``(B, ..., levels)``: ``(B, ..., states)`` (equation 4).

        In the dtype of log_p. A state has no less than the smallest normal number of p~ Q_bar, so that what the
        process allows has a finite logarithm; NaN where no state can have become x_t.
        """
        mixed = self.spread(log_p.exp(), previous).clamp(min=torch.finfo(log_p.dtype).tiny)
        return (self.likelihood(x_t, step, previous, log_p.dtype).log() + mixed.log()).log_softmax(-1)

    def end_cost(self, x_0: Tensor) -> Tensor:
        """L_T = KL( q(x_T | x_0) || p(x_T) ), what is left of a datum at the end: ``(B,)`` float64 nats."""
        every = torch.arange(self.levels, device=x_0.device)
        left = self.distribution(every, torch.full_like(every, self.steps)).log()
        return categorical_kl(left, self.stationary.log())[x_0].flatten(1).sum(1)


class Forgetting(CategoricalProcess):
    """A process that keeps an entry or forgets it, and draws a forgotten one from the stationary distribution.

    kept: ``(T + 1,)`` probabilities that an entry is still kept, falling from 1.
    """

    kept: Tensor

    def __init__(self, levels: int, states: int, kept: Tensor):
        super().__init__(levels, states, len(kept) - 1)
        if kept.ndim != 1 or kept[0] != 1 or (kept.diff() > 0).any() or (kept[:-1] <= 0).any() or kept[-1] < 0:
            raise ValueError(f"expected probabilities that fall from 1, zero at the last step only; got {kept}.")
        self.register_buffer("kept", kept.double())

    def kept_at(self, step: Tensor, previous: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor:
        """The probability of being kept until ``step`` if kept until ``previous``, with the axes of ``like``."""
        share = self.kept[step] if previous is None else self.kept[step] / self.kept[previous]
        return share.to(dtype).view(-1, *[1] * (like.ndim - 1))

    def keeps(self, x_0: Tensor, step: Tensor, generator: torch.Generator | None) -> Tensor:
        """Which entries are kept until a step, drawn."""
        u = noise.uniform(tuple(x_0.shape), generator, x_0.device, torch.float64)
        return u < self.kept_at(step, None, x_0, torch.float64)


class Uniform(Forgetting):
    """Q = kept I + (1 - kept) / K: a forgotten entry becomes any level (appendix A.2.1)."""

    def __init__(self, levels: int, kept: Tensor):
        super().__init__(levels, levels, kept)

    @property
    def stationary(self) -> Tensor:
        """Every level alike."""
        return self.kept.new_full((self.states,), 1 / self.states)

    def spread(self, p: Tensor, step: Tensor) -> Tensor:
        """kept p + (1 - kept) / K."""
        kept = self.kept_at(step, None, p, p.dtype)
        return kept * p + (1 - kept) / self.states

    def likelihood(self, x_t: Tensor, step: Tensor, previous: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """A column of Q, which is symmetric."""
        kept = self.kept_at(step, previous, x_t, dtype).unsqueeze(-1)
        return kept * one_hot(x_t, self.states, dtype) + (1 - kept) / self.states

    def diffuse(self, x_0: Tensor, step: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Each entry is kept, or any level."""
        anything = noise.integers(self.levels, tuple(x_0.shape), generator, x_0.device)
        return torch.where(self.keeps(x_0, step, generator), x_0.long(), anything)


class Absorbing(Forgetting):
    """A forgotten entry becomes the mask, the state ``levels``, and stays it (appendix A.2.2)."""

    def __init__(self, levels: int, kept: Tensor):
        super().__init__(levels, levels + 1, kept)
        if kept[-1] != 0:
            raise ValueError(f"expected every entry to be masked at last; {float(kept[-1]):g} of them are kept.")

    @property
    def stationary(self) -> Tensor:
        """The mask, for sure."""
        return one_hot(self.kept.new_tensor(self.levels).long(), self.states, torch.float64)

    def spread(self, p: Tensor, step: Tensor) -> Tensor:
        """kept p, and the rest on the mask."""
        kept = self.kept_at(step, None, p, p.dtype)
        return torch.cat([kept * p, (1 - kept).expand_as(p[..., :1])], -1)

    def likelihood(self, x_t: Tensor, step: Tensor, previous: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """A level stays itself or is masked; the mask stays the mask."""
        kept, state = self.kept_at(step, previous, x_t, dtype).unsqueeze(-1), one_hot(x_t, self.states, dtype)
        level, masked = state[..., :-1], state[..., -1:]
        return torch.cat([kept * level + (1 - kept) * masked, masked], -1)

    def diffuse(self, x_0: Tensor, step: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Each entry is kept or masked."""
        return torch.where(self.keeps(x_0, step, generator), x_0.long(), self.levels)

    def seen(self, x_0: Tensor, step: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Known entries as they are: to be known is not to be masked."""
        return x_0.long()


class DiscretizedGaussian(CategoricalProcess):
    """Hops to levels nearby, with the odds of a normal distribution on the ordered levels (appendix A.2.3).

    Q_bar has no closed form: all T of them are kept as one table of T K^2 numbers, 512 MiB at the most (256
    levels, 1,000 steps). It is computed when it is first asked for, and no checkpoint holds it.

    betas: ``(T,)``, twice the variances of the single hops where the levels span [-1, 1].
    """

    betas: Tensor

    def __init__(self, levels: int, betas: Tensor):
        super().__init__(levels, levels, len(betas))
        if betas.ndim != 1 or not (betas > 0).all():
            raise ValueError(f"expected positive betas, shape (T,); got {betas}.")
        if self.steps * levels**2 > LARGEST:
            raise ValueError(
                f"the gaussian kernel keeps a table of {self.steps} x {levels}^2 numbers, over {LARGEST:,}: take at "
                f"most {LARGEST // levels**2} timesteps, or the uniform or absorbing kernel, which keep none."
            )
        self.register_buffer("betas", betas.double())
        self._table: Tensor | None = None

    @property
    def table(self) -> Tensor:
        """Q_bar of the steps 0 .. T, ``(T + 1, K, K)`` float64."""
        if self._table is None or self._table.device != self.betas.device:
            table = self.betas.new_empty(self.steps + 1, self.levels, self.levels)
            table[0] = torch.eye(self.levels)
            for t, beta in enumerate(self.betas):
                torch.matmul(table[t], gaussian_matrix(self.levels, beta), out=table[t + 1])
            self._table = table
        return self._table

    @property
    def stationary(self) -> Tensor:
        """Every level alike, as columns of Q sum to 1 too."""
        return self.betas.new_full((self.states,), 1 / self.states)

    def spread(self, p: Tensor, step: Tensor) -> Tensor:
        """A product with one matrix a datum."""
        return (p.reshape(len(p), -1, self.levels) @ self.table[step].to(p.dtype)).view(p.shape)

    def distribution(self, x_0: Tensor, step: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Rows of the table, looked up."""
        return self.table[step.view(-1, *[1] * (x_0.ndim - 1)), x_0.long()].to(dtype)

    def likelihood(self, x_t: Tensor, step: Tensor, previous: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Columns of the product of the single steps in between."""
        pairs, place = torch.stack([previous, step], 1).unique(dim=0, return_inverse=True)
        between = torch.stack([self.between(s, t) for s, t in pairs.tolist()])[place]
        datum = torch.arange(len(x_t), device=x_t.device).view(-1, *[1] * (x_t.ndim - 1))
        return between.mT[datum, x_t].to(dtype)

    def between(self, previous: int, step: int) -> Tensor:
        """Q_{previous + 1} ... Q_step, ``(K, K)``."""
        product = gaussian_matrix(self.levels, self.betas[previous])
        for beta in self.betas[previous + 1 : step]:
            product = product @ gaussian_matrix(self.levels, beta)
        return product


def gaussian_matrix(levels: int, beta: Tensor | float) -> Tensor:
    """Q of one hop, ``(K, K)`` float64: off the diagonal exp(-4 |i-j|^2 / ((K-1)^2 beta)) over its sum for all
    differences -(K-1) .. K-1, on it what is left to 1. Symmetric, so rows and columns sum to 1."""
    like = torch.as_tensor(beta, dtype=torch.float64)
    level = torch.arange(levels, dtype=torch.float64, device=like.device)
    weight = torch.exp(-4 * level.square() / ((levels - 1) ** 2 * like))
    weight = weight / (weight[0] + 2 * weight[1:].sum())
    matrix = weight[(level.view(-1, 1) - level).abs().long()].fill_diagonal_(0.0)
    return matrix + torch.diag(1 - matrix.sum(1))


def process_of(kernel: Kernel, levels: int, steps: int) -> CategoricalProcess:
    """A kernel with its schedule of the paper.

    uniform: the squared cosine of Nichol & Dhariwal (2021, https://arxiv.org/abs/2102.09672), equation 17.
    absorbing: beta_t = 1 / (T - t + 1), so that entries are masked at an even pace (section 3.1). gaussian: betas
    on a line, 0.02 at the end of 1,000 steps and more where there are fewer steps or too few levels to hop.
    Raises a ValueError for another kernel.
    """
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if kernel == "uniform":
        curve = torch.cos((t + 0.008) / 1.008 * torch.pi / 2).square()
        return Uniform(levels, curve / curve[0])
    if kernel == "absorbing":
        return Absorbing(levels, 1 - t)
    if kernel == "gaussian":
        last = max(20 / steps, 4 / (levels - 1) ** 2)
        return DiscretizedGaussian(levels, torch.linspace(last / 200, last, steps, dtype=torch.float64))
    raise ValueError(f"expected the kernel 'uniform', 'absorbing' or 'gaussian'; got {kernel!r}.")


# --- variational bound ------------------------------------------------------------------------


def one_hot(x: Tensor, states: int, dtype: torch.dtype) -> Tensor:
    """Distributions that are sure of x: ``(...)`` -> ``(..., states)``."""
    return torch.zeros(*x.shape, states, dtype=dtype, device=x.device).scatter_(-1, x.long().unsqueeze(-1), 1.0)


def categorical_kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) over the last axis, in nats; states without q cost nothing."""
    q = log_q.exp()
    return (q * (log_q - log_p)).masked_fill(q == 0, 0.0).sum(-1)


def reversing(process: CategoricalProcess, denoise: Denoiser, dtype: torch.dtype | None = None) -> Reverse:
    """The reverse steps of a denoiser (equation 4), in ``dtype`` where one is given."""

    def reverse(x_t: Tensor, step: Tensor, previous: Tensor) -> Tensor:
        log_p = denoise(x_t, step)
        return process.log_reverse(x_t, log_p if dtype is None else log_p.to(dtype), step, previous)

    return reverse


def step_cost(process: CategoricalProcess, log_r: Tensor, x_0: Tensor, x_t: Tensor, step: Tensor) -> Tensor:
    """L_{t-1} = KL( q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t) ) of each datum, ``(B,)`` nats, in the dtype of log_r,
    which is log p(x_{t-1} | x_t), ``(B, ..., states)``.

    For t = 1 that is -log p(x_0 | x_1), as q then is sure.
    """
    return categorical_kl(process.log_posterior(x_t, x_0, step, step - 1, log_r.dtype), log_r).flatten(1).sum(1)


@torch.no_grad()
def bound_terms(
    process: CategoricalProcess, reverse: Reverse, x_0: Tensor, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """The terms of -log p(x_0) <= L_0 + sum_t L_{t-1} + L_T (equation 1), one noise draw each.

    Returns nats: "L_0" ``(B,)``, "L_t" ``(B, T-1)`` whose column t-2 is L_{t-1}, and "L_T" ``(B,)``, which
    is exact. Takes T reverse steps; keeps no gradients.
    """

    def cost(k: int) -> Tensor:
        step = torch.full((len(x_0),), k, device=x_0.device)
        x_t = process.diffuse(x_0, step, generator)
        return step_cost(process, reverse(x_t, step, step - 1), x_0, x_t, step)

    costs = torch.stack([cost(k) for k in range(1, process.steps + 1)], 1)
    return {"L_0": costs[:, 0], "L_t": costs[:, 1:], "L_T": process.end_cost(x_0)}


@torch.no_grad()
def log_weight(
    process: CategoricalProcess, reverse: Reverse, x_0: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """log p(x_{0:T}) - log q(x_{1:T} | x_0) of one path of noise drawn from q: ``(B,)`` float64 nats.

    Its mean is minus the sum of `bound_terms`; the mean of its exponential is p(x_0) itself. Takes T reverse
    steps; keeps no gradients.
    """

    def of(log_p: Tensor, x: Tensor) -> Tensor:
        return log_p.gather(-1, x.unsqueeze(-1)).flatten(1).sum(1)

    step = torch.full((len(x_0),), process.steps, device=x_0.device)
    x_t = process.diffuse(x_0, step, generator)
    weight = of(process.stationary.log() - process.distribution(x_0, step).log(), x_t)
    for _ in range(process.steps):
        log_q = process.log_posterior(x_t, x_0, step, step - 1)
        log_r = reverse(x_t, step, step - 1)
        x_t, step = noise.categorical(log_q, generator), step - 1
        weight = weight + of(log_r - log_q, x_t)
    return weight


# --- sampling ---------------------------------------------------------------------------------


def spacing(total: int, steps: int | None = None) -> list[tuple[int, int]]:
    """``steps`` pairs (step, previous) from ``total`` down to 0, evenly spaced and rounded; None takes every step."""
    return list(pairwise(round(total * t) for t in of_steps(total, steps)))


@torch.no_grad()
def ancestral(
    process: CategoricalProcess,
    reverse: Reverse,
    shape: tuple[int, ...],
    *,
    steps: int | None = None,
    known: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """x_0 ``(B, ...)`` from p(x_T) by draws of p(x_previous | x_t), the last step's too: nothing is an argmax.

    known: ``(x_0, keep)``, both of that shape: entries that are shown as they were at every step, instead of drawn.
    """
    x = noise.categorical(process.stationary.log().to(device).expand(*shape, -1), generator)
    for t, s in spacing(process.steps, steps):
        step, previous = (torch.full((len(x),), k, device=x.device) for k in (t, s))
        if known is not None:
            x = torch.where(known[1], process.seen(known[0], step, generator), x)
        log_p = reverse(x, step, previous)
        x = noise.categorical(log_p if s else log_p[..., : process.levels], generator)  # data have no mask
    return x if known is None else torch.where(known[1], known[0].long(), x)
