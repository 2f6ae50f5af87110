"""Multi-scale PixelCNN: what it reads, that it is a distribution, that finer grids depend on the coarser, walks and
edits."""

import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.kinds import Label, Pyramid
from genus.models.autoregressive import _masked, multiscale_pixelcnn
from genus.models.autoregressive.multiscale_pixelcnn import MultiscalePixelCNN
from genus.prob import chain, noise
from genus.testing.checks._common import AlienDomain
from genus.testing.oracles import all_states, check_causal
from genus.testing.statistics import CheckError

LABEL = Label(("a", "b"))
THREE = Pyramid((5, 6), 3, 4)  # grids of 2x2, 3x3 and 5x6
SMALL = Pyramid((2, 2), 2, 2)  # 32 states


def build(domain: Pyramid, condition: Label | None = None) -> MultiscalePixelCNN:
    """A model with weights so large that what is read shows."""
    model = MultiscalePixelCNN(domain, condition, features=6, dilations=(1, 2), blocks=1, first=5).eval()
    for name, parameter in model.named_parameters():
        parameter.data = 0.4 * noise.normal(tuple(parameter.shape), noise.stream(name))
    return model


def data(domain: Pyramid, count: int = 3) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("x")).to(domain.dtype)


def full_logits(model: MultiscalePixelCNN, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """``(B, D, width)``."""
    with torch.no_grad():
        return torch.cat([logits.flatten(1, 2) for logits in model.logits(x, labels)], 1)


def assert_causal(model: MultiscalePixelCNN) -> None:
    """Bit for bit; and each entry is read by a later one, the last of a coarser grid by the finer ones."""
    check_causal(lambda x: full_logits(model, x), data(model.domain), model.domain.levels)


def hint_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = multiscale_pixelcnn.repeated
    monkeypatch.setattr(multiscale_pixelcnn, "repeated", lambda *given: torch.zeros_like(whole(*given)))


@pytest.mark.parametrize("domain", [THREE, SMALL, Pyramid((1, 5), 2, 3), Pyramid((4, 1), 3, 300)], ids=str)
def test_an_entry_sees_only_those_before_it(domain: Pyramid) -> None:
    assert_causal(build(domain))


def test_hints_that_tell_nothing_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    hint_nothing(monkeypatch)
    with pytest.raises(CheckError, match="nothing is modelled from it"):
        assert_causal(build(THREE))


@pytest.mark.parametrize("scale", [0, 2])
@pytest.mark.parametrize("layer", [0, 1])
def test_every_layer_of_every_grid_must_be_masked(scale: int, layer: int) -> None:
    """Also of the finest grid: that all of the coarser ones is known says nothing of its own codes."""
    for conv, moved in (("vertical", (0, 0, -1, 1)), ("horizontal", (-1, 1, 0, 0))):  # one down, one to the right
        model = build(THREE)
        broken = getattr(model.factors[scale].layers[layer], conv)
        broken.pad = tuple(a + b for a, b in zip(broken.pad, moved, strict=True))
        with pytest.raises(CheckError, match="moves the output"):
            assert_causal(model)


@pytest.mark.parametrize("stack", ["above", "left"])
def test_a_leak_of_the_first_layer_is_noticed(stack: str) -> None:
    model = build(THREE)
    conv, moved = getattr(model.factors[2], stack), (0, 0, -1, 1) if stack == "above" else (-1, 1, 0, 0)
    conv.pad = tuple(a + b for a, b in zip(conv.pad, moved, strict=True))
    with pytest.raises(CheckError, match="moves the output"):
        assert_causal(model)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(
    "domain",
    [SMALL, Pyramid((1, 3), 3, 2), Pyramid((3, 2), 2, 2), Pyramid((1, 2), 2, 4), Pyramid((2, 2), 1, 3)],
    ids=str,
)
def test_probabilities_of_all_states_sum_to_one(domain, dtype, tolerance) -> None:
    x, model, conditional = all_states(domain), build(domain).to(dtype), build(domain, LABEL).to(dtype)
    with torch.no_grad():
        distributions = [model.log_prob(x)] + [
            conditional.log_prob(x, condition=torch.full((len(x),), k)) for k in range(2)
        ]
    assert all(abs(distribution.double().exp().sum().item() - 1) < tolerance for distribution in distributions)
    assert (distributions[1].exp() - distributions[2].exp()).abs().sum() > 0.01  # the label changes the distribution


def given_coarse(model: MultiscalePixelCNN) -> tuple[Tensor, Tensor]:
    """log p(coarsest grid) from the sum over all finer ones, and p(finer | coarsest): a row a coarsest grid."""
    x = all_states(model.domain)
    coarse = model.domain.levels ** math.prod(model.domain.sizes[0])
    with torch.no_grad():
        joint = model.log_prob(x).view(coarse, -1)  # the coarsest entries are the most significant
    marginal = joint.logsumexp(1)
    return marginal, (joint - marginal.unsqueeze(1)).exp()


@pytest.mark.parametrize("domain", [SMALL, Pyramid((3, 2), 2, 2), Pyramid((1, 3), 3, 2)], ids=str)
def test_the_first_factor_is_the_law_of_the_coarsest_grid(domain: Pyramid) -> None:
    """Summed over the finer grids, log p(x) is what a model of the coarsest grid alone gives."""
    model = build(domain).double()
    alone = build(Pyramid(domain.sizes[0], 1, domain.levels)).double()
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if k in alone.state_dict()})
    with torch.no_grad():
        expected = alone.log_prob(all_states(alone.domain))
    torch.testing.assert_close(given_coarse(model)[0], expected, rtol=0, atol=1e-12)


