import itertools
import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.data.source import TensorSplit
from genus.errors import CapabilityError
from genus.kinds import Grid, Label
from genus.models.autoregressive._entries import log_p
from genus.models.autoregressive._orderless import orderless_visible
from genus.models.autoregressive.deep_nade import DeepNADE
from genus.prob import chain, noise

BINARY, TERNARY, THREE = Grid(1, (2, 3), 2), Grid(2, (1, 2), 3), Grid(1, (1, 3), 2)
LABEL = Label(("a", "b"))
SETTINGS = [{"orderings": 3}, {"orderings": 2, "layers": 1, "inputs": "one_hot"}]


def build(domain: Grid, condition: Label | None = None, spread: float = 0.7, **settings) -> DeepNADE:
    """A model with weights large enough that its entries depend on each other visibly."""
    model = DeepNADE(domain, condition, **{"hidden": 9, **settings}).eval()
    for k, parameter in enumerate(model.parameters()):
        parameter.data = spread * noise.normal(tuple(parameter.shape), noise.stream("deep_nade test", k))
    return model


def data(domain: Grid, count: int) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("deep_nade data")).to(domain.dtype)


def steps(model: DeepNADE, x: Tensor, order: Tensor) -> dict[int, Tensor]:
    """The logits that a walk through ``x`` (B, D) gives, by place."""
    found = {}

    def choose(place: int, logits: Tensor) -> Tensor:
        found[place] = logits.detach()
        return x[:, place].long()

    chain.drive(model.walk(order, x, torch.zeros_like(x, dtype=torch.bool), None), choose)
    return found


def chain_rule(model: DeepNADE, x: Tensor, order, condition: Tensor | None = None) -> Tensor:
    """log p_o(x) by one full pass for each entry, from the definition. ``x`` is (B, D)."""
    total, visible = torch.zeros(len(x), dtype=torch.float64), torch.zeros_like(x, dtype=torch.bool)
    for entry in order:
        logits = model.logits(x, visible, condition)[:, entry].double()
        both = torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
        total += both.log_softmax(1).gather(1, x[:, entry : entry + 1].long()).squeeze(1)
        visible[:, entry] = True
    return total


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


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("domain", [BINARY, TERNARY], ids=str)
def test_log_prob_is_the_mixture_of_its_orderings(domain: Grid, settings) -> None:
    """Also: the running sum gives what full passes give, and neither the mean of nats nor of logits is the
    distribution."""
    model, x = build(domain, LABEL, **settings).double(), data(domain, 7)
    labels = torch.arange(7) % 2
    singles = torch.stack(
        [chain_rule(model, x.flatten(1), model.ordering(k).tolist(), labels) for k in range(model.orderings)]
    )
    mixture = model.log_prob(x, condition=labels)
    torch.testing.assert_close(mixture, singles.exp().mean(0).log(), rtol=1e-12, atol=1e-12)
    assert (mixture - singles.mean(0)).abs().max() > 1e-3


def test_averaged_logits_are_no_likelihood(every_state) -> None:
    model, x = build(BINARY).double(), every_state(BINARY)
    flat, averaged = x.flatten(1), torch.zeros(len(x), 6, 2, dtype=torch.float64)
    for k in range(4):
        for entry, logits in steps(model, flat, model.ordering(k)).items():
            averaged[:, entry] += logits / 4
    assert abs(log_p(averaged, flat).sum(1).exp().sum().item() - 1) > 0.01


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_an_entry_sees_only_what_is_visible(settings) -> None:
    model, x = build(TERNARY, **settings), data(TERNARY, 16).flatten(1)
    visible = noise.uniform((16, 4), noise.stream("visible")) < 0.5
    before = model.logits(x, visible)
    hidden_changed = torch.where(visible, x, (x + 1) % 3)
    assert torch.equal(model.logits(hidden_changed, visible), before)  # bit for bit
    for j in range(4):
        changed = x.clone()
        changed[:, j] = (x[:, j] + 1) % 3
        moved = (model.logits(changed, visible) != before).flatten(1).any(1)
        assert torch.equal(moved, visible[:, j])
    blank = torch.where(visible, 0, x)  # a visible zero is not a hidden entry
    assert not torch.equal(model.logits(blank, visible), model.logits(blank, torch.zeros_like(visible)))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("domain", [Grid(1, (3, 4), 2), Grid(2, (1, 3), 4)], ids=str)
def test_causal_in_every_ordering(domain: Grid, settings) -> None:
    model, x = build(domain, **settings), data(domain, 8).flatten(1)

    def walk(x: Tensor, order: Tensor) -> Tensor:
        return torch.stack(list(steps(model, x, order).values()))

    for number in range(model.orderings):
        order = model.ordering(number)
        before = walk(x, order)
        for position, entry in enumerate(order.tolist()):
            changed = x.clone()
            changed[:, entry] = (x[:, entry] + 1) % domain.levels
            moved = (walk(changed, order) != before).flatten(1).any(1)
            assert not moved[: position + 1].any() and moved[position + 1 :].all()


def test_orderless_loss_is_the_mean_over_all_orderings(every_state) -> None:
    """Enumerated: 6 orderings, 3 positions each, against the exact chain rule of each ordering."""
    model, x = build(THREE).double(), every_state(THREE).flatten(1)
    losses, exact = [], []
    for order in itertools.permutations(range(3)):
        exact.append(-chain_rule(model, x, order))
        for shown in range(3):
            visible = torch.zeros_like(x, dtype=torch.bool)
            visible[:, list(order[:shown])] = True
            losses.append(model.masked_loss(x, visible))
    torch.testing.assert_close(torch.stack(losses).mean(0), torch.stack(exact).mean(0), rtol=1e-12, atol=1e-12)
    unscaled = [loss * (3 - k % 3) / 3 for k, loss in enumerate(losses)]  # the mutant: no D / (D - d + 1)
    assert (torch.stack(unscaled).mean(0) - torch.stack(exact).mean(0)).abs().min() > 0.1


