"""A Markov chain as itself: what a matrix of transition probabilities says about the long run.

The model `markov` is a distribution of data; `MarkovChain` is the chain that such data may come from, on a
few states with names, in float64: estimated from sequences, looked at n steps ahead, taken apart
into classes, and, where they exist, its stationary distribution and mixing time. What does not exist for a
chain (a unique stationary distribution of a reducible one, a limit of a periodic one) is refused with a
ValueError that says why, rather than computed.

    chain = MarkovChain([[0.7, 0.3], [0.25, 0.75]], ("sunny", "rainy"))
    chain.after([0.8, 0.2], 2)  # 0.5245, 0.4755
    chain.stationary            # 5/11, 6/11
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from scipy.sparse.csgraph import breadth_first_order, connected_components
from torch import Tensor

from genus.prob import noise

MOST_STATES = 4096  # a matrix of 134 MB
LONGEST = 60  # doublings after which a chain counts as one that never mixes
CLOSE = 0.25  # the total variation at which a chain is said to have mixed


class MarkovChain:
    """A homogeneous chain of order one on finitely many states.

    matrix: ``(K, K)``, row u the distribution of what follows u. names: of the states; by default
    their numbers. A chain cannot be changed.
    """

    def __init__(self, matrix: Tensor | Sequence[Sequence[float]] | np.ndarray, names: Sequence[Hashable] = ()):
        matrix = torch.as_tensor(matrix, dtype=torch.float64).clone()
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not 1 <= len(matrix) <= MOST_STATES:
            raise ValueError(
                f"matrix: expected a square one of 1 to {MOST_STATES} states; got shape {tuple(matrix.shape)}."
            )
        self.names = tuple(map(str, names)) or tuple(map(str, range(len(matrix))))
        if len(set(self.names)) != len(matrix):
            raise ValueError(f"names: expected {len(matrix)} different ones; got {len(set(self.names))}.")
        rows = matrix.sum(1)
        if not matrix.isfinite().all() or (matrix < 0).any() or (rows - 1).abs().max() > 1e-9:
            wrong = int((matrix.isfinite().all(1) & (matrix >= 0).all(1) & ((rows - 1).abs() <= 1e-9)).int().argmin())
            raise ValueError(
                f"matrix: expected probabilities that sum to 1 in each row; that of {self.names[wrong]!r} "
                f"sums to {float(rows[wrong]):g}."
            )
        self.matrix = matrix

    def __len__(self) -> int:
        return len(self.matrix)

    def __repr__(self) -> str:
        return f"MarkovChain({len(self)} states: {', '.join(self.names[:8])}{', ...' if len(self) > 8 else ''})"

    @classmethod
    def estimate(cls, sequences: Iterable[Sequence[Hashable]], smoothing: float = 0.0) -> "MarkovChain":
        """The chain of largest likelihood: how often each state followed each, ``smoothing`` added to every pair.

        The states are those that occur, in sorted order. Raises a ValueError where nothing says
        what follows a state, because it only comes last, and there is no smoothing.
        """
        if not 0 <= smoothing < math.inf:
            raise ValueError(f"smoothing: expected pseudo-counts of 0 or more; got {smoothing}.")
        kept = [list(sequence) for sequence in sequences]
        names = sorted({state for sequence in kept for state in sequence}, key=_in_order)
        if not 1 <= len(names) <= MOST_STATES:
            raise ValueError(f"expected sequences of 1 to {MOST_STATES} different states; got {len(names)}.")
        counts = torch.full((len(names), len(names)), float(smoothing), dtype=torch.float64)
        code = {name: k for k, name in enumerate(names)}
        for sequence in kept:
            codes = torch.tensor([code[state] for state in sequence], dtype=torch.int64)
            ones = torch.ones(max(len(codes) - 1, 0), dtype=torch.float64)
            counts.index_put_((codes[:-1], codes[1:]), ones, accumulate=True)
        left = counts.sum(1, keepdim=True)
        if not left.all():
            lost = names[int((left == 0).int().argmax())]
            raise ValueError(
                f"nothing says what follows {str(lost)[:60]!r}: it only comes last; give smoothing above 0, "
                "so that anything may follow, or leave it out."
            )
        return cls(counts / left, names)

    # -- steps --------------------------------------------------------------------------------

    def steps(self, n: int) -> Tensor:
        """The n-step transition probabilities, the n-th power of the matrix, by repeated squaring."""
        if n < 0:
            raise ValueError(f"expected 0 steps or more; got {n}.")
        power, square = torch.eye(len(self), dtype=torch.float64), self.matrix
        while n:
            power = _rows_to_one(power @ square) if n & 1 else power
            n >>= 1
            square = _rows_to_one(square @ square) if n else square
        return power

    def after(self, start: Tensor | Sequence[float], n: int) -> Tensor:
        """The distribution ``(K,)`` after n steps from the distribution ``start``."""
        return self.distribution(start) @ self.steps(n)

    def distribution(self, start: Tensor | Sequence[float]) -> Tensor:
        """``start`` in float64, checked to be a distribution over the states."""
        p = torch.as_tensor(start, dtype=torch.float64)
        if p.shape != (len(self),) or not p.isfinite().all() or (p < 0).any() or abs(float(p.sum()) - 1) > 1e-9:
            raise ValueError(
                f"start: expected {len(self)} probabilities that sum to 1; got shape {tuple(p.shape)}, "
                f"sum {float(p.sum()):g}."
            )
        return p

    def log_prob(self, states: Sequence[int] | Tensor, start: Tensor | Sequence[float] | None = None) -> float:
        """log p of a sequence of state numbers in nats: of its transitions, given its first state; with
        ``start``, also of that."""
        codes = torch.as_tensor(states, dtype=torch.int64)
        if codes.ndim != 1 or not len(codes) or codes.min() < 0 or codes.max() >= len(self):
            raise ValueError(f"states: expected a sequence of numbers 0..{len(self) - 1}; got {tuple(codes.shape)}.")
        first = 0.0 if start is None else float(self.distribution(start)[codes[0]].log())
        return first + float(self.matrix[codes[:-1], codes[1:]].log().sum())

    def sample(
        self,
        count: int,
        length: int,
        start: Tensor | Sequence[float] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``count`` sequences of ``length`` state numbers, ``(count, length)``; the first state is drawn from
        ``start``, by default the stationary distribution."""
        p = self.stationary if start is None else self.distribution(start)
        states = [noise.categorical(p.log().expand(count, -1), generator)]
        while len(states) < length:
            states.append(noise.categorical(self.matrix.log()[states[-1]], generator))
        return torch.stack(states[:length], 1) if length else states[0].new_empty(count, 0)

    # -- structure ----------------------------------------------------------------------------

    @cached_property
    def classes(self) -> tuple[tuple[int, ...], ...]:
        """The communicating classes: sets of states that all lead to each other."""
        found, label = connected_components(self.matrix.numpy() > 0, connection="strong")
        groups = [tuple(np.flatnonzero(label == k).tolist()) for k in range(found)]
        return tuple(sorted(groups))

    @cached_property
    def closed(self) -> tuple[tuple[int, ...], ...]:
        """The classes that are never left. States of the others are transient: left for good one day."""
        everything = set(range(len(self)))
        outside = ((group, sorted(everything - set(group))) for group in self.classes)
        return tuple(group for group, rest in outside if not self.matrix[list(group)][:, rest].any())

    @property
    def irreducible(self) -> bool:
        """Whether every state leads to every other."""
        return len(self.classes) == 1

    def period_of(self, group: Sequence[int]) -> int:
        """The greatest common divisor of the lengths of all ways round within a class; 0 where there is none."""
        edges = self.matrix[list(group)][:, list(group)].numpy() > 0
        order, before = breadth_first_order(edges, 0)
        depth = np.zeros(len(group), np.int64)
        for state in order[1:]:
            depth[state] = depth[before[state]] + 1
        tail, head = np.nonzero(edges)
        return int(np.gcd.reduce(np.abs(depth[tail] + 1 - depth[head]), initial=0))

    @cached_property
    def period(self) -> int:
        """The least common multiple of the periods of the closed classes; 1 means that the chain is aperiodic
        where it stays."""
        return math.lcm(*(self.period_of(group) for group in self.closed))

    @property
    def aperiodic(self) -> bool:
        """Whether the powers of the matrix converge."""
        return self.period == 1

    @cached_property
    def reversible(self) -> bool:
        """Whether the stationary chain looks the same backwards: pi_u P_uv = pi_v P_vu for all pairs.
        Raises a ValueError where there is no unique stationary distribution."""
        flow = self.stationary.unsqueeze(1) * self.matrix
        return bool(torch.allclose(flow, flow.T, rtol=1e-9, atol=1e-300 + 1e-15 * float(flow.max())))

    # -- the long run -------------------------------------------------------------------------

    @cached_property
    def stationary(self) -> Tensor:
        """The distribution that a step does not change, ``(K,)``, by elimination without subtractions (Grassmann,
        Taksar & Heyman 1985), so that small probabilities are exact too. Raises a ValueError where there
        are many: one for each closed class, and every mixture."""
        if len(self.closed) > 1:
            raise ValueError(
                f"there is no unique stationary distribution: the chain is reducible, {len(self.closed)} sets "
                "of states are never left once entered, and each has a distribution of its own."
            )
        group = list(self.closed[0])
        p = self.matrix[group][:, group].clone()
        for k in range(len(group) - 1, 0, -1):  # the chain watched only while it is among the first k states
            p[:k, k] /= p[k, :k].sum()
            p[:k, :k] += p[:k, k : k + 1] * p[k, :k]
        weight = torch.ones(len(group), dtype=torch.float64)
        for k in range(1, len(group)):
            weight[k] = weight[:k] @ p[:k, k]
            weight[: k + 1] /= weight[: k + 1].max()  # no overflow on the way
        distribution = torch.zeros(len(self), dtype=torch.float64)
        distribution[group] = weight / weight.sum()
        return distribution

    @property
    def limit(self) -> Tensor:
        """The distribution that the chain tends to from any start. Raises a ValueError where there is none."""
        distribution = self.stationary
        if not self.aperiodic:
            raise ValueError(
                f"there is no limit: the chain is periodic, it returns to where it was every {self.period} steps, "
                "and its stationary distribution is only how often it visits each state."
            )
        return distribution

    def distance(self, power: Tensor) -> float:
        """The largest total variation between a row of ``power`` (an n-step matrix) and the limit."""
        return float((power - self.limit).abs().sum(1).max()) / 2

    @cached_property
    def mixing_time(self) -> int:
        """The smallest n after which the worst start is within 1/4 of the limit in total variation.

        That distance never grows with n. So: square the matrix until it is near enough, then go back
        through the squares, largest first, and take each step that does not arrive yet. Raises a
        ValueError where there is no limit, or it is over 2^60 steps away.
        """
        if self.distance(self.steps(0)) <= CLOSE:
            return 0
        squares = [self.matrix]
        while self.distance(squares[-1]) > CLOSE:
            if len(squares) > LONGEST:
                raise ValueError(
                    f"the chain has not mixed after 2^{LONGEST} steps: some transition is next to impossible."
                )
            squares.append(_rows_to_one(squares[-1] @ squares[-1]))
        steps, power = 0, self.steps(0)  # the largest n that is still too far away
        for k in reversed(range(len(squares) - 1)):
            farther = _rows_to_one(power @ squares[k])
            if self.distance(farther) > CLOSE:
                steps, power = steps + 2**k, farther
        return steps + 1


def _rows_to_one(matrix: Tensor) -> Tensor:
    """Rounding errors of long products would otherwise double with each squaring."""
    return matrix / matrix.sum(1, keepdim=True)


def _in_order(state: Hashable) -> tuple[bool, float, str]:
    """Numbers by size, then text by the alphabet."""
    try:
        number = float(str(state))
    except ValueError:
        number = math.nan
    return (False, number, str(state)) if math.isfinite(number) else (True, 0.0, str(state))
