"""Gated PixelCNN: what it reads, that it is a distribution, that a walk is the full pass, and what edits keep."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.kinds import Grid, Label
from genus.models.autoregressive import _masked
from genus.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from genus.prob import noise
from genus.testing.checks._common import AlienDomain
from genus.testing.oracles import check_causal
from genus.testing.statistics import CheckError

LABEL = Label(("a", "b"))
GREY, RGB = Grid(1, (5, 6), 2), Grid(3, (3, 3), 3)


def build(
    domain: Grid, condition: Label | None = None, features: int = 6, dilations: tuple[int, ...] = (1, 2)
) -> GatedPixelCNN:
    """A model with weights so large that what is read shows."""
    model = GatedPixelCNN(domain, condition, features=features, dilations=dilations, first=5)
    for name, parameter in model.named_parameters():
        parameter.data = 0.4 * noise.normal(tuple(parameter.shape), noise.stream(name))
    return model


def data(domain: Grid, count: int = 3) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("x")).to(domain.dtype)


def in_order(model: GatedPixelCNN) -> Callable[[Tensor], Tensor]:
    """Logits ``(B, D, width)`` from data ``(B, H, W, channels)``: both with the model's order along the axes."""

    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.logits(x.permute(0, 3, 1, 2)).permute(0, 3, 4, 1, 2).flatten(1, 3)

    return function


def assert_causal(model: GatedPixelCNN) -> None:
    x = data(model.domain).permute(0, 2, 3, 1).contiguous()
    check_causal(in_order(model), x, model.domain.levels)


@pytest.mark.parametrize("domain", [GREY, RGB, Grid(2, (1, 4), 2), Grid(1, (4, 1), 5)], ids=str)
@pytest.mark.parametrize("features", [6, 7])  # 7: groups of unequal size
def test_an_entry_sees_only_those_before_it(domain: Grid, features: int) -> None:
    assert_causal(build(domain, features=features))


def leak_at_the_centre(model: GatedPixelCNN) -> None:
    model.left.mask.fill_(1)


def forget_the_shift(model: GatedPixelCNN) -> None:
    left, right, top, _ = model.above.pad
    model.above.pad = (left, right, top - 1, 0)


def mix_the_groups(model: GatedPixelCNN) -> None:
    """Outputs in blocks, inputs taken in turn: the mistake of many ports."""
    in_turn = torch.arange(6) % 3
    own = _masked.group_mask(in_turn, _masked.groups_of(6, 3).repeat(2))
    model.layers[0].horizontal.mask[:, :, -1, -1] = own.float()


def gate_by_another_group(model: GatedPixelCNN) -> None:
    """The groups of 2f features laid out in one run, though the gate halves them."""
    own = _masked.group_mask(_masked.groups_of(6, 3), _masked.groups_of(12, 3))
    model.layers[0].horizontal.mask[:, :, -1, -1] = own.float()


def open_the_head(model: GatedPixelCNN) -> None:
    model.head[1].mask.fill_(1)


@pytest.mark.parametrize(
    "break_it", [leak_at_the_centre, forget_the_shift, mix_the_groups, gate_by_another_group, open_the_head]
)
def test_a_leak_is_noticed(break_it: Callable[[GatedPixelCNN], None]) -> None:
    model = build(RGB)
    break_it(model)
    with pytest.raises(CheckError, match="moves the output"):
        assert_causal(model)


def test_there_is_no_blind_spot() -> None:
    """Within the reach of three layers, a pixel near the end reads all that lie before it and no other."""
    model = build(Grid(1, (6, 7), 2), dilations=(1, 1, 1)).double()
    planes = model.planes(data(model.domain, 1)).requires_grad_()
    model.full_pass(planes, None)[0, 0, 5, 3].backward()
    assert planes.grad is not None
    read = planes.grad[0, 0] != 0
    expected = torch.ones(6, 7, dtype=torch.bool)
    expected[5, 3:] = False
    assert torch.equal(read, expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [Grid(1, (3, 3), 2), Grid(2, (2, 1), 3), Grid(1, (2, 3), 3)], ids=str)
