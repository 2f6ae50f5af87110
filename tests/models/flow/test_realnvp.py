"""RealNVP: its determinant, its inverse, and probabilities that do not exceed one."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.kinds import Domain, Grid, Label, Points, Vectors
from genus.models.flow._coupling import squeeze, unsqueeze
from genus.models.flow._dequantization import UniformDequantization
from genus.models.flow.realnvp import RealNVP
from genus.nn.standardise import Standardise
from genus.prob import noise
from genus.testing.checks._common import AlienDomain

DIGIT = Label(tuple("0123456789"))
PICTURES = [
    Grid(1, (8, 8), 17),
    Grid(1, (28, 28), 256),
    Grid(1, (7, 7), 2),
    Grid(3, (6, 5), 256),
    Grid(2, (1, 1), 4),
    Grid(1, (1, 9), 300),
]


class Table:
    """A split that holds its data in memory."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index])


def awake(domain: Domain, condition: Domain | None = None, spread: float = 0.15) -> RealNVP:
    """A tiny model that is not the identity: random weights, random standardisation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RealNVP.tiny(domain, condition)
    generator = noise.stream("awake")
    with torch.no_grad():
        for p in model.parameters():
            p.add_(spread * noise.normal(tuple(p.shape), generator))
        shape = tuple(model.flow.standardise.mean.shape)
        model.flow.standardise.mean.copy_(noise.normal(shape, generator))
        model.flow.standardise.std.copy_(0.5 + noise.uniform(shape, generator))
    return model


def data(domain: Domain, count: int, key: int | str = "data") -> Tensor:
    generator = noise.stream(key)
    if domain.levels is None:
        return noise.normal((count, *domain.shape), generator)
    return noise.integers(domain.levels, (count, *domain.shape), generator).to(domain.dtype)


@pytest.mark.parametrize("domain", [Vectors(2), Vectors(5), Grid(1, (2, 4)), Grid(2, (2, 2)), Grid(1, (2, 3))], ids=str)
def test_log_det_is_that_of_the_jacobian(domain: Domain) -> None:
    model = awake(domain, DIGIT, spread=0.3).double()
    label = model.read_condition(torch.tensor([3]))
    x = noise.normal((1, *domain.shape), noise.stream(0)).double()
    z, log_det = model.flow(x, label)
    jacobian = torch.autograd.functional.jacobian(lambda v: model.flow(v, label)[0], x).reshape(domain.num_dims, -1)
    assert z.shape == (1, domain.num_dims)
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-9, atol=1e-9)
    assert abs(log_det[0]) > 0.01
    torch.testing.assert_close(model.flow.inverse(z, label), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("domain", PICTURES, ids=str)
def test_pictures_of_any_size_come_back_bit_for_bit(domain: Grid) -> None:
    model = awake(domain)
    x = data(domain, 8)
    z = model.encode(x)
    assert z.shape == (8, domain.num_dims)
    decoded = model.decode(z)
    assert decoded.dtype == domain.dtype
    assert torch.equal(decoded, x)
    samples = model.sample(3, generator=noise.stream(1))
    domain.check(samples)
    assert samples.dtype == domain.dtype
    y, _ = model.continuous(x, noise.stream(2))
    assert (model.flow.inverse(model.flow(y, None)[0], None) - y).abs().max() < 1e-4


def test_vectors_come_back() -> None:
    model = awake(Vectors(7))
    x = data(model.domain, 64)
    assert (model.decode(model.encode(x)) - x).abs().max() < 1e-4


def test_density_of_vectors_integrates_to_one_in_their_own_units() -> None:
    model = awake(Vectors(2), spread=0.3)
    model.initialise(Table(100 + 30 * data(model.domain, 1000) @ torch.tensor([[1.0, 0.2], [0.0, 0.1]])))
    samples = model.sample(5000, generator=noise.stream("box"))
    low, high = samples.amin(0), samples.amax(0)
    margin = 0.5 * (high - low)
    low, step = low - margin, 2 * (high - low) / 800
    axis = torch.arange(800) + 0.5
    with torch.no_grad():
        total = model.log_prob(torch.cartesian_prod(axis, axis) * step + low).double().exp().sum() * step.prod()
    assert model.likelihood is Likelihood.EXACT
    assert abs(total - 1) < 0.01


def test_probabilities_of_all_pictures_sum_to_no_more_than_one() -> None:
    model = awake(Grid(1, (2, 3), 2), spread=0.3)
    states = torch.tensor(list(itertools.product((0, 1), repeat=6)), dtype=torch.uint8).view(-1, 1, 2, 3)
    draws = 2000
    with torch.no_grad():
        log_w = model.log_prob(states.repeat(draws, 1, 1, 1), generator=noise.stream("draws")).double().view(draws, 64)
    inside = log_w.exp()
    total, error = inside.mean(0).sum(), inside.sum(1).std() / math.sqrt(draws)
    # alpha cuts the logit off, so the flow wastes what lies beyond: the sum is the mass between
    y = model.flow.inverse(noise.normal((20_000, 6), noise.stream("mass")), None).detach()
    v = (y.sigmoid() - model.dequantization.alpha) / (1 - 2 * model.dequantization.alpha)
    mass = ((v > 0) & (v < 1)).all(dim=1).all(1).all(1).double().mean()
    assert abs(total - mass) < 4 * (error + 0.5 / math.sqrt(20_000))
    bound = log_w.mean(0).exp().sum()  # the average of the log: what one draw is on average
    assert model.likelihood is Likelihood.BOUND
    assert 0 < bound < total - 4 * error


def test_more_draws_make_the_bound_tighter() -> None:
    model = awake(Grid(1, (4, 4), 4), spread=0.3)
    x = data(model.domain, 200)
    with torch.no_grad():
        bounds = [model.log_prob(x, num_samples=k, generator=noise.stream(k)).mean() for k in (1, 4, 32)]
        expected = torch.stack([model.log_prob(x, generator=g) for g in [noise.stream("same")] * 5])
        five = model.log_prob(x, num_samples=5, generator=noise.stream("same"))
    assert bounds[0] + 0.1 < bounds[1] < bounds[2]
    torch.testing.assert_close(five, expected.logsumexp(0) - math.log(5))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantization_gives_a_uniform_law_log2_levels_bits(levels: int) -> None:
    dequantization = UniformDequantization(levels, 1e-5)
    x = data(Grid(1, (8, 8), levels), 16)
    y, log_det = dequantization(x, noise.uniform(tuple(x.shape), noise.stream(0)))
    y = y.double()
    log_uniform = (y.sigmoid().log() + (-y).sigmoid().log() - math.log1p(-2e-5)).flatten(1).sum(1)  # |dv/dy|
    bits = -(log_uniform + log_det) / (64 * math.log(2))
    torch.testing.assert_close(bits, torch.full_like(bits, math.log2(levels)), rtol=1e-5, atol=1e-5)
    assert torch.equal(dequantization.inverse(y), x.long())


def test_log_det_of_the_dequantization_is_that_of_autograd() -> None:
    dequantization = UniformDequantization(4, 0.05)
    x, u = torch.tensor([[0, 1, 3]]), torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda u: dequantization(x, u)[0][0], u)[:, 0]
    torch.testing.assert_close(dequantization(x, u)[1][0], jacobian.diagonal().log().sum())


def test_standardise_takes_the_moments_and_leaves_constants_alone() -> None:
    x = data(Vectors(3), 500) * torch.tensor([5.0, 0.1, 0.0]) + torch.tensor([1.0, -20.0, 7.0])
    layer = Standardise((3,))
    layer.fit(x)
    z, log_det = layer(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-3, rtol=0)
    assert torch.isfinite(log_det).all()
    torch.testing.assert_close(layer.inverse(z), x)


def test_initialise_depends_on_the_data_only_and_is_saved() -> None:
    domain = Grid(1, (8, 8), 17)
    one, two = RealNVP.tiny(domain), RealNVP.tiny(domain)
    split = Table(data(domain, 300) // 2)
    one.initialise(split)
    two.initialise(split)
    assert torch.equal(one.flow.standardise.mean, two.flow.standardise.mean)
    assert one.flow.standardise.std.item() != 1
    three = RealNVP.tiny(domain)
    three.load_state_dict(one.state_dict())
    x = data(domain, 4)
    assert torch.equal(three.log_prob(x, generator=noise.stream(0)), one.log_prob(x, generator=noise.stream(0)))


@pytest.mark.parametrize("domain", [Vectors(4), Grid(1, (4, 4), 17)], ids=str)
def test_the_label_changes_the_law(domain: Domain) -> None:
    model = awake(domain, DIGIT)
    x = data(domain, 5)
    three, four = torch.full((5,), 3), torch.full((5,), 4)
    log_prob = [model.log_prob(x, condition=c, generator=noise.stream(0)) for c in (three, four, three)]
    assert (log_prob[0] - log_prob[1]).abs().min() > 1e-3
    assert torch.equal(log_prob[0], log_prob[2])
    z = model.encode(x, condition=three)
    assert torch.allclose(model.decode(z, condition=three).double(), x.double(), atol=1e-4)
    with pytest.raises(ValueError, match="built for a condition"):
        model.sample(2)


def test_temperature_zero_gives_one_datum_and_the_seed_gives_the_sample() -> None:
    model = awake(Vectors(3))
    cold = model.sample(4, temperature=0.0)
    assert torch.equal(cold, cold[:1].expand(4, -1))
    assert torch.equal(model.sample(4, generator=noise.stream(5)), model.sample(4, generator=noise.stream(5)))
    spread = [model.sample(500, generator=noise.stream(5), temperature=t).std() for t in (0.3, 1.0)]
    assert spread[0] < spread[1]


def test_every_entry_is_moved_by_some_coupling_and_every_parameter_gets_a_gradient() -> None:
    for domain in (Vectors(5), Grid(1, (7, 7), 2), Grid(2, (8, 8), 17)):
        model = awake(domain)
        for scale in getattr(model.flow, "scales", []):
            assert (torch.stack([1 - step.mask for step in scale.couplings.steps]).sum(0) > 0).all()
        model.losses(Batch(data(domain, 6)), noise.stream(0))["loss"].mean().backward()
        for name, p in model.named_parameters():
            assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_the_flow_keeps_its_precision_when_the_networks_lose_theirs() -> None:
    model = awake(Grid(1, (8, 8), 17))
    x = data(model.domain, 4)
    y, _ = model.continuous(x, noise.stream(0))
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = model.flow(y, None)
        back = model.flow.inverse(z, None)
    assert z.dtype == log_det.dtype == torch.float32
    exact_z, exact_log_det = model.flow(y, None)
    assert (z - exact_z).abs().max() < 0.2 and (log_det - exact_log_det).abs().max() < 2
    assert (back - y).abs().max() < 0.1


def test_squeeze_folds_a_checkerboard_into_channels() -> None:
    x = data(Grid(3, (4, 6)), 2).float()
    assert torch.equal(unsqueeze(squeeze(x)), x)
    board = ((torch.arange(4)[:, None] + torch.arange(6)) % 2).float()[None, None]
    assert squeeze(board)[0, :, 0, 0].tolist() == [0, 1, 1, 0]
    assert (squeeze(board) == squeeze(board)[:, :, :1, :1]).all()


def test_training_finds_two_blobs() -> None:
    x = data(Vectors(2), 2000)
    x = 0.2 * x + torch.where(torch.arange(2000) % 2 == 0, 1.0, -1.0)[:, None] * torch.tensor([10.0, 1.0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RealNVP(Vectors(2), hidden=32)
    model.initialise(Table(x))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = model.losses(Batch(x))["loss"].mean().item()
    for step in range(200):
        batch = Batch(x[noise.integers(2000, (128,), noise.stream(step))])
        optimizer.zero_grad()
        model.losses(batch)["loss"].mean().backward()
        optimizer.step()
    after = model.losses(Batch(x))["loss"].mean().item()
    entropy = math.log(2) + 2 * math.log(0.2) + 1 + math.log(2 * math.pi)
    assert before > entropy + 2
    assert entropy - 0.05 < after < entropy + 0.8


@pytest.mark.parametrize(
    ("domain", "says"),
    [
        (Vectors(1), "needs two entries"),
        (Grid(1, (1, 1)), "needs two entries"),
        (Grid(1, (4, 4, 4)), "not grids of 3 dimensions"),
        (Points(5), "models grid and vectors"),
    ],
    ids=str,
)
def test_refuses_with_a_reason(domain: Domain, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RealNVP(domain)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="is conditioned on labels"):
        RealNVP(Vectors(3), AlienDomain())
    with pytest.raises(ValueError, match="couplings"):
        RealNVP(Vectors(3), couplings=1)
    with pytest.raises(ValueError, match="alpha"):
        RealNVP(Grid(1, (4, 4)), alpha=0.5)
    model = RealNVP.tiny(Vectors(3))
    with pytest.raises(ValueError, match="num_samples"):
        model.log_prob(data(model.domain, 2), num_samples=0)
    with pytest.raises(ValueError, match="expected latents"):
        model.decode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="temperature"):
        model.sample(2, temperature=-1.0)
