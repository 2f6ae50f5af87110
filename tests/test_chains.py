"""Markov chains against closed forms, brute-force powers of the matrix, and mutants that must fail."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genus.chains import MarkovChain
from genus.prob import noise

WEATHER = MarkovChain([[0.7, 0.3], [0.25, 0.75]], ("sunny", "rainy"))
RING = MarkovChain([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
TRAPS = MarkovChain([[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1]], ("walk", "home", "pub"))


def chain_of(seed: int, states: int, density: float) -> MarkovChain:
    """A random chain, in which each arrow is there with probability ``density``; every state leads somewhere."""
    generator = noise.stream("chain", seed)
    weights = noise.uniform((states, states), generator, dtype=torch.float64) + 0.01
    kept = noise.uniform((states, states), generator) < density
    kept[torch.arange(states), noise.integers(states, (states,), generator)] = True
    weights = weights * kept
    return MarkovChain(weights / weights.sum(1, keepdim=True))


chains = st.builds(chain_of, st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([0.0, 0.2, 0.4, 1.0]))


def reach(chain: MarkovChain) -> Tensor:
    """Which states can be reached from which in 0 or more steps, by adding up powers."""
    edges = (chain.matrix > 0).double()
    total = power = torch.eye(len(chain), dtype=torch.float64)
    for _ in range(len(chain)):
        power = ((power @ edges) > 0).double()
        total = total + power
    return total > 0


# -- the weather ------------------------------------------------------------------------------


def test_the_weather() -> None:
    assert WEATHER.after([0.8, 0.2], 2)[0].item() == pytest.approx(0.5245, abs=1e-12)
    assert WEATHER.stationary[0].item() == pytest.approx(5 / 11, abs=1e-12)
    assert WEATHER.limit[1].item() == pytest.approx(6 / 11, abs=1e-12)
    torch.testing.assert_close(WEATHER.steps(2), WEATHER.matrix @ WEATHER.matrix, rtol=0, atol=1e-15)
    assert (WEATHER.irreducible, WEATHER.aperiodic, WEATHER.period, WEATHER.reversible) == (True, True, 1, True)
    assert WEATHER.mixing_time == 1 + int(math.log(0.25 / (6 / 11)) / math.log(0.45))  # worst start: 6/11 * 0.45^n
    assert WEATHER.classes == WEATHER.closed == ((0, 1),)


def test_periodic_chains_are_flagged() -> None:
    assert RING.irreducible and RING.period == 3 and not RING.aperiodic and not RING.reversible
    torch.testing.assert_close(RING.stationary, torch.full((3,), 1 / 3, dtype=torch.float64))
    for ask in (lambda: RING.limit, lambda: RING.mixing_time):
        with pytest.raises(ValueError, match=r"no limit: the chain is periodic, .* every 3 steps"):
            ask()
    assert MarkovChain([[0, 1], [1, 0]]).reversible


def test_reducible_chains_are_flagged() -> None:
    assert not TRAPS.irreducible and TRAPS.aperiodic
    assert TRAPS.classes == ((0,), (1,), (2,)) and TRAPS.closed == ((1,), (2,))
    for ask in (lambda: TRAPS.stationary, lambda: TRAPS.limit, lambda: TRAPS.mixing_time, lambda: TRAPS.reversible):
        with pytest.raises(
            ValueError, match="no unique stationary distribution: the chain is reducible, 2 sets of states"
        ):
            ask()
    torch.testing.assert_close(TRAPS.after([1, 0, 0], 60), torch.tensor([0, 0.5, 0.5], dtype=torch.float64))


def test_a_transient_state_is_left_for_good() -> None:
    """Reducible, yet with one closed class: distribution, limit and mixing time exist."""
    chain = MarkovChain([[0.9, 0.1, 0], [0, 0.7, 0.3], [0, 0.25, 0.75]])
    assert not chain.irreducible and chain.closed == ((1, 2),)
    torch.testing.assert_close(chain.limit, torch.tensor([0, 5 / 11, 6 / 11], dtype=torch.float64))
    brute = next(n for n in range(100) if chain.distance(torch.linalg.matrix_power(chain.matrix, n)) <= 0.25)
    assert chain.mixing_time == brute > 10


# -- against brute force ----------------------------------------------------------------------


@given(chains, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_steps_are_powers(chain: MarkovChain, n: int) -> None:
    expected = torch.eye(len(chain), dtype=torch.float64)
    for _ in range(n):
        expected = expected @ chain.matrix
    torch.testing.assert_close(chain.steps(n), expected, rtol=0, atol=1e-13)


@given(chains)
@settings(max_examples=150, deadline=None)
def test_classes_and_periods_are_those_of_the_powers(chain: MarkovChain) -> None:
    both = reach(chain) & reach(chain).T
    assert sorted(map(tuple, {tuple(row.nonzero().flatten().tolist()) for row in both})) == list(chain.classes)
    assert set(chain.closed) == {
        g for g in chain.classes if set(reach(chain)[g[0]].nonzero().flatten().tolist()) == set(g)
    }
    edges, power = (chain.matrix > 0).double(), torch.eye(len(chain), dtype=torch.float64)
    returns: list[set[int]] = [set() for _ in range(len(chain))]
    for n in range(1, 80):
        power = ((power @ edges) > 0).double()
        for state in power.diagonal().nonzero().flatten().tolist():
            returns[state].add(n)
    for group in chain.classes:
        assert {math.gcd(*returns[state]) if returns[state] else 0 for state in group} == {chain.period_of(group)}


@given(chains)
@settings(max_examples=150, deadline=None)
def test_the_stationary_law_is_the_average_of_the_powers(chain: MarkovChain) -> None:
    if len(chain.closed) > 1:
        with pytest.raises(ValueError, match="no unique stationary distribution"):
            chain.stationary  # noqa: B018
        return
    distribution = chain.stationary
    torch.testing.assert_close(distribution @ chain.matrix, distribution, rtol=0, atol=1e-14)
    assert distribution.min() >= 0 and abs(distribution.sum().item() - 1) < 1e-14
    lazy = MarkovChain((chain.matrix + torch.eye(len(chain))) / 2)  # the same distribution, always aperiodic
    torch.testing.assert_close(lazy.steps(2**20), distribution.expand(len(chain), -1), rtol=0, atol=1e-9)
    flow = distribution.unsqueeze(1) * chain.matrix
    assert chain.reversible == bool((flow - flow.T).abs().max() < 1e-12)


@given(chains)
@settings(max_examples=100, deadline=None)
def test_the_mixing_time_is_the_first_step_that_is_near_enough(chain: MarkovChain) -> None:
    if len(chain.closed) > 1 or not chain.aperiodic:
        with pytest.raises(ValueError, match=r"no unique stationary distribution|no limit"):
            chain.mixing_time  # noqa: B018
        return
    power, distribution, n = torch.eye(len(chain), dtype=torch.float64), chain.stationary, 0
    while (power - distribution).abs().sum(1).max() / 2 > 0.25:
        power, n = power @ chain.matrix, n + 1
    assert chain.mixing_time == n


def test_slow_mixing_is_found_by_squaring() -> None:
    """Two states that are hardly ever left: the distance is (1 - 2 eps)^n / 2, known in closed form."""
    for eps in (1e-3, 1e-6, 1e-9):
        chain = MarkovChain([[1 - eps, eps], [eps, 1 - eps]])
        expected = math.log(0.5) / math.log1p(-2 * eps)
        assert chain.mixing_time == pytest.approx(math.ceil(expected), rel=1e-6, abs=1)
    with pytest.raises(ValueError, match="not mixed after 2\\^60 steps"):
        MarkovChain([[1, 1e-30], [1e-30, 1]]).mixing_time  # noqa: B018


def test_small_stationary_probabilities_are_exact() -> None:
    """A ladder that falls back to the ground with probability 0.9 at each step: pi_k = 0.9 0.1^k."""
    size = 16
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix[:, 0] = 0.9
    matrix[torch.arange(size - 1), torch.arange(1, size)] = 0.1
    matrix[-1] = 0
    matrix[-1, 0] = 1
    distribution = MarkovChain(matrix).stationary
    torch.testing.assert_close(
        distribution[1:] / distribution[:-1], torch.full((size - 1,), 0.1, dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_the_checks_see_wrong_laws() -> None:
    """Negative controls: the left eigenvector is not the right one, nor the uniform distribution, nor the
    transpose's."""
    chain = chain_of(3, 4, 1.0)
    transposed = MarkovChain(chain.matrix.T / chain.matrix.T.sum(1, keepdim=True)).stationary
    for wrong in (torch.full((4,), 0.25, dtype=torch.float64), transposed):
        assert (wrong @ chain.matrix - wrong).abs().max() > 1e-3
    assert not chain.reversible
    symmetric = chain.matrix + chain.matrix.T
    assert MarkovChain(symmetric / symmetric.sum(1, keepdim=True)).reversible  # a walk on a weighted graph
    assert not MarkovChain([[0, 0.9, 0.1], [0.1, 0, 0.9], [0.9, 0.1, 0]]).reversible