def test_probabilities_of_all_states_sum_to_one(every_state, domain, dtype, tolerance) -> None:
    x = every_state(domain)
    model, conditional = build(domain).to(dtype), build(domain, LABEL).to(dtype)
    with torch.no_grad():
        distributions = [model.log_prob(x)] + [
            conditional.log_prob(x, condition=torch.full((len(x),), k)) for k in range(2)
        ]
    assert all(abs(distribution.double().exp().sum().item() - 1) < tolerance for distribution in distributions)
    assert (distributions[1].exp() - distributions[2].exp()).abs().sum() > 0.01  # the label changes the distribution


def stepwise_logits(model: GatedPixelCNN, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """The logits that a walk meets where the pictures are ``x``."""
    stepwise = torch.full((*x.shape[:2], model.width, *x.shape[2:]), torch.nan, dtype=model.head[1].weight.dtype)

    def choose(logits: Tensor, channel: int, row: int, column: int) -> Tensor:
        stepwise[:, channel, :, row, column] = logits
        return x[:, channel, row, column]

    assert torch.equal(model.walk(len(x), labels, choose), x)
    return stepwise


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [Grid(1, (9, 7), 2), RGB, Grid(2, (1, 5), 4), Grid(1, (5, 1), 2)], ids=str)
@pytest.mark.parametrize("condition", [None, LABEL], ids=["", "labels"])
def test_a_walk_gives_the_logits_of_the_full_pass(domain, condition, dtype, tolerance) -> None:
    """Not bit for bit: a matrix product of one position sums in another order than a convolution does."""
    model, x = build(domain, condition, dilations=(1, 4, 2)).to(dtype), data(domain)
    labels = None if condition is None else torch.tensor([0, 1, 1])
    with torch.no_grad():
        full = model.logits(x, labels)
    torch.testing.assert_close(stepwise_logits(model, x, labels), full, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("forgotten", ["put", "put_row"])
def test_a_walk_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    model, x = build(GREY), data(GREY)
    monkeypatch.setattr(_masked.Memory, forgotten, lambda *_: None)
    with torch.no_grad():
        assert (stepwise_logits(model, x) - model.logits(x)).abs().max() > 0.01


@pytest.mark.parametrize("domain", [Grid(1, (2, 2), 2), Grid(2, (1, 2), 2)], ids=str)
def test_samples_follow_log_prob(every_state, z_scores, domain: Grid) -> None:
    model, count, x = build(domain, LABEL), 20_000, every_state(domain)
    for label in range(2):
        draws = model.sample(count, condition=torch.full((count,), label), generator=noise.stream("draw", label))
        with torch.no_grad():
            z = z_scores(domain, draws, model.log_prob(x, condition=torch.full((len(x),), label)))
        assert len(z) > 3 and z.abs().max() < 4.5


def test_an_edit_of_a_later_part_follows_the_decoder_distribution_the_earlier(every_state, z_scores) -> None:
    """Row one of two is kept: draws of row two follow p(row two | row one) = p(both) / p(row one)."""
    domain = Grid(1, (2, 2), 2)
    model, states, count = build(domain), every_state(domain), 20_000
    x = torch.tensor([[[1, 0], [0, 0]]], dtype=torch.uint8).expand(count, 1, 2, 2)
    keep = torch.tensor([[[True, True], [False, False]]]).expand(count, 1, 2, 2)
    edited = model.edit(x, keep, generator=noise.stream("edit"))
    assert torch.equal(edited[keep], x[keep])
    with torch.no_grad():
        distribution = model.log_prob(states)
    possible = (states[:, 0, 0] == torch.tensor([1, 0])).all(1)
    given = torch.where(possible, distribution - distribution[possible].logsumexp(0), -torch.inf)
    z = z_scores(domain, edited, given)
    assert len(z) == 4 and z.abs().max() < 4.5


@pytest.mark.parametrize("domain", [GREY, RGB], ids=str)
def test_an_edit_keeps_any_part(domain: Grid) -> None:
    model, x = build(domain), data(domain, 8)
    keep = noise.uniform(tuple(x.shape), noise.stream("keep")) < 0.5
    edited = model.edit(x, keep, generator=noise.stream("edit"))
    assert torch.equal(edited[keep], x[keep]) and not torch.equal(edited, x)
    nothing = torch.zeros_like(keep)
    sampled = model.sample(8, generator=noise.stream("same"))
    assert torch.equal(model.edit(x, nothing, generator=noise.stream("same")), sampled)  # keeping nothing = sampling


def test_learns_what_a_histogram_cannot() -> None:
    """The second row repeats the first, the second colour is the first one's opposite: 3 coins are left of 12."""
    coins = noise.integers(2, (64, 1, 1, 3), noise.stream("coins")).to(torch.uint8)
    x = torch.cat([coins, 1 - coins], 1).expand(-1, -1, 2, -1).contiguous()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GatedPixelCNN(Grid(2, (2, 3), 2), features=24, dilations=(1,), first=3)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        model.losses(Batch(x))["loss"].mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert abs(-model.log_prob(x).mean().item() - 3 * 0.6931) < 0.15


PARAMETERS = {  # of a layer of 4 features, for two classes and two colours of three levels
    "above.weight": (4, 3, 1, 3), "above.bias": (4,), "left.weight": (4, 3, 1, 2), "left.bias": (4,),
    "layers.0.vertical.weight": (8, 4, 2, 3), "layers.0.vertical.bias": (8,),
    "layers.0.horizontal.weight": (8, 4, 1, 2), "layers.0.horizontal.bias": (8,),
    "layers.0.link.weight": (8, 8, 1, 1), "layers.0.link.bias": (8,),
    "layers.0.out.weight": (4, 4, 1, 1), "layers.0.out.bias": (4,),
    "layers.0.label.weight": (2, 16),
    "head.1.weight": (4, 4, 1, 1), "head.1.bias": (4,), "head.3.weight": (6, 4, 1, 1), "head.3.bias": (6,),
}  # fmt: skip


def test_old_runs_can_be_loaded() -> None:
    """Names, sizes and order of the parameters are those of the first version, which runs on disk hold."""
    model = GatedPixelCNN(Grid(2, (3, 3), 3), LABEL, features=4, dilations=(1,), first=3)
    assert [(name, tuple(p.shape)) for name, p in model.named_parameters()] == list(PARAMETERS.items())
    assert model.state_dict().keys() == PARAMETERS.keys()


def test_dropout_is_for_training() -> None:
    model, x = GatedPixelCNN(GREY, features=6, dilations=(1,), first=3, dropout=0.5), data(GREY)
    with torch.no_grad(), torch.random.fork_rng():
        assert not torch.equal(model.log_prob(x), model.log_prob(x))
        model.eval()
        assert torch.equal(model.log_prob(x), model.log_prob(x))


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"grids of two axes"):
        GatedPixelCNN(Grid(1, (4,), 2))
    with pytest.raises(ValueError, match=r"features: .* at least 3; got 2"):
        GatedPixelCNN(RGB, features=2)
    with pytest.raises(ValueError, match=r"dilations: .*got \(\)"):
        GatedPixelCNN(RGB, dilations=())
    with pytest.raises(ValueError, match=r"kernel: expected an odd size"):
        GatedPixelCNN(RGB, kernel=4)
    with pytest.raises(ValueError, match=r"first: expected an odd size"):
        GatedPixelCNN(RGB, first=1)
    with pytest.raises(ValueError, match=r"dropout: expected a rate"):
        GatedPixelCNN(RGB, dropout=-0.1)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        GatedPixelCNN(RGB, AlienDomain())
    with pytest.raises(ValueError, match=r"keep: expected booleans"):
        build(GREY).edit(data(GREY), data(GREY))
