import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.data.source import TensorSplit
from genus.errors import CapabilityError
from genus.kinds import Grid, Label
from genus.models.autoregressive import nade
from genus.models.autoregressive.nade import NADE, RunningActivation
from genus.prob import noise

BINARY, TERNARY = Grid(1, (2, 3), 2), Grid(2, (1, 2), 3)
LABEL = Label(("a", "b"))


def build(domain: Grid, condition: Label | None = None, hidden: int = 8, spread: float = 1.0) -> NADE:
    """A NADE with weights large enough that its entries depend on each other visibly."""
    model = NADE(domain, condition, hidden=hidden)
    for parameter in model.parameters():
        parameter.data = spread * noise.normal(tuple(parameter.shape), noise.stream("nade", *parameter.shape))
    return model


def naive_products(x: Tensor, start: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """What `RunningActivation` computes, position by position, for autograd to differentiate."""
    a, products = start, []
    for x_i, w_i, v_i in zip(x, w, v, strict=True):
        products.append(v_i @ a.sigmoid().T)
        a = a + x_i.T @ w_i
    return torch.stack(products)


@pytest.mark.parametrize("chunk", [1, 24, 36, 1 << 20])  # of one position, two, three (5 does not divide), all
@pytest.mark.parametrize("width", [1, 3])
def test_custom_gradient_is_the_naive_one(monkeypatch: pytest.MonkeyPatch, chunk: int, width: int) -> None:
    monkeypatch.setattr(nade, "CHUNK_ELEMENTS", chunk)
    generator = noise.stream("gradient", width)
    shapes = (5, width, 3), (3, 4), (5, width, 4), (5, width, 4)
    x, start, w, v = (noise.normal(shape, generator, dtype=torch.float64) for shape in shapes)
    arguments = (start.requires_grad_(), w.requires_grad_(), v.requires_grad_())
    ours, naive = RunningActivation.apply(x, *arguments), naive_products(x, *arguments)
    weights = noise.normal(tuple(ours.shape), generator, dtype=torch.float64)
    torch.testing.assert_close(ours, naive, rtol=1e-12, atol=1e-12)
    for got, expected in zip(
        torch.autograd.grad((ours * weights).sum(), arguments),
        torch.autograd.grad((naive * weights).sum(), arguments),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(RunningActivation.apply, (x, *arguments))


def test_every_parameter_gets_a_gradient() -> None:
    model = NADE.tiny(TERNARY, LABEL)
    x = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]], dtype=torch.uint8).view(2, 2, 1, 2)
    model.losses(Batch(x, torch.tensor([0, 1])))["loss"].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_parameters_as_published() -> None:
    assert sum(p.numel() for p in NADE(Grid(1, (28, 28), 2)).parameters()) == 785_284  # 2 D H + D + H


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [BINARY, TERNARY], ids=str)
def test_probabilities_of_all_states_sum_to_one(every_state, domain, dtype, tolerance) -> None:
    x = every_state(domain)
    model = build(domain).to(dtype)
    assert model.likelihood is Likelihood.EXACT
    assert abs(model.log_prob(x).double().exp().sum().item() - 1) < tolerance
    conditional = build(domain, LABEL).to(dtype)
    distributions = [conditional.log_prob(x, condition=torch.full((len(x),), k)).double().exp() for k in range(2)]
    assert all(abs(distribution.sum().item() - 1) < tolerance for distribution in distributions)
    assert (distributions[0] - distributions[1]).abs().sum() > 0.1  # the label changes the distribution


@pytest.mark.parametrize("domain", [Grid(1, (4, 5), 2), Grid(2, (2, 3), 4)], ids=str)
def test_an_entry_sees_only_those_before_it(domain: Grid) -> None:
    model = build(domain)
    x = noise.integers(domain.levels, (3, *domain.shape), noise.stream("causal")).to(domain.dtype)
    before = model.logits(x)
    for j in range(domain.num_dims):
        other = x.clone()
        other.view(3, -1)[:, j] = (other.view(3, -1)[:, j] + 1) % domain.levels
        after = model.logits(other)
        assert torch.equal(after[: j + 1], before[: j + 1]), f"an entry up to {j} saw entry {j}"
        if j + 1 < domain.num_dims:
            assert not torch.equal(after[j + 1], before[j + 1]), f"entry {j + 1} ignores entry {j}"


