"""NICE: volume that changes in the scale alone, logistic noise behind normal latents."""

import math

import pytest
import torch
from torch import Tensor, nn

from genus.contract import Batch, Likelihood
from genus.kinds import Domain, Grid, Label, Points, Vectors
from genus.models.flow._coupling import AdditiveCoupling
from genus.models.flow.nice import NICE, LogisticToNormal
from genus.nn.condition import Encoded
from genus.prob import gaussian, noise
from genus.testing.checks._common import AlienDomain

DIGIT = Label(tuple("0123456789"))


def awake(domain: Domain, condition: Domain | None = None, spread: float = 0.3) -> NICE:
    """A tiny model that is not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NICE.tiny(domain, condition)
    generator = noise.stream("awake")
    with torch.no_grad():
        for p in model.parameters():
            p.add_(spread * noise.normal(tuple(p.shape), generator))
        model.flow.standardise.std.fill_(1.7)
        model.flow.standardise.mean.fill_(0.4)
    return model.eval()


def data(domain: Domain, count: int) -> Tensor:
    if domain.levels is None:
        return noise.normal((count, *domain.shape), noise.stream("data"))
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("data")).to(domain.dtype)


def slogdet(model: NICE, x: Tensor, label: Encoded | None = None) -> Tensor:
    jacobian = torch.autograd.functional.jacobian(lambda v: model.flow(v, label)[0], x)
    return torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel())).logabsdet


@pytest.mark.parametrize(
    "domain", [Vectors(2), Vectors(5), Grid(1, (2, 3)), Grid(2, (2, 1, 2)), Grid(1, (7,))], ids=str
)
def test_log_det_is_that_of_the_jacobian(domain: Domain) -> None:
    model = awake(domain, DIGIT).double()
    label = model.read_condition(torch.tensor([3]))
    x = noise.normal((1, *domain.shape), noise.stream(0), dtype=torch.float64)
    z, log_det = model.flow(x, label)
    torch.testing.assert_close(log_det[0], slogdet(model, x, label), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(model.flow.inverse(z, label), x, rtol=1e-8, atol=1e-8)
    with torch.no_grad():
        model.flow.log_scale.neg_()  # a flow that forgot the sign of its scale
    assert abs(log_det[0] - slogdet(model, x, label)) > 0.1


def test_couplings_keep_the_volume() -> None:
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0])
    network = nn.Linear(4, 4).double()
    coupling = AdditiveCoupling(mask, lambda_module(network)).double()
    x = noise.normal((1, 4), noise.stream(0), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: coupling(v)[0], x)[0, :, 0]
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, torch.zeros((), dtype=torch.float64))
    assert coupling(x)[1].item() == 0
    assert not torch.allclose(coupling(x)[0], x)
    torch.testing.assert_close(coupling.inverse(coupling(x)[0]), x)


def lambda_module(network: nn.Module) -> nn.Module:
    """A network that ignores labels."""

    class Deaf(nn.Module):
        def forward(self, x: Tensor, given: Encoded | None) -> Tensor:
            return network(x)

    return Deaf()


def test_normal_latents_are_logistic_noise() -> None:
    layer = LogisticToNormal()
    h = torch.linspace(-60, 60, 2001)[:, None]
    z, log_det = layer(h)
    total = gaussian.log_prob(z, z.new_zeros(()), z.new_zeros(())).sum(1) + log_det
    expected = torch.distributions.TransformedDistribution(
        torch.distributions.Uniform(torch.zeros((), dtype=torch.float64), 1.0),
        [torch.distributions.SigmoidTransform().inv],
        validate_args=False,
    ).log_prob(h.double().clamp(-30, 30))[:, 0]
    near = h[:, 0].abs() <= 30
    torch.testing.assert_close(total[near].double(), expected[near], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.inverse(z), h, rtol=1e-4, atol=1e-4)
    far = torch.tensor([[1e6], [-1e6]], requires_grad=True)
    z, log_det = layer(far)
    (gaussian.log_prob(z, z.new_zeros(()), z.new_zeros(())).sum() + log_det.sum()).backward()
    assert torch.isfinite(z).all() and far.grad is not None and torch.isfinite(far.grad).all()


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_density_of_vectors_integrates_to_one(scale: float) -> None:
    model = awake(Vectors(2))
    with torch.no_grad():
        model.flow.log_scale.mul_(scale)
    samples = model.sample(5000, generator=noise.stream("box"))
    low, high = samples.amin(0), samples.amax(0)
    margin = 0.7 * (high - low)
    low, step = low - margin, 2.4 * (high - low) / 800
    axis = torch.arange(800) + 0.5
    with torch.no_grad():
        total = model.log_prob(torch.cartesian_prod(axis, axis) * step + low).double().exp().sum() * step.prod()
    assert model.likelihood is Likelihood.EXACT
    assert abs(total - 1) < 0.01


@pytest.mark.parametrize("domain", [Grid(1, (8, 8), 17), Grid(3, (5, 3), 256), Grid(1, (3, 3, 3), 2)], ids=str)
def test_grids_come_back_bit_for_bit(domain: Grid) -> None:
    model, x = awake(domain, spread=0.1), data(domain, 8)
    assert torch.equal(model.decode(model.encode(x)), x)
    assert model.likelihood is Likelihood.BOUND
    domain.check(model.sample(3, generator=noise.stream(1)))


def test_a_flow_that_is_uniform_on_the_cells_scores_log2_levels() -> None:
    model = NICE.tiny(Grid(1, (4, 4), 256))
    x, u = data(model.domain, 4), torch.full((4, 1, 4, 4), 0.5)
    v, log_det = model.dequantization(x, u)
    assert ((v > 0) & (v < 1)).all()
    torch.testing.assert_close(-log_det / (16 * math.log(2)), torch.full((4,), 8.0))


def test_training_keeps_it_invertible_and_finds_correlation() -> None:
    x = noise.normal((2000, 1), noise.stream("a")) + 0.1 * noise.normal((2000, 2), noise.stream("b"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NICE(Vectors(2), hidden=32, blocks=1)

    class Few:
        def __len__(self) -> int:
            return len(x)

        def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
            return Batch(x[index])

    model.initialise(Few())
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    before = model.losses(Batch(x))["loss"].mean().item()
    for step in range(150):
        optimizer.zero_grad()
        model.losses(Batch(x[noise.integers(2000, (128,), noise.stream(step))]))["loss"].mean().backward()
        optimizer.step()
    after = model.losses(Batch(x))["loss"].mean().item()
    variance = 1.01**2 - 1
    entropy = math.log(2 * math.pi * math.e) + 0.5 * math.log(variance)
    assert after < before - 1
    assert entropy - 0.05 < after < entropy + 0.8, (before, after, entropy)
    with torch.no_grad():
        assert (model.flow.inverse(model.flow(x, None)[0], None) - x).abs().max() < 1e-4
        assert model.symptoms(Batch(x[:16])) == []


@pytest.mark.parametrize(
    ("domain", "says"), [(Vectors(1), "needs two entries"), (Points(5), "models grid and vectors")], ids=str
)
def test_refuses_with_a_reason(domain: Domain, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        NICE(domain)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="couplings"):
        NICE(Vectors(3), couplings=1)
    with pytest.raises(ValueError, match="hidden"):
        NICE(Vectors(3), hidden=0)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        NICE(Vectors(3), AlienDomain())
