"""The counting models: what they share, what they do not, and the published rows."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, IsEditable, Likelihood, Split, batches
from genus.data import DataOptions, open_source
from genus.data.source import TensorSplit
from genus.kinds import Discrete, Grid, Label, Tokens, Vectors
from genus.models.autoregressive import markov
from genus.models.autoregressive._counts import ChainTable, CountTable, readable
from genus.models.autoregressive.full_context import FullContext
from genus.models.autoregressive.histogram import Histogram
from genus.models.autoregressive.joint_table import JointTable
from genus.models.autoregressive.markov import Markov
from genus.models.autoregressive.markov_mesh import MarkovMesh
from genus.prob import noise
from genus.testing import oracles
from genus.testing.statistics import CheckError

BINARY, TERNARY = Grid(1, (2, 3), 2), Grid(2, (1, 2), 3)
LABEL = Label(("a", "b"))
KINDS: list[tuple[type[CountTable], dict[str, Any]]] = [
    *((cls, {"shared": shared}) for cls in (Histogram, Markov, MarkovMesh) for shared in (False, True)),
    *((Markov, {"order": order, "shared": shared}) for order in (2, 3) for shared in (False, True)),
    (JointTable, {}),
    (FullContext, {}),
]
EDITABLE = [kind for kind in KINDS if issubclass(kind[0], IsEditable)]


def named(kind: tuple[type, dict[str, Any]]) -> str:
    return f"{kind[0].__name__}({', '.join(f'{k}={v}' for k, v in kind[1].items())})"


every_kind = pytest.mark.parametrize(("cls", "settings"), KINDS, ids=map(named, KINDS))


def data(domain: Discrete, count: int = 40) -> TensorSplit:
    """Uneven data that depend on their labels and on their neighbours."""
    generator = noise.stream("data", str(domain))
    y = noise.integers(2, (count,), generator)
    x = noise.integers(domain.levels, (count, domain.num_dims), generator)
    x[:, 1:] = torch.where(noise.uniform((count, domain.num_dims - 1), generator) < 0.5, x[:, :-1], x[:, 1:])
    x = torch.where((y == 1).unsqueeze(1) & (x > 1 - y.unsqueeze(1)), x - 1, x)
    return TensorSplit(x.view(count, *domain.shape).to(domain.dtype), y)


class Unlabelled:
    """A split without its conditions, as the training loop shows it to an unconditional model."""

    def __init__(self, split: Split):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return self.split.batch(index, generator)._replace(condition=None)


def fitted(cls: type, settings: dict[str, Any], domain: Discrete, condition: Label | None = None) -> CountTable:
    model = cls(domain, condition, **settings)
    model.fit(data(domain) if condition else Unlabelled(data(domain)))
    return model


def conditions(model: CountTable, count: int) -> Iterator[Tensor | None]:
    if model.condition is None:
        yield None
    else:
        yield from (torch.full((count,), label) for label in range(2))


@every_kind
@pytest.mark.parametrize("domain", [BINARY, TERNARY], ids=str)
@pytest.mark.parametrize("condition", [None, LABEL], ids=["plain", "labels"])
def test_probabilities_of_all_states_sum_to_one(every_state, cls, settings, domain, condition) -> None:
    model, x = fitted(cls, settings, domain, condition), every_state(domain)
    assert model.likelihood is Likelihood.EXACT
    distributions = [model.log_prob(x, condition=c).exp() for c in conditions(model, len(x))]
    assert all(abs(distribution.sum().item() - 1) < 1e-12 for distribution in distributions)
    if condition:
        assert (distributions[0] - distributions[1]).abs().sum() > 0.1


@every_kind
def test_never_fitted_is_uniform(cls, settings) -> None:
    x = data(TERNARY).x
    for smoothing in (None, 0.0):
        model = cls(TERNARY, smoothing=smoothing, **settings)
        torch.testing.assert_close(model.log_prob(x), torch.full((len(x),), -4 * math.log(3), dtype=torch.float64))


@every_kind
@pytest.mark.parametrize("condition", [None, LABEL], ids=["plain", "labels"])
def test_samples_follow_log_prob(every_state, z_scores, cls, settings, condition) -> None:
    model, x, count = fitted(cls, settings, TERNARY, condition), every_state(TERNARY), 20_000
    for c in conditions(model, 1):
        draws = model.sample(
            count, condition=None if c is None else c.expand(count), generator=noise.stream("draw", str(c))
        )
        assert draws.shape == (count, *TERNARY.shape) and draws.dtype == TERNARY.dtype
        z = z_scores(TERNARY, draws, model.log_prob(x, condition=None if c is None else c.expand(len(x))))
        assert len(z) > 15 and z.abs().max() < 4.5


@pytest.mark.parametrize(("cls", "settings"), EDITABLE, ids=map(named, EDITABLE))
@pytest.mark.parametrize("condition", [None, LABEL], ids=["plain", "labels"])
def test_edited_data_follow_the_exact_conditional_law(every_state, z_scores, cls, settings, condition) -> None:
    """Entries 1 and 3 are kept: what is drawn has p(x) restricted to the states that agree there."""
    model, x, count = (
        fitted(cls, settings, TERNARY, condition),
        every_state(TERNARY),
        20_000,
    )
    known = data(TERNARY).x[:1].expand(count, -1, -1, -1).contiguous()
    keep = torch.tensor([False, True, False, True]).view(TERNARY.shape).expand(count, -1, -1, -1)
    for c in conditions(model, 1):
        condition_of_all = None if c is None else c.expand(count)
        drawn = model.edit(known, keep, condition=condition_of_all, generator=noise.stream("edit", str(c)))
        assert drawn.dtype == known.dtype and torch.equal(drawn[keep], known[keep])
        agrees = ((x == known[0]) | ~keep[0]).flatten(1).all(1)
        joint = model.log_prob(x, condition=None if c is None else c.expand(len(x)))
        distribution = torch.where(agrees, joint - joint[agrees].logsumexp(0), -math.inf)
        z = z_scores(TERNARY, drawn, distribution)
        assert len(z) > 5 and z.abs().max() < 4.5


@every_kind
def test_same_generator_same_samples(cls, settings) -> None:
    model = fitted(cls, settings, BINARY)
    one, two, other = (model.sample(50, generator=noise.stream("same", seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


@every_kind
def test_the_fit_is_in_the_state(cls, settings) -> None:
    model, x = fitted(cls, settings, TERNARY, LABEL), data(TERNARY)
    again = cls(TERNARY, LABEL, **settings)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_prob(x.x, condition=x.condition), model.log_prob(x.x, condition=x.condition))
    again.fit(x)  # a second fit starts from nothing
    assert torch.equal(again.counts, model.counts)


def test_histogram_counts_by_hand() -> None:
    domain = Grid(1, (1, 2), 3)
    x = torch.tensor([[0, 1], [0, 2], [2, 1]], dtype=torch.uint8).view(3, 1, 1, 2)
    per_position, shared = Histogram(domain, smoothing=1.0), Histogram(domain, shared=True, smoothing=1.0)
    for model in (per_position, shared):
        model.fit(TensorSplit(x))
    assert per_position.counts.tolist() == [[2, 0, 1], [0, 2, 1]]
    assert shared.counts.tolist() == [[2, 2, 2]]
    expected = math.log(3 / 6) + math.log(1 / 6)  # 0 then 0
    zeros = torch.zeros(1, 1, 1, 2, dtype=torch.uint8)
    assert per_position.log_prob(zeros).item() == pytest.approx(expected, abs=1e-12)
    assert (per_position.num_parameters, shared.num_parameters) == (4, 2)


def test_markov_chain_runs_across_the_ends_of_rows_and_channels() -> None:
    """A single state in raster order: every transition stands in the table once, the first from 0."""
    domain = Grid(2, (2, 2), 8)
    x = torch.tensor([3, 5, 2, 7, 1, 6, 4, 0], dtype=torch.uint8).view(1, 2, 2, 2)
    model = Markov(domain)
    model.fit(TensorSplit(x))
    transitions = [(0, 3), (3, 5), (5, 2), (2, 7), (7, 1), (1, 6), (6, 4), (4, 0)]
    assert sorted(map(tuple, model.counts.nonzero().tolist())) == sorted(transitions)
    assert model.counts.sum() == 8


def distributions(model: CountTable, x: Tensor) -> Tensor:
    """The distribution of every entry given the others of its datum, ``(B, D, levels)``."""
    return model.probabilities(model.cells(x, None)[0])


def who_sees(model: CountTable, x: Tensor) -> Iterator[list[int]]:
    """For each entry, the places whose distributions move when it is changed."""
    before, levels = distributions(model, x), model.domain.levels
    for j in range(model.domain.num_dims):
        other = x.clone()
        other.view(len(x), -1)[:, j] = (other.view(len(x), -1)[:, j] + 1) % levels
        yield (distributions(model, other) != before).flatten(2).any(2).any(0).nonzero().flatten().tolist()


def test_an_entry_of_the_chain_sees_only_the_one_before_it() -> None:
    domain = Grid(1, (3, 4), 3)
    model = fitted(Markov, {"shared": False}, domain)
    for j, seen_by in enumerate(who_sees(model, data(domain).x[:5])):
        assert seen_by == ([j + 1] if j + 1 < domain.num_dims else [])


def test_without_smoothing_the_unseen_is_impossible() -> None:
    domain = Grid(1, (1, 3), 2)
    x = torch.zeros(4, 1, 1, 3, dtype=torch.uint8)
    for cls, settings in KINDS:
        model = cls(domain, smoothing=0.0, **settings)
        model.fit(TensorSplit(x))
        assert model.log_prob(x).tolist() == [0.0] * 4 and model.log_prob(1 - x).tolist() == [-math.inf] * 4
        smoothed = cls(domain, **settings)
        smoothed.fit(TensorSplit(x))
        assert smoothed.log_prob(1 - x).isfinite().all()
        if isinstance(model, IsEditable) and not isinstance(model, Histogram):
            with pytest.raises(ValueError, match="the kept entries have probability 0"):
                model.edit(1 - x, torch.tensor([False, True, False]).expand(4, 1, 1, 3))


# -- order, neighbours, everything before ----------------------------------------------------


def test_order_k_sees_the_k_entries_before() -> None:
    domain = Tokens(7, 3)
    for order in (1, 2, 4):
        model = fitted(Markov, {"order": order, "shared": False, "smoothing": 0.5}, domain)
        for j, seen_by in enumerate(who_sees(model, domain_states(domain, 400))):
            assert seen_by == list(range(j + 1, min(j + order, 6) + 1))


def domain_states(domain: Discrete, count: int) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("states")).to(domain.dtype)


def test_order_two_counts_by_hand() -> None:
    domain = Tokens(5, 3)
    x = torch.tensor([[1, 2, 1, 2, 0]], dtype=torch.uint8)
    model = Markov(domain, order=2, smoothing=0.0)
    model.fit(TensorSplit(x))
    seen = {(divmod(row, 3), v): int(model.counts[row, v]) for row, v in model.counts.nonzero().tolist()}
    assert seen == {((0, 0), 1): 1, ((0, 1), 2): 1, ((1, 2), 1): 1, ((2, 1), 2): 1, ((1, 2), 0): 1}
    assert model.log_prob(x).item() == pytest.approx(2 * math.log(0.5), abs=1e-12)


def test_a_pixel_of_the_mesh_sees_left_and_up_in_its_own_channel() -> None:
    domain = Grid(2, (3, 4), 2)
    model = fitted(MarkovMesh, {"shared": False}, domain)
    for j, seen_by in enumerate(who_sees(model, domain_states(domain, 200))):
        channel, row, column = j // 12, j // 4 % 3, j % 4
        expected = [j + 1] * (column < 3) + [j + 4] * (row < 2)
        assert seen_by == expected, (channel, row, column)


@pytest.mark.parametrize("domain", [BINARY, TERNARY, Tokens(4, 3)], ids=str)
@pytest.mark.parametrize("condition", [None, LABEL], ids=["plain", "labels"])
def test_without_smoothing_the_chain_rule_is_the_joint_table(domain: Discrete, condition: Label | None) -> None:
    states = oracles.all_states(domain)
    joint, chain, shorter = (
        fitted(cls, {"smoothing": 0.0}, domain, condition) for cls in (JointTable, FullContext, Markov)
    )
    gaps = []
    for c in conditions(joint, len(states)):
        expected = joint.log_prob(states, condition=c).exp()
        assert (chain.log_prob(states, condition=c).exp() - expected).abs().max() < 1e-12
        gaps.append((shorter.log_prob(states, condition=c).exp() - expected).abs().max())
    assert max(gaps) > 1e-3, "another distribution is told apart"


def test_a_chain_of_the_highest_order_is_the_full_context() -> None:
    """Order D - 1 with a table per position: the same distribution, found by other rows."""
    states = oracles.all_states(Tokens(4, 3))
    full = fitted(FullContext, {}, Tokens(4, 3)).log_prob(states)
    for order in (3, 9):
        chain = fitted(Markov, {"order": order, "shared": False}, Tokens(4, 3))
        torch.testing.assert_close(chain.log_prob(states), full, rtol=0, atol=1e-12)
    shorter = fitted(Markov, {"order": 2, "shared": False}, Tokens(4, 3))
    assert (shorter.log_prob(states) - full).abs().max() > 1e-3


def test_the_joint_table_is_the_frequencies() -> None:
    domain, split = Tokens(3, 2), data(Tokens(3, 2))
    model = fitted(JointTable, {"smoothing": 0.25}, domain)
    counts = torch.bincount(oracles.state_index(split.x, domain), minlength=8)
    torch.testing.assert_close(model.log_prob(oracles.all_states(domain)).exp(), (counts.double() + 0.25) / 42)
    assert JointTable(domain).smoothing == 1 / 8


@every_kind
@pytest.mark.parametrize("domain", [BINARY, TERNARY, Grid(1, (1, 2), 3), Grid(2, (1, 1), 2)], ids=str)
@pytest.mark.parametrize("condition", [None, LABEL], ids=["plain", "labels"])
def test_free_parameters_are_those_that_data_can_reach(cls, settings, domain, condition) -> None:
    """Oracle: the distinct rows in which some state of the domain is looked up, times outcomes - 1."""
    model, states = cls(domain, condition, **settings), oracles.all_states(domain)
    rows = {int(row) for c in conditions(model, len(states)) for row in model.cells(states, c)[0].flatten()}
    expected = len(rows) * (model.counts.shape[1] - 1)
    assert cls.free_parameters(domain, condition, **settings) == model.num_parameters == expected


def test_free_parameters_of_the_textbook() -> None:
    n, bits, pixel = 10, Tokens(10, 2), Grid(3, (1, 1))
    assert JointTable.free_parameters(bits) == FullContext.free_parameters(bits) == 2**n - 1
    assert Histogram.free_parameters(bits) == n
    assert Markov.free_parameters(bits, order=1, shared=False) == 2 * n - 1
    assert Markov.free_parameters(bits) == 2
    assert JointTable.free_parameters(pixel) == JointTable(pixel).num_parameters == 256**3 - 1
    assert JointTable.free_parameters(Grid(1, (28, 28), 2)) == 2**784 - 1  # told, though it cannot be built
    assert MarkovMesh.free_parameters(Grid(1, (28, 28), 2), shared=False) == (1 + 27 * 2) ** 2
    assert Markov.free_parameters(bits, LABEL, shared=False, smoothing=0.0) == 2 * (2 * n - 1)


def test_what_cannot_fit_is_refused_with_its_number() -> None:
    mnist = Grid(1, (28, 28), 2)
    for cls in (JointTable, FullContext):
        assert cls.refuses(mnist) and cls.refuses(Tokens(4, 3)) is None
        with pytest.raises(ValueError, match=r"2\^784 - 1, about 1\.0e236, free parameters for grid 1x28x28"):
            cls(mnist)
        with pytest.raises(ValueError, match=r"256\^196608 - 1, about 1\.\de473479"):
            cls(Grid(3, (256, 256)))
    with pytest.raises(ValueError, match=r"200,475,135 free parameters .* 201,326,592 counts, over .*shared=True"):
        Markov(Grid(3, (32, 32)), shared=False)
    with pytest.raises(ValueError, match=r"about 1\.3e154 free parameters .* smaller order"):
        Markov(Grid(1, (28, 28)), order=63)
    with pytest.raises(ValueError, match=r"936,833,535 free parameters .*shared=True"):
        MarkovMesh(Grid(1, (8, 9)), shared=False)
    with pytest.raises(ValueError, match=r"over 200,000,000; use fewer entries"):
        JointTable(Grid(3, (1, 1)), Label(tuple(map(str, range(20)))))
    assert (
        readable(999) == "999" and readable(10**15) == "about 1.0e15" and readable(9_960 * 10**300) == "about 1.0e304"
    )


def test_refusals_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="pseudo-counts of 0 or more; got -1"):
        Histogram(BINARY, smoothing=-1.0)
    with pytest.raises(ValueError, match="models grid, tokens and waveform data; got vectors"):
        Markov(Vectors(3))
    with pytest.raises(ValueError, match="grids of two or more axes"):
        MarkovMesh(Grid(1, (5,), 2))
    with pytest.raises(ValueError, match="is conditioned on labels"):
        Histogram(BINARY, TERNARY)
    with pytest.raises(ValueError, match="keep: expected booleans"):
        Histogram(BINARY).edit(data(BINARY).x, data(BINARY).x)
    with pytest.raises(ValueError, match=r"expected integers 0\.\.1"):
        Markov(BINARY).log_prob(torch.zeros(2, *BINARY.shape))
    for order in (0, 65):
        with pytest.raises(ValueError, match=f"order: expected 1 to 64; got {order}"):
            Markov(BINARY, order=order)
    monkeypatch.setattr(markov, "MOST_NUMBERS", 6)
    with pytest.raises(ValueError, match=r"at order 3 holds 108 numbers a datum .*smaller order"):
        fitted(Markov, {"order": 3}, TERNARY).edit(data(TERNARY).x, data(TERNARY).x > 0)


def test_completion_in_blocks_is_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = fitted(Markov, {"order": 2}, TERNARY, LABEL), data(TERNARY)
    keep = torch.tensor([True, False, False, True]).view(TERNARY.shape).expand(x.x.shape)
    monkeypatch.setattr(markov, "MOST_NUMBERS", 100)  # two data at a time
    generator = noise.stream("blocks")
    edited = model.edit(x.x, keep, condition=x.condition, generator=generator)
    assert edited.shape == x.x.shape and torch.equal(edited[keep], x.x[keep]) and not torch.equal(edited, x.x)


def test_the_checks_see_wrong_parents() -> None:
    """Negative controls: one mutant forgets the newest entry, one looks ahead."""
    domain = Tokens(5, 2)
    x, states = domain_states(domain, 100), oracles.all_states(domain)
    forgetful, ahead = (fitted(Markov, {"order": 2, "shared": False}, domain) for _ in range(2))
    right = list(who_sees(forgetful, x))
    forgetful.parents = forgetful.parents[:, :1].repeat(1, 2)
    ahead.parents = (ahead.parents + 2).clamp(max=5)
    for mutant in (forgetful, ahead):
        mutant.fit(Unlabelled(data(domain)))
    assert list(who_sees(forgetful, x)) != right
    assert abs(ahead.log_prob(states).exp().sum().item() - 1) > 0.01


def test_causality_of_every_chain() -> None:
    for cls, settings in KINDS:
        if issubclass(cls, ChainTable) and cls is not Histogram:
            model = fitted(cls, {**settings, "smoothing": 0.5}, BINARY)
            oracles.check_causal(lambda x, model=model: distributions(model, x), domain_states(BINARY, 64), 2)
    with pytest.raises(CheckError):
        model = fitted(Markov, {}, BINARY)
        model.parents = (model.parents + 2).clamp(max=6)
        oracles.check_causal(lambda x: distributions(model, x), domain_states(BINARY, 64), 2)


def nats(model: CountTable, split: Split) -> float:
    total = sum(model.log_prob(batch.x).sum().item() for batch in batches(Unlabelled(split), 1000))
    return -total / len(split)


@pytest.mark.usefixtures("data_home")
@pytest.mark.parametrize(
    ("name", "cls", "shared", "expected"),
    [
        ("mnist", Histogram, True, 1.967),
        ("mnist", Histogram, False, 1.689),
        ("mnist", Markov, True, 1.418),
        ("fashion-mnist", Histogram, True, 4.917),
        ("fashion-mnist", Histogram, False, 4.588),
        ("fashion-mnist", Markov, True, 3.904),
    ],
)
def test_published_bits_per_dim(name: str, cls: type, shared: bool, expected: float) -> None:
    """Fitted on all 60,000, scored on the 10,000 for testing."""
    source = open_source(name, DataOptions(holdout=0))
    model = fitted_on(cls, source.train, source.domain, shared)
    assert nats(model, source.test) / (784 * math.log(2)) == pytest.approx(expected, abs=1e-3)


STATIC = [
    (Histogram, False, 205.79),
    (Markov, False, 145.35),
    (Markov, True, 180.39),
    (MarkovMesh, False, 118.68),
    (MarkovMesh, True, 137.69),
]
by_class = pytest.mark.parametrize(("cls", "shared", "expected"), STATIC, ids=lambda v: getattr(v, "__name__", str(v)))


def fitted_on(cls: type, train: Split, domain: Grid, shared: bool) -> CountTable:
    model = cls(domain, shared=shared)
    model.fit(Unlabelled(train))
    return model


@pytest.mark.usefixtures("data_home")
@by_class
def test_published_nats_of_static_binarized_mnist(cls: type, shared: bool, expected: float) -> None:
    """Fitted on 50,000 of Larochelle's draw, scored on its 10,000 for testing."""
    source = open_source("binarized-mnist")
    model = fitted_on(cls, source.train, source.domain, shared)
    assert nats(model, source.test) == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("data_home")
@by_class
def test_published_nats_of_dynamic_binarized_mnist(cls: type, shared: bool, expected: float) -> None:
    """One draw of 60,000 to fit, one of the 10,000 to score; it comes to the static rows."""
    source = open_source("mnist", DataOptions(holdout=0, binarize="dynamic"))
    model = fitted_on(cls, source.train, source.domain, shared)
    assert nats(model, source.test) == pytest.approx(expected, abs=0.2)


def test_published_nats_of_dynamic_binarized_mnist_in_expectation(data_home: Path) -> None:
    """The expectation over all binarizations: a grey value g counts as g/255 ones, in training and in test."""
    source = open_source("mnist", DataOptions(holdout=0))
    model = Histogram(Grid(1, (28, 28), 2), smoothing=255.0)  # in units of 1/255: one whole pseudo-count
    ones = source.train.x.long().sum(0).flatten()
    model.counts.copy_(torch.stack([255 * len(source.train) - ones, ones], 1))
    p = source.test.x.flatten(1).double().mean(0) / 255
    log_p = model.probabilities(torch.arange(784)).log()
    assert -(torch.stack([1 - p, p], 1) * log_p).sum().item() == pytest.approx(205.81, abs=0.01)
