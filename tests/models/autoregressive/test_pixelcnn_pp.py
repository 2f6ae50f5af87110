"""PixelCNN++: what it reads at any resolution, that it is a distribution, and that a walk is the full pass."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genus.kinds import Grid, Label
from genus.models.autoregressive import pixelcnn_pp
from genus.models.autoregressive.pixelcnn_pp import PixelCNNPP
from genus.prob import noise
from genus.prob.logistic_mixture import LogisticMixture
from genus.testing.checks._common import AlienDomain
from genus.testing.oracles import check_causal
from genus.testing.statistics import CheckError

LABEL = Label(("a", "b"))
GREY, RGB = Grid(1, (4, 5), 2), Grid(3, (3, 3), 4)


def build(domain: Grid, condition: Label | None = None, stages: int = 2, depth: int = 1) -> PixelCNNPP:
    """A model with weights so large that what is read shows."""
    model = PixelCNNPP(domain, condition, features=6, depth=depth, stages=stages, mixtures=3)
    for name, parameter in model.named_parameters():
        parameter.data = 0.25 * noise.normal(tuple(parameter.shape), noise.stream(name))
    return model


def data(domain: Grid, count: int = 3) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("x")).to(domain.dtype)


def assert_causal(model: PixelCNNPP) -> None:
    """Bit for bit; data and logits are turned so that the model's order runs along the axes."""

    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.logits(x.permute(0, 3, 1, 2)).permute(0, 3, 4, 1, 2).flatten(1, 3)

    check_causal(function, data(model.domain).permute(0, 2, 3, 1).contiguous(), model.domain.levels)


@pytest.mark.parametrize("domain", [GREY, RGB, Grid(2, (1, 4), 2), Grid(1, (4, 1), 5), Grid(1, (5, 6), 17)], ids=str)
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_an_entry_sees_only_those_before_it(domain: Grid, stages: int) -> None:
    assert_causal(build(domain, stages=stages))


def leak_at_the_centre(model: PixelCNNPP) -> None:
    model.left.mask.fill_(1)


def forget_the_shift(model: PixelCNNPP) -> None:
    model.above.pad = (1, 1, 1, 0)


def halve_the_last_of_four(model: PixelCNNPP) -> None:
    """A halved position that reads all of its four pixels tells the first of them what the others are."""
    model.stage.halve_u.pad = (0, 1, 0, 1)


def halve_rows_below(model: PixelCNNPP) -> None:
    model.stage.halve_v.pad = (1, 1, 0, 1)


def look_right(model: PixelCNNPP) -> None:
    model.stage.before[0].u.gate.pad = (0, 1, 1, 0)


@pytest.mark.parametrize(
    "break_it", [leak_at_the_centre, forget_the_shift, halve_the_last_of_four, halve_rows_below, look_right]
)
def test_a_leak_is_noticed(break_it: Callable[[PixelCNNPP], None]) -> None:
    model = build(Grid(1, (5, 6), 5))
    break_it(model)
    with pytest.raises(CheckError, match="moves the output"):
        assert_causal(model)


def test_there_is_no_blind_spot() -> None:
    """Near the end of a picture within reach, a pixel reads all that lie before it and no other."""
    model = build(Grid(1, (6, 7), 5), depth=2).double()
    planes = model.planes(data(model.domain, 1)).requires_grad_()
    model.full_pass(planes, None)[0, 0, 5, 3].backward()
    assert planes.grad is not None
    expected = torch.ones(6, 7, dtype=torch.bool)
    expected[5, 3:] = False
    assert torch.equal(planes.grad[0, 0] != 0, expected)


