"""ConvNADE: what it reads, that a walk is the full pass, and what it completes. The rest of orderless
training is tested with `deep_nade`, which shares it."""

import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.kinds import Grid, Label
from genus.models.autoregressive.conv_nade import ConvNADE
from genus.prob import chain, noise

LABEL = Label(("a", "b"))
COLOUR = Grid(2, (4, 5), 3)


def build(domain: Grid, condition: Label | None = None, spread: float = 0.3, **settings) -> ConvNADE:
    """A model with weights large enough that its entries depend on each other visibly."""
    model = ConvNADE(domain, condition, **{"features": 6, "blocks": 1, "first": 3, **settings}).eval()
    for k, parameter in enumerate(model.parameters()):
        parameter.data = spread * noise.normal(tuple(parameter.shape), noise.stream("conv_nade test", k))
    return model


def data(domain: Grid, count: int) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("conv_nade data")).to(domain.dtype)


@pytest.mark.parametrize("settings", [{"orderings": 1}, {"orderings": 3, "blocks": 2, "first": 5}], ids=str)
@pytest.mark.parametrize("domain", [Grid(1, (2, 3), 2), Grid(2, (1, 2), 3)], ids=str)
def test_probabilities_of_all_states_sum_to_one(every_state, domain: Grid, settings) -> None:
    x, labels = every_state(domain), torch.ones(len(every_state(domain)), dtype=torch.int64)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        model = build(domain, LABEL, **settings).to(dtype)
        assert abs(model.log_prob(x, condition=labels).double().exp().sum().item() - 1) < tolerance


@pytest.mark.parametrize("domain", [Grid(1, (5, 6), 2), COLOUR], ids=str)
def test_a_walk_gives_the_logits_of_full_passes(domain: Grid) -> None:
    """Also from entries that are visible at the start, other ones for each datum."""
    model, x = build(domain, LABEL, blocks=2).double(), data(domain, 4).flatten(1)
    labels, visible = torch.tensor([0, 1, 1, 0]), noise.uniform(tuple(x.shape), noise.stream("visible")) < 0.3
    shown, order = visible.clone(), model.ordering(1)

    def choose(place: int, logits: Tensor) -> Tensor:
        full = model.logits(x, shown, labels)[:, place]
        expected = torch.cat([torch.zeros_like(full), full], 1) if domain.levels == 2 else full
        torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-12)
        shown[:, place] = True
        return x[:, place].long()

    places = chain.drive(model.walk(order, torch.where(visible, x, 0).long(), visible, labels), choose)
    assert places == order.tolist()


def test_an_entry_sees_the_visible_ones_within_its_reach_and_no_others() -> None:
    domain, model = Grid(1, (7, 7), 3), build(Grid(1, (7, 7), 3), blocks=1)  # a reach of two
    x, visible = data(domain, 8).flatten(1), noise.uniform((8, 49), noise.stream("visible")) < 0.5
    before, hidden_changed = model.logits(x, visible), torch.where(visible, x, (x + 1) % 3)
    assert torch.equal(model.logits(hidden_changed, visible), before)  # bit for bit
    for place in (0, 24, 40):
        changed = x.clone()
        changed[:, place] = (x[:, place] + 1) % 3
        moved = (model.logits(changed, visible) != before).any(2)
        rows, columns = torch.arange(49) // 7, torch.arange(49) % 7
        near = torch.maximum((rows - place // 7).abs(), (columns - place % 7).abs()) <= model.reach
        assert not moved[:, ~near].any() and torch.equal(moved[:, place], visible[:, place])
        assert moved[visible[:, place]][:, near].all()
    blank = torch.where(visible, 1, x)  # a visible middle grey is not a hidden entry
    assert not torch.equal(model.logits(blank, visible), model.logits(blank, torch.zeros_like(visible)))


def test_samples_follow_log_prob(every_state, z_scores) -> None:
    domain, count = Grid(1, (2, 2), 2), 20_000
    model = build(domain, LABEL, orderings=2)
    condition = torch.ones(count, dtype=torch.int64)
    draws = model.sample(count, condition=condition, generator=noise.stream("draw"))
    z = z_scores(domain, draws, model.log_prob(every_state(domain), condition=condition[:16]))
    assert len(z) > 6 and z.abs().max() < 4.5


def test_each_datum_keeps_its_own_part_and_the_rest_depends_on_it() -> None:
    model, x = build(COLOUR, spread=1.0), data(COLOUR, 32)
    keep = noise.uniform((32, *COLOUR.shape), noise.stream("keep")) < 0.5
    edited = model.edit(x, keep, generator=noise.stream("edit"))
    assert torch.equal(edited[keep], x[keep]) and not torch.equal(edited[~keep], x[~keep])
    hidden_changed = torch.where(keep, x, (x + 1) % 3)
    assert torch.equal(model.edit(hidden_changed, keep, generator=noise.stream("edit")), edited)
    others = model.edit(torch.where(keep, (x + 1) % 3, x), keep, generator=noise.stream("edit"))
    assert not torch.equal(others[~keep], edited[~keep])


def test_learns_what_a_histogram_cannot() -> None:
    """Two coins thrown, each shown twice: 2 ln 2 nats are the entropy, 4 ln 2 what a histogram pays."""
    coins = noise.integers(2, (64, 2), noise.stream("coins"))
    x = torch.cat([coins, coins], 1).view(64, 1, 1, 4).to(torch.uint8)
    model = build(Grid(1, (1, 4), 2), features=24, orderings=3, spread=0.2).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(200):
        optimizer.zero_grad()
        model.losses(Batch(x), noise.stream("coins", step))["loss"].mean().backward()
        optimizer.step()
    assert abs(-model.log_prob(x).mean().item() - 2 * math.log(2)) < 0.15


def test_refusals_teach() -> None:
    for domain, settings, sentence in (
        (Grid(1, (4,)), {}, "grids of two axes"),
        (COLOUR, {"first": 4}, "first: expected an odd size"),
        (COLOUR, {"blocks": 0}, "blocks: expected at least 1"),
        (COLOUR, {"orderings": 0}, "orderings: expected at least 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            ConvNADE(domain, **settings)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        ConvNADE(COLOUR, COLOUR)