def test_finer_grids_depend_on_the_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Total variation between p(fine | coarse) of the two coarse grids; zero to the last bit without hints."""
    domain = Pyramid((2, 2), 2, 2)
    one, other = given_coarse(build(domain).double())[1]
    assert (one - other).abs().sum() / 2 > 0.05
    hint_nothing(monkeypatch)
    one, other = given_coarse(build(domain).double())[1]
    assert (one - other).abs().sum() < 1e-12


@pytest.mark.parametrize("size", [(4, 4), (5, 6), (1, 3), (7, 1)])
def test_a_position_is_told_of_the_coarser_one_above_it(size: tuple[int, int]) -> None:
    """Position (r, c) of a grid lies in (r // 2^k, c // 2^k) of one k scales coarser."""
    domain = Pyramid(size, 3, 2)
    for k, coarse in ((1, domain.sizes[1]), (2, domain.sizes[0])):
        planes = torch.arange(math.prod(coarse), dtype=torch.float32).view(1, 1, *coarse)
        seen = multiscale_pixelcnn.repeated(planes, 2**k, size)
        for row in range(size[0]):
            for column in range(size[1]):
                assert seen[0, 0, row, column] == planes[0, 0, row // 2**k, column // 2**k]


def test_hints_look_to_all_sides() -> None:
    """A 3x3 convolution and a block reach two positions far, before and after the own one."""
    model = build(Pyramid((8, 8), 2, 2)).double()
    planes = noise.normal((1, 2, 4, 4), noise.stream("planes"), dtype=torch.float64).requires_grad_()
    hints = model.hints(1, [planes])
    assert hints is not None and model.hints(0, []) is None
    hints[0, :, 3, 3].sum().backward()
    assert planes.grad is not None
    read = (planes.grad != 0).any(1)[0]
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0:3, 0:3] = True  # positions 1 .. 5 of the fine grid
    assert torch.equal(read, expected)


def stepwise_logits(model: MultiscalePixelCNN, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """The logits ``(B, D, levels)`` that a walk meets where the codes are ``x``; it must go in the data's order."""
    found: list[Tensor] = []

    def told(place: int, logits: Tensor) -> Tensor:
        found.append(logits)
        return x[:, place].long()

    assert chain.drive(model.chain_rule(len(x), condition=labels), told) == list(range(model.domain.num_dims))
    return torch.stack(found, 1)[..., -model_width(model) :]


def model_width(model: MultiscalePixelCNN) -> int:
    return 1 if model.domain.levels == 2 else model.domain.levels


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [THREE, Pyramid((1, 5), 2, 2), Pyramid((7, 3), 2, 300)], ids=str)
@pytest.mark.parametrize("condition", [None, LABEL], ids=["", "labels"])
def test_a_walk_gives_the_logits_of_the_full_pass(domain, condition, dtype, tolerance) -> None:
    model, x = build(domain, condition).to(dtype), data(domain)
    labels = None if condition is None else torch.tensor([0, 1, 1])
    full = full_logits(model, x, labels)
    torch.testing.assert_close(stepwise_logits(model, x, labels), full, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("forgotten", ["put", "put_row"])
def test_a_walk_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    model, x = build(THREE), data(THREE)
    monkeypatch.setattr(_masked.Memory, forgotten, lambda *_: None)
    assert (stepwise_logits(model, x) - full_logits(model, x)).abs().max() > 0.01


def test_a_walk_told_of_one_row_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, true_hints = build(THREE), data(THREE), MultiscalePixelCNN.hints
    full = full_logits(model, x)

    def moved(self: MultiscalePixelCNN, scale: int, planes: list[Tensor]) -> Tensor | None:
        hints = true_hints(self, scale, planes)
        return None if hints is None else hints.roll(-1, 2)

    monkeypatch.setattr(MultiscalePixelCNN, "hints", moved)
    assert (stepwise_logits(model, x) - full).abs().max() > 0.01


def z_scores(domain: Pyramid, draws: Tensor, log_prob: Tensor) -> Tensor:
    """How often each state was drawn, against its log-probability, in standard errors."""
    digits = domain.levels ** torch.arange(domain.num_dims - 1, -1, -1)
    counts = torch.bincount((draws.long() * digits).sum(1), minlength=len(log_prob)).double()
    p = log_prob.double().exp()
    expected = len(draws) * p
    assert (counts[expected < 1e-9] == 0).all()
    return ((counts - expected) / (expected * (1 - p)).sqrt())[expected > 5]


def test_samples_follow_log_prob() -> None:
    model, count, x = build(SMALL, LABEL), 20_000, all_states(SMALL)
    for label in range(2):
        draws = model.sample(count, condition=torch.full((count,), label), generator=noise.stream("draw", label))
        with torch.no_grad():
            z = z_scores(SMALL, draws, model.log_prob(x, condition=torch.full((len(x),), label)))
        assert len(z) > 3 and z.abs().max() < 4.5


def test_an_edit_of_the_fine_grid_follows_the_decoder_distribution_the_coarse() -> None:
    model, states, count = build(SMALL), all_states(SMALL), 20_000
    x = torch.tensor([1, 0, 0, 0, 0], dtype=torch.uint8).expand(count, 5)
    keep = torch.tensor([True, False, False, False, False]).expand(count, 5)
    edited = model.edit(x, keep, generator=noise.stream("edit"))
    with torch.no_grad():
        distribution = model.log_prob(states)
    possible = states[:, 0] == 1
    given = torch.where(possible, distribution - distribution[possible].logsumexp(0), -torch.inf)
    z = z_scores(SMALL, edited, given)
    assert len(z) > 4 and z.abs().max() < 4.5


def test_an_edit_keeps_any_part() -> None:
    model, x = build(THREE), data(THREE, 8)
    keep = noise.uniform(tuple(x.shape), noise.stream("keep")) < 0.5
    edited = model.edit(x, keep, generator=noise.stream("edit"))
    assert torch.equal(edited[keep], x[keep]) and not torch.equal(edited, x)
    sampled = model.sample(8, generator=noise.stream("same"))
    assert torch.equal(model.edit(x, torch.zeros_like(keep), generator=noise.stream("same")), sampled)


def trained_costs(blind: bool) -> dict[str, float]:
    """What a short training leaves of each grid, where the fine grid is the coarse one by a table without order."""
    domain, table = Pyramid((4, 4), 2, 20), noise.permutation(20, noise.stream("table"))
    coarse = noise.integers(20, (64, 2, 2), noise.stream("coarse"))
    fine = table[coarse].repeat_interleave(2, 1).repeat_interleave(2, 2)
    batch = Batch(domain.join([coarse, fine]).to(domain.dtype))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MultiscalePixelCNN(domain, features=24, dilations=(1,), blocks=1, first=3)
    if blind:
        for layer in model.factors[1].layers:
            layer.hint.weight.data.zero_()
            layer.hint.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        model.losses(batch)["loss"].mean().backward()
        optimizer.step()
    with torch.no_grad():
        return {name: term.mean().item() for name, term in model.losses(batch).items()}


def test_learns_the_fine_grid_from_the_coarse() -> None:
    costs, blind = trained_costs(blind=False), trained_costs(blind=True)
    assert costs["grid 1"] < 1  # of 16 codes; the coarse grid decides them all
    assert blind["grid 1"] > 4
    assert costs["loss"] == pytest.approx(costs["grid 0"] + costs["grid 1"], rel=1e-5)


def test_dropout_is_for_training() -> None:
    model = MultiscalePixelCNN(SMALL, features=6, dilations=(1,), blocks=1, first=3, dropout=0.5)
    x = data(SMALL)
    with torch.no_grad(), torch.random.fork_rng():
        assert not torch.equal(model.log_prob(x), model.log_prob(x))
        model.eval()
        assert torch.equal(model.log_prob(x), model.log_prob(x))


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"grids of two axes; got codes on grids 2, 4"):
        MultiscalePixelCNN(Pyramid((4,), 2))
    with pytest.raises(ValueError, match=r"features: .* at least 1; got 0"):
        MultiscalePixelCNN(SMALL, features=0)
    with pytest.raises(ValueError, match=r"blocks: expected at least 0; got -1"):
        MultiscalePixelCNN(SMALL, blocks=-1)
    with pytest.raises(ValueError, match=r"dropout: expected a rate"):
        MultiscalePixelCNN(SMALL, dropout=1.0)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        MultiscalePixelCNN(SMALL, AlienDomain())
    with pytest.raises(ValueError, match=r"keep: expected booleans"):
        build(SMALL).edit(data(SMALL), data(SMALL))