def test_visible_sets_are_drawn_as_the_loss_needs_them() -> None:
    """Each number of visible entries 0..D-1 has probability 1/D, and each set of one size the same."""
    draws = orderless_visible(60_000, 3, noise.stream("sets"), torch.device("cpu"))
    counts = torch.bincount((draws * torch.tensor([1, 2, 4])).sum(1), minlength=8).double() / 60_000
    expected = torch.tensor([1 / 3, *[1 / 9] * 6, 0.0], dtype=torch.float64)  # sizes 0, then 1 and 2
    assert (counts - expected).abs().max() < 4.5 * (2 / 9 / 60_000) ** 0.5


@pytest.mark.parametrize("domain", [Grid(1, (2, 2), 2), Grid(1, (1, 3), 3)], ids=str)
def test_samples_follow_log_prob(every_state, z_scores, domain: Grid) -> None:
    model, count = build(domain, LABEL, orderings=3), 20_000
    x = every_state(domain)
    for label in range(2):
        draws = model.sample(count, condition=torch.full((count,), label), generator=noise.stream("draw", label))
        assert draws.shape == (count, *domain.shape) and draws.dtype == domain.dtype
        z = z_scores(domain, draws, model.log_prob(x, condition=torch.full((len(x),), label)).detach())
        assert len(z) > 6 and z.abs().max() < 4.5


@pytest.mark.parametrize("kept", [[2], [0, 3], [1, 2, 3], []], ids=str)
def test_completions_follow_the_conditional_law(every_state, z_scores, kept) -> None:
    """Given kept entries, the frequencies are p_o(x) / p_o(kept) for the order (kept first, then those of the call)."""
    domain, count = Grid(1, (2, 2), 2), 20_000
    model, states = build(domain, spread=0.4), every_state(domain)
    datum = torch.tensor([1, 0, 1, 1], dtype=torch.uint8).view(1, 1, 2, 2).expand(count, -1, -1, -1)
    keep = torch.zeros(4, dtype=torch.bool)
    keep[kept] = True
    generator = noise.stream("edit", *kept)
    order = noise.permutation(4, noise.stream("edit", *kept)).tolist()
    drawn = model.edit(datum, keep.view(1, 1, 2, 2).expand(count, -1, -1, -1), generator=generator)
    assert torch.equal(drawn.flatten(1)[:, keep], datum.flatten(1)[:, keep])
    nats = chain_rule(model, states.flatten(1), [*kept, *[i for i in order if i not in kept]])
    agrees = (states.flatten(1)[:, keep] == datum[0].flatten()[keep]).all(1)
    distribution = torch.where(agrees, nats, -torch.inf).detach()
    z = z_scores(domain, drawn, distribution - distribution.logsumexp(0))
    assert len(z) == 2 ** (4 - len(kept)) and z.abs().max() < 4.5  # z of every state


def test_each_datum_of_a_batch_keeps_its_own_part() -> None:
    model, x = build(TERNARY, LABEL), data(TERNARY, 64)
    keep, labels = noise.uniform((64, *TERNARY.shape), noise.stream("keep")) < 0.5, torch.arange(64) % 2
    edited = model.edit(x, keep, condition=labels, generator=noise.stream("edit"))
    assert torch.equal(edited[keep], x[keep]) and not torch.equal(edited[~keep], x[~keep])
    hidden_changed = torch.where(keep, x, (x + 1) % 3)
    assert torch.equal(model.edit(hidden_changed, keep, condition=labels, generator=noise.stream("edit")), edited)


@pytest.mark.parametrize("levels", [2, 3])
def test_initialise_sets_the_frequencies_of_the_data(levels: int) -> None:
    domain = Grid(1, (2, 2), levels)
    x, model = data(domain, 50), DeepNADE(domain, hidden=4)
    model.v.data.zero_()
    model.initialise(TensorSplit(x))
    frequency = (torch.stack([(x == level).sum(0) for level in range(levels)], -1) + 1).view(4, levels) / (50 + levels)
    expected = frequency.log()[torch.arange(4), x.flatten(1).long()].sum(1)
    torch.testing.assert_close(model.log_prob(x), expected)


def test_learns_what_a_histogram_cannot() -> None:
    """Two coins thrown, each shown twice: 2 ln 2 nats are the entropy, 4 ln 2 what a histogram pays."""
    coins = noise.integers(2, (64, 2), noise.stream("coins"))
    x = torch.cat([coins, coins], 1).view(64, 1, 1, 4).to(torch.uint8)
    model = build(Grid(1, (1, 4), 2), spread=0.2, hidden=32, orderings=3).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for step in range(200):
        optimizer.zero_grad()
        model.losses(Batch(x), noise.stream("coins", step))["loss"].mean().backward()
        optimizer.step()
    assert abs(-model.log_prob(x).mean().item() - 2 * math.log(2)) < 0.15


def test_a_mixture_has_no_chain_rule_and_says_so() -> None:
    with pytest.raises(CapabilityError, match=r"deep_nade with orderings=2 has no chain rule .* --orderings 1"):
        DeepNADE(BINARY, hidden=4, orderings=2).chain_rule(1)


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"200,704 logits"):
        DeepNADE(Grid(1, (28, 28)))
    with pytest.raises(ValueError, match=r"layers: expected at least 1"):
        DeepNADE(BINARY, layers=0)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        DeepNADE(BINARY, TERNARY)
