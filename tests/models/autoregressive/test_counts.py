"""Histogram and Markov chain: what they share, what they do not, and the published rows."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood, Split, batches
from genus.data import DataOptions, open_source
from genus.data.source import TensorSplit
from genus.domain import Grid, Label, Vectors
from genus.models.autoregressive._counts import CountTable
from genus.models.autoregressive.histogram import Histogram
from genus.models.autoregressive.markov import Markov
from genus.prob import noise

BINARY, TERNARY = Grid(1, (2, 3), 2), Grid(2, (1, 2), 3)
LABEL = Label(("a", "b"))
KINDS = [(cls, shared) for cls in (Histogram, Markov) for shared in (False, True)]
every_kind = pytest.mark.parametrize(("cls", "shared"), KINDS, ids=lambda v: getattr(v, "__name__", str(v)))


def data(domain: Grid, count: int = 40) -> TensorSplit:
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


def fitted(cls: type, shared: bool, domain: Grid, condition: Label | None = None) -> CountTable:
    model = cls(domain, condition, shared=shared)
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
def test_probabilities_of_all_states_sum_to_one(every_state, cls, shared, domain, condition) -> None:
    model, x = fitted(cls, shared, domain, condition), every_state(domain)
    assert model.likelihood is Likelihood.EXACT
    laws = [model.log_prob(x, condition=c).exp() for c in conditions(model, len(x))]
    assert all(abs(law.sum().item() - 1) < 1e-12 for law in laws)
    if condition:
        assert (laws[0] - laws[1]).abs().sum() > 0.1


@every_kind
def test_never_fitted_is_uniform(cls, shared) -> None:
    x = data(TERNARY).x
    for smoothing in (None, 0.0):
        model = cls(TERNARY, shared=shared, smoothing=smoothing)
        torch.testing.assert_close(model.log_prob(x), torch.full((len(x),), -4 * math.log(3), dtype=torch.float64))


@every_kind
@pytest.mark.parametrize("condition", [None, LABEL], ids=["plain", "labels"])
def test_samples_follow_log_prob(every_state, z_scores, cls, shared, condition) -> None:
    model, x, count = fitted(cls, shared, TERNARY, condition), every_state(TERNARY), 20_000
    for c in conditions(model, 1):
        draws = model.sample(
            count, condition=None if c is None else c.expand(count), generator=noise.stream("draw", str(c))
        )
        assert draws.shape == (count, *TERNARY.shape) and draws.dtype == TERNARY.dtype
        z = z_scores(TERNARY, draws, model.log_prob(x, condition=None if c is None else c.expand(len(x))))
        assert len(z) > 15 and z.abs().max() < 4.5


@every_kind
@pytest.mark.parametrize("condition", [None, LABEL], ids=["plain", "labels"])
def test_edited_data_follow_the_exact_conditional_law(every_state, z_scores, cls, shared, condition) -> None:
    """Entries 1 and 3 are kept: what is drawn has p(x) restricted to the states that agree there."""
    model, x, count = fitted(cls, shared, TERNARY, condition), every_state(TERNARY), 20_000
    known = data(TERNARY).x[:1].expand(count, -1, -1, -1).contiguous()
    keep = torch.tensor([False, True, False, True]).view(TERNARY.shape).expand(count, -1, -1, -1)
    for c in conditions(model, 1):
        condition_of_all = None if c is None else c.expand(count)
        drawn = model.edit(known, keep, condition=condition_of_all, generator=noise.stream("edit", str(c)))
        assert drawn.dtype == known.dtype and torch.equal(drawn[keep], known[keep])
        agrees = ((x == known[0]) | ~keep[0]).flatten(1).all(1)
        joint = model.log_prob(x, condition=None if c is None else c.expand(len(x)))
        law = torch.where(agrees, joint - joint[agrees].logsumexp(0), -math.inf)
        z = z_scores(TERNARY, drawn, law)
        assert len(z) > 5 and z.abs().max() < 4.5


@every_kind
def test_same_generator_same_samples(cls, shared) -> None:
    model = fitted(cls, shared, BINARY)
    one, two, other = (model.sample(50, generator=noise.stream("same", seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


@every_kind
def test_the_fit_is_in_the_state(cls, shared) -> None:
    model, x = fitted(cls, shared, TERNARY, LABEL), data(TERNARY)
    again = cls(TERNARY, LABEL, shared=shared)
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


def test_an_entry_of_the_chain_sees_only_the_one_before_it() -> None:
    domain = Grid(1, (3, 4), 3)
    model = fitted(Markov, False, domain)
    x = data(domain).x[:5]
    before = model.probabilities(model.rows_of(x, None))
    for j in range(domain.num_dims):
        other = x.clone()
        other.view(5, -1)[:, j] = (other.view(5, -1)[:, j] + 1) % 3
        moved = (model.probabilities(model.rows_of(other, None)) != before).flatten(2).any(2).any(0)
        assert moved.nonzero().flatten().tolist() == ([j + 1] if j + 1 < domain.num_dims else [])


def test_without_smoothing_the_unseen_is_impossible() -> None:
    domain = Grid(1, (1, 3), 2)
    x = torch.zeros(4, 1, 1, 3, dtype=torch.uint8)
    for cls in (Histogram, Markov):
        model = cls(domain, smoothing=0.0)
        model.fit(TensorSplit(x))
        assert model.log_prob(x).tolist() == [0.0] * 4 and model.log_prob(1 - x).tolist() == [-math.inf] * 4
        smoothed = cls(domain)
        smoothed.fit(TensorSplit(x))
        assert smoothed.log_prob(1 - x).isfinite().all()
    with pytest.raises(ValueError, match="the kept entries have probability 0"):
        model.edit(1 - x, torch.tensor([False, True, False]).expand(4, 1, 1, 3))


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"786,432 x 256 = 201,326,592 counts .*shared=True"):
        Markov(Grid(3, (32, 32)), shared=False)
    with pytest.raises(ValueError, match="pseudo-counts of 0 or more; got -1"):
        Histogram(BINARY, smoothing=-1.0)
    with pytest.raises(ValueError, match="models grid, tokens and waveform data; got vectors"):
        Markov(Vectors(3))
    with pytest.raises(ValueError, match="on a label only"):
        Histogram(BINARY, TERNARY)
    with pytest.raises(ValueError, match="keep: expected booleans"):
        Histogram(BINARY).edit(data(BINARY).x, data(BINARY).x)
    with pytest.raises(ValueError, match=r"expected integers 0\.\.1"):
        Markov(BINARY).log_prob(torch.zeros(2, *BINARY.shape))


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
    model = cls(source.domain, shared=shared)
    model.fit(Unlabelled(source.train))
    assert nats(model, source.test) / (784 * math.log(2)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.usefixtures("data_home")
@pytest.mark.parametrize(
    ("cls", "shared", "expected"), [(Histogram, False, 205.79), (Markov, False, 145.35), (Markov, True, 180.39)]
)
def test_published_nats_of_static_binarized_mnist(cls: type, shared: bool, expected: float) -> None:
    source = open_source("binarized-mnist")
    model = cls(source.domain, shared=shared)
    model.fit(source.train)
    assert nats(model, source.test) == pytest.approx(expected, abs=0.02)


def test_published_nats_of_dynamic_binarized_mnist_in_expectation(data_home: Path) -> None:
    """The expectation over all binarizations: a grey value g counts as g/255 ones, in training and in test."""
    source = open_source("mnist", DataOptions(holdout=0))
    model = Histogram(Grid(1, (28, 28), 2), smoothing=255.0)  # in units of 1/255: one whole pseudo-count
    ones = source.train.x.long().sum(0).flatten()
    model.counts.copy_(torch.stack([255 * len(source.train) - ones, ones], 1))
    p = source.test.x.flatten(1).double().mean(0) / 255
    log_p = model.probabilities(torch.arange(784)).log()
    assert -(torch.stack([1 - p, p], 1) * log_p).sum().item() == pytest.approx(205.81, abs=0.01)