# -- sequences --------------------------------------------------------------------------------


def test_estimate_counts_by_hand() -> None:
    chain = MarkovChain.estimate(["aab", "ba"])
    assert chain.names == ("a", "b")
    assert chain.matrix.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    smoothed = MarkovChain.estimate(["aab", "ba"], smoothing=1.0)
    assert smoothed.matrix.tolist() == [[0.5, 0.5], [2 / 3, 1 / 3]]
    assert MarkovChain.estimate([[10, 9, 10, 9]]).names == ("9", "10")
    with pytest.raises(ValueError, match="nothing says what follows 'c': it only comes last; give smoothing"):
        MarkovChain.estimate(["abac"])
    assert MarkovChain.estimate(["abac"], smoothing=0.1).matrix[2].tolist() == pytest.approx([1 / 3] * 3)


def test_what_is_sampled_is_estimated_again() -> None:
    chain = chain_of(1, 3, 1.0)
    states = chain.sample(200, 500, generator=noise.stream("sample"))
    assert states.shape == (200, 500) and torch.equal(states, chain.sample(200, 500, generator=noise.stream("sample")))
    again = MarkovChain.estimate(states.tolist())
    error = (chain.matrix * (1 - chain.matrix) / (100_000 * chain.stationary.unsqueeze(1))).sqrt()
    assert ((again.matrix - chain.matrix) / error).abs().max() < 4.5
    assert ((again.matrix - chain.matrix.T) / error).abs().max() > 10, "the transposed matrix is told apart"
    assert chain.sample(3, 4, start=[0, 1, 0])[:, 0].tolist() == [1, 1, 1]


