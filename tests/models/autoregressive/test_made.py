import itertools
import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.data.source import TensorSplit
from genus.errors import CapabilityError
from genus.kinds import Grid, Label
from genus.models.autoregressive import made
from genus.models.autoregressive._entries import every_level
from genus.models.autoregressive.made import MADE
from genus.prob import chain, noise
from genus.recipe import Recipe
from genus.testing import check_model
from genus.testing.oracles import check_causal

BINARY, TERNARY = Grid(1, (2, 3), 2), Grid(2, (1, 2), 3)
LABEL = Label(("a", "b"))


def build(domain: Grid, condition: Label | None = None, spread: float = 0.7, **settings) -> MADE:
    """A MADE with weights large enough that its entries depend on each other visibly."""
    model = MADE(domain, condition, **{"hidden": 9, **settings}).eval()
    for k, parameter in enumerate(model.parameters()):
        parameter.data = spread * noise.normal(tuple(parameter.shape), noise.stream("made test", k))
    return model


def data(domain: Grid, count: int) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("made data")).to(domain.dtype)


def in_order(model: MADE, number: int) -> Tensor:
    return getattr(model, f"order_{number}")


SETTINGS = [
    {"orderings": 3, "layers": 2},
    {"orderings": 2, "layers": 1, "direct": False, "inputs": "one_hot"},
    {"orderings": 1, "layers": 3, "inputs": "one_hot"},
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("domain", [BINARY, TERNARY], ids=str)
def test_probabilities_of_all_states_sum_to_one(every_state, domain, settings, dtype, tolerance) -> None:
    x = every_state(domain)
    model = build(domain, **settings).to(dtype)
    assert model.likelihood is Likelihood.EXACT
    assert abs(model.log_prob(x).double().exp().sum().item() - 1) < tolerance
    conditional = build(domain, LABEL, **settings).to(dtype)
    distributions = [conditional.log_prob(x, condition=torch.full((len(x),), k)).double().exp() for k in range(2)]
    assert all(abs(distribution.sum().item() - 1) < tolerance for distribution in distributions)
    assert (distributions[0] - distributions[1]).abs().sum() > 0.1  # the label changes the distribution


def test_averaged_logits_are_no_likelihood(every_state) -> None:
    """The mutant: together the orderings see every entry, so the average of their logits sums to something else."""
    model, x = build(BINARY, orderings=4).double(), every_state(BINARY)
    averaged = torch.stack([model.logits(x, number=k) for k in range(4)]).mean(0).squeeze(-1)
    mutant = torch.distributions.Bernoulli(logits=averaged).log_prob(x.flatten(1).double()).sum(1).exp().sum().item()
    assert abs(mutant - 1) > 0.01
    singles = torch.stack([model.log_prob_in(k, x) for k in range(4)]).exp()
    assert (singles.sum(1) - 1).abs().max() < 1e-12
    torch.testing.assert_close(model.log_prob(x).exp(), singles.mean(0))
    assert (singles[0] - singles[1]).abs().max() > 1e-3  # the orderings are different distributions


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("domain", [Grid(1, (3, 3), 2), Grid(2, (2, 3), 4)], ids=str)
def test_an_entry_sees_only_those_before_it_in_each_ordering(domain: Grid, settings) -> None:
    model, x = build(domain, **settings), data(domain, 16)
    for number in range(model.orderings):
        order = in_order(model, number)
        back = order.argsort()

        def by_position(permuted: Tensor, back: Tensor = back, order: Tensor = order, number: int = number) -> Tensor:
            entries = permuted.flatten(1)[:, back].view(-1, *domain.shape)
            return model.logits(entries, number=number)[:, order]

        check_causal(by_position, x.flatten(1)[:, order].view(x.shape), domain.levels)


def test_a_mask_that_is_not_strict_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build(BINARY), data(BINARY, 16)
    check_causal(model.logits, x, 2)
    monkeypatch.setattr(made, "kept", lambda sees, counts: sees.unsqueeze(1) >= counts - 1)
    with pytest.raises(AssertionError, match="moves the output"):
        check_causal(model.logits, x, 2)


def test_every_entry_before_can_be_seen() -> None:
    """With units enough, the masks leave a path from each entry to every later one, and only these."""
    for layers, number, direct in itertools.product((1, 2), (0, 1), (False, True)):
        model = MADE(BINARY, hidden=20, layers=layers, orderings=2, direct=direct)
        inside, numbers, outside = model.counts(number)
        paths, below = torch.eye(6), inside
        for sees in [*numbers, outside]:
            paths, below = made.kept(sees, below).float() @ paths, sees
        position = in_order(model, number).argsort()
        assert torch.equal(paths > 0, position.unsqueeze(1) > position)
        if direct:
            assert torch.equal(made.kept(outside, inside), position.unsqueeze(1) > position)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("domain", [Grid(1, (6, 7), 2), Grid(1, (3, 4), 5), Grid(1, (1, 1), 3)], ids=str)
def test_incremental_logits_are_those_of_the_full_pass(domain: Grid, settings) -> None:
    model, x = build(domain, LABEL, **settings).double(), data(domain, 5)
    labels = torch.tensor([0, 1, 1, 0, 1])
    for number in range(model.orderings):
        full = model.logits(x, labels, number)
        steps: dict[int, Tensor] = {}

        def choose(place: int, logits: Tensor, steps: dict[int, Tensor] = steps) -> Tensor:
            steps[place] = logits
            return x.flatten(1)[:, place].long()

        chain.drive(model.walk_in(number, 5, labels), choose)
        assert list(steps) == in_order(model, number).tolist()
        for entry, z in steps.items():
            torch.testing.assert_close(z, every_level(full[:, entry]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("domain", [Grid(1, (2, 2), 2), Grid(1, (1, 3), 3)], ids=str)
def test_samples_follow_log_prob(every_state, z_scores, domain: Grid) -> None:
    model, count = build(domain, LABEL, orderings=3), 20_000
    x = every_state(domain)
    for label in range(2):
        draws = model.sample(count, condition=torch.full((count,), label), generator=noise.stream("draw", label))
        assert draws.shape == (count, *domain.shape) and draws.dtype == domain.dtype
        z = z_scores(domain, draws, model.log_prob(x, condition=torch.full((len(x),), label)))
        assert len(z) > 6 and z.abs().max() < 4.5


def test_a_sample_computes_each_unit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The multiplications of a sample are those of the masks that are open, or fewer than twice as many."""
    domain = Grid(1, (6, 6), 2)
    model, done = build(domain, hidden=40, layers=2), []
    addmm = Tensor.addmm_
    monkeypatch.setattr(Tensor, "addmm_", lambda out, a, b: (done.append(a.numel()), addmm(out, a, b))[1])
    model.sample(1, generator=noise.stream("count"))
    dense = 36 * 40 + 40 * 40 + 40 * 36 + 36 * 36
    assert sum(done) < 0.6 * dense
    inside, (first, second), outside = model.counts(0)
    pairs = [(first, inside), (second, first), (outside, second), (outside, inside)]
    assert sum(done) == sum(int(made.kept(*pair).sum()) for pair in pairs)


def test_orderings_are_a_function_of_the_settings() -> None:
    one, two = (MADE(BINARY, hidden=4, orderings=3) for _ in range(2))
    assert all(torch.equal(in_order(one, k), in_order(two, k)) for k in range(3))
    assert in_order(one, 0).tolist() == list(range(6)) and in_order(one, 1).tolist() != in_order(one, 2).tolist()


@pytest.mark.parametrize("levels", [2, 3])
def test_initialise_sets_the_frequencies_of_the_data(levels: int) -> None:
    domain = Grid(1, (2, 2), levels)
    x = data(domain, 50)
    model = MADE(domain, hidden=4)
    model.layers[-1].weight.data.zero_()
    model.initialise(TensorSplit(x))
    frequency = (torch.stack([(x == level).sum(0) for level in range(levels)], -1) + 1).view(4, levels) / (50 + levels)
    expected = frequency.log()[torch.arange(4), x.flatten(1).long()].sum(1)
    torch.testing.assert_close(model.log_prob(x), expected)


def test_learns_what_a_histogram_cannot() -> None:
    """Two coins thrown, each shown twice: 2 ln 2 nats are the entropy, 4 ln 2 what a histogram pays."""
    coins = noise.integers(2, (64, 2), noise.stream("coins"))
    x = torch.cat([coins, coins], 1).view(64, 1, 1, 4).to(torch.uint8)
    model = build(Grid(1, (1, 4), 2), spread=0.1, direct=False, hidden=16).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        model.losses(Batch(x))["loss"].mean().backward()
        optimizer.step()
    assert abs(-model.log_prob(x).mean().item() - 2 * math.log(2)) < 0.1


class Mixture(MADE):
    """Three orderings, for the checks of any model.

    Args:
        hidden: as in MADE.
    """

    def __init__(self, domain, condition=None, *, hidden: int = 8):
        super().__init__(domain, condition, hidden=hidden, layers=2, orderings=3)

    recipes: ClassVar = {"quick": Recipe(), "paper": Recipe()}

    @classmethod
    def tiny(cls, domain, condition=None):
        return cls(domain, condition)


@pytest.mark.slow
def test_a_mixture_keeps_every_promise_but_one() -> None:
    """It has no chain rule entry by entry, and says so."""
    failed = [result for result in check_model(Mixture) if not result.passed]
    assert {result.check.split()[0] for result in failed} == {"chain_rule", "walks_are_independent"}
    assert all("orderings=3 has no chain rule" in result.reason for result in failed)


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"200,704 logits"):
        MADE(Grid(1, (28, 28)))
    with pytest.raises(ValueError, match=r"choose inputs='scaled'"):
        MADE(Grid(1, (8, 8)), inputs="one_hot")
    with pytest.raises(ValueError, match=r"orderings: expected at least 1"):
        MADE(BINARY, orderings=0)
    with pytest.raises(ValueError, match=r"dropout: expected a share"):
        MADE(BINARY, dropout=1.0)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        MADE(BINARY, TERNARY)
    with pytest.raises(CapabilityError, match="IsEditable"):
        MADE.tiny(BINARY).edit(None, None)