@pytest.mark.parametrize("domain", [Grid(1, (2, 2), 2), Grid(1, (1, 3), 3)], ids=str)
def test_samples_follow_log_prob(every_state, z_scores, domain: Grid) -> None:
    model, count = build(domain, LABEL), 20_000
    x = every_state(domain)
    for label in range(2):
        draws = model.sample(count, condition=torch.full((count,), label), generator=noise.stream("draw", label))
        assert draws.shape == (count, *domain.shape) and draws.dtype == domain.dtype
        z = z_scores(domain, draws, model.log_prob(x, condition=torch.full((len(x),), label)))
        assert len(z) > 6 and z.abs().max() < 4.5


@pytest.mark.parametrize("domain", [Grid(1, (6, 7), 2), Grid(1, (3, 4), 5)], ids=str)
def test_incremental_conditionals_are_those_of_the_full_pass(domain: Grid) -> None:
    model, products = build(domain).double(), []
    draw = model.chooser(9, noise.stream("incremental"))

    def choose(i: int, z: Tensor) -> Tensor:
        products.append(z.clone())
        return draw(i, z)

    values = model.chain(model.first_activation(9, None).clone(), choose)  # (D, B, width)
    x = values.squeeze(2) if domain.levels == 2 else values.argmax(2)
    full = model.logits(x.T.to(domain.dtype).reshape(9, *domain.shape)).transpose(1, 2)
    torch.testing.assert_close(torch.stack(products) + model.b.unsqueeze(1), full, rtol=1e-10, atol=1e-12)
    assert torch.equal(model.sample(9, generator=noise.stream("incremental")).flatten(1).T, x.to(domain.dtype))


def test_same_generator_same_samples() -> None:
    model = build(BINARY)
    one, two, other = (model.sample(50, generator=noise.stream("same", seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize("levels", [2, 3])
def test_initialise_sets_the_frequencies_of_the_data(levels: int) -> None:
    domain = Grid(1, (2, 2), levels)
    x = noise.integers(levels, (50, *domain.shape), noise.stream("data")).to(torch.uint8)
    model = NADE(domain)
    model.v.data.zero_()
    model.initialise(TensorSplit(x))
    frequency = (torch.stack([(x == level).sum(0) for level in range(levels)], -1) + 1).view(4, levels) / (50 + levels)
    expected = frequency.log()[torch.arange(4), x.flatten(1).long()].sum(1)
    torch.testing.assert_close(model.log_prob(x), expected)


def test_learns_what_a_histogram_cannot() -> None:
    """Two coins thrown, each shown twice: 2 ln 2 nats are the entropy, 4 ln 2 what a histogram pays."""
    domain = Grid(1, (1, 4), 2)
    coins = noise.integers(2, (64, 2), noise.stream("coins"))
    x = torch.cat([coins, coins], 1).view(64, *domain.shape).to(torch.uint8)
    model = build(domain, spread=0.1)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        model.losses(Batch(x))["loss"].mean().backward()
        optimizer.step()
    assert abs(-model.log_prob(x).mean().item() - 2 * math.log(2)) < 0.1


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"200,704 one-hot inputs"):
        NADE(Grid(1, (28, 28)))
    with pytest.raises(ValueError, match=r"hidden: expected at least 1"):
        NADE(BINARY, hidden=0)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        NADE(BINARY, TERNARY)
    with pytest.raises(ValueError, match=r"expected values 0\.\.1"):
        NADE.tiny(BINARY).log_prob(torch.full((1, *BINARY.shape), 2, dtype=torch.uint8))
    with pytest.raises(CapabilityError, match="IsEditable"):
        NADE.tiny(BINARY).edit(None, None)