STATES = [Grid(1, (3, 3), 2), Grid(2, (2, 1), 3), Grid(1, (2, 3), 3), Grid(3, (1, 1), 4), Grid(3, (1, 2), 3)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", STATES, ids=str)
def test_probabilities_of_all_states_sum_to_one(every_state, domain, dtype, tolerance) -> None:
    x = every_state(domain)
    model, conditional = build(domain).to(dtype), build(domain, LABEL).to(dtype)
    with torch.no_grad():
        distributions = [model.log_prob(x)] + [
            conditional.log_prob(x, condition=torch.full((len(x),), k)) for k in range(2)
        ]
    assert all(abs(distribution.double().exp().sum().item() - 1) < tolerance for distribution in distributions)
    assert (distributions[1].exp() - distributions[2].exp()).abs().sum() > 0.001  # the label changes the distribution


def stepwise_logits(model: PixelCNNPP, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """The logits that a walk meets where the pictures are ``x``."""
    stepwise = torch.full((*x.shape[:2], model.width, *x.shape[2:]), torch.nan, dtype=model.head.weight.dtype)

    def choose(logits: Tensor, channel: int, row: int, column: int) -> Tensor:
        stepwise[:, channel, :, row, column] = logits
        return x[:, channel, row, column]

    assert torch.equal(model.walk(len(x), labels, choose), x)
    return stepwise


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-11)])
@pytest.mark.parametrize("domain", [Grid(1, (5, 7), 2), RGB, Grid(2, (1, 5), 4), Grid(1, (5, 1), 2)], ids=str)
@pytest.mark.parametrize(("condition", "stages"), [(None, 1), (LABEL, 2), (None, 3)], ids=["1", "2 labels", "3"])
def test_a_walk_gives_the_logits_of_the_full_pass(domain, condition, stages, dtype, tolerance) -> None:
    """Not bit for bit: a matrix product of one position sums in another order than a convolution does."""
    model, x = build(domain, condition, stages).to(dtype), data(domain)
    labels = None if condition is None else torch.tensor([0, 1, 1])
    with torch.no_grad():
        full = model.logits(x, labels)
    torch.testing.assert_close(stepwise_logits(model, x, labels), full, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("forgotten", ["halve_u", "halve_v"])
def test_a_walk_that_forgets_a_lower_resolution_is_noticed(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    model, x = build(Grid(1, (5, 6), 5)), data(Grid(1, (5, 6), 5))
    start = pixelcnn_pp.StageMemory.__init__

    def forgetful(memory: pixelcnn_pp.StageMemory, *given: object) -> None:
        start(memory, *given)  # type: ignore[arg-type]
        if memory.inner is not None:
            for name in ("put", "put_row"):
                monkeypatch.setattr(getattr(memory, forgotten), name, lambda *_: None)

    monkeypatch.setattr(pixelcnn_pp.StageMemory, "__init__", forgetful)
    with torch.no_grad():
        assert (stepwise_logits(model, x) - model.logits(x)).abs().max() > 0.01


@pytest.mark.parametrize("domain", [GREY, Grid(2, (2, 3), 5), RGB], ids=str)
def test_the_logits_of_a_walk_multiply_up_to_log_prob(domain: Grid) -> None:
    """The mixture of a channel is weighted by the posterior of its components, given the channels before."""
    model, x = build(domain).double(), data(domain, 5)
    with torch.no_grad():
        logits, target = stepwise_logits(model, x), x.long().unsqueeze(2)
        levels = logits if model.width > 1 else torch.cat([torch.zeros_like(logits), logits], 2)
        steps = levels.log_softmax(2).gather(2, target).flatten(1).sum(1)
        torch.testing.assert_close(steps, model.log_prob(x), rtol=1e-11, atol=1e-11)


def test_channels_that_forget_which_component_they_are_of_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build(RGB).double(), data(RGB, 5)
    with torch.no_grad():
        expected = model.log_prob(x)
        monkeypatch.setattr(LogisticMixture, "joint", lambda distribution, *_: distribution.log_weights)
        steps = stepwise_logits(model, x).log_softmax(2).gather(2, x.long().unsqueeze(2)).flatten(1).sum(1)
    assert (steps - expected).abs().min() > 0.01


@pytest.mark.parametrize("domain", [Grid(1, (2, 2), 2), Grid(2, (1, 2), 2), Grid(3, (1, 1), 3)], ids=str)
def test_samples_follow_log_prob(every_state, z_scores, domain: Grid) -> None:
    model, count, x = build(domain, LABEL), 20_000, every_state(domain)
    draws = model.sample(count, condition=torch.ones(count, dtype=torch.int64), generator=noise.stream("draw"))
    with torch.no_grad():
        z = z_scores(domain, draws, model.log_prob(x, condition=torch.ones(len(x), dtype=torch.int64)))
    assert len(z) > 3 and z.abs().max() < 4.5


@pytest.mark.parametrize("domain", [GREY, RGB], ids=str)
def test_an_edit_keeps_any_part(domain: Grid) -> None:
    model, x = build(domain), data(domain, 8)
    keep = noise.uniform(tuple(x.shape), noise.stream("keep")) < 0.5
    edited = model.edit(x, keep, generator=noise.stream("edit"))
    assert torch.equal(edited[keep], x[keep]) and not torch.equal(edited, x)
    sampled = model.sample(8, generator=noise.stream("same"))
    assert torch.equal(model.edit(x, torch.zeros_like(keep), generator=noise.stream("same")), sampled)


def test_halving_is_every_second_output() -> None:
    conv = pixelcnn_pp.Halving(2, 3, *pixelcnn_pp.DOWN)
    x = noise.normal((2, 2, 5, 7), noise.stream("x"))
    plain = F.conv2d(F.pad(x, (1, 1, 1, 0)), conv.weight, conv.bias)
    torch.testing.assert_close(conv(x), plain[:, :, ::2, ::2])


def test_dropout_is_of_training_only() -> None:
    model, x = PixelCNNPP(GREY, features=6, depth=1, stages=1, dropout=0.5), data(GREY)
    with torch.no_grad():
        assert torch.equal(model.eval().log_prob(x), model.log_prob(x))
        assert not torch.equal(model.train().log_prob(x), model.log_prob(x))


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"grids of two axes"):
        PixelCNNPP(Grid(1, (4,), 2))
    for name in ("features", "depth", "stages", "mixtures"):
        with pytest.raises(ValueError, match=rf"{name}: expected at least 1; got 0"):
            PixelCNNPP(RGB, **{name: 0})
    with pytest.raises(ValueError, match=r"dropout: expected a rate"):
        PixelCNNPP(RGB, dropout=1.0)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        PixelCNNPP(RGB, AlienDomain())