@given(chains, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_the_probabilities_of_all_sequences_sum_to_one(chain: MarkovChain, length: int) -> None:
    start = torch.full((len(chain),), 1 / len(chain), dtype=torch.float64)
    total = sum(math.exp(chain.log_prob(s, start)) for s in itertools.product(range(len(chain)), repeat=min(length, 3)))
    assert total == pytest.approx(1, abs=1e-12)
    assert chain.log_prob([0]) == 0


def test_refusals_teach() -> None:
    for wrong, said in (
        ([[0.5, 0.5]], "expected a square one"),
        ([[0.5, 0.6], [0, 1]], "that of '0' sums to 1.1"),
        ([[1, 0], [1.5, -0.5]], "that of '1' sums to 1"),
    ):
        with pytest.raises(ValueError, match=said):
            MarkovChain(wrong)
    with pytest.raises(ValueError, match="names: expected 2 different ones; got 1"):
        MarkovChain(WEATHER.matrix, ("a", "a"))
    with pytest.raises(ValueError, match=r"2 probabilities that sum to 1; got shape .* sum 1.5"):
        WEATHER.after([0.8, 0.7], 1)
    with pytest.raises(ValueError, match=r"numbers 0\.\.1"):
        WEATHER.log_prob([0, 2])
    with pytest.raises(ValueError, match="0 steps or more"):
        WEATHER.steps(-1)
    with pytest.raises(ValueError, match="different states; got 0"):
        MarkovChain.estimate([])
