import math
import os
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.errors import CapabilityError
from genus.kinds import Domain, Grid, Label, Points, Tokens, Vectors, Waveform
from genus.models.latent import _decoder
from genus.models.latent.iwae import IWAE
from genus.models.latent.vae import VAE
from genus.prob import gaussian, noise
from genus.prob.noise import stream
from genus.testing import Subject
from genus.testing.checks._common import AlienDomain
from genus.testing.oracles import LinearGaussian, all_states
from genus.testing.statistics import z_of_mean
from genus.testing.subjects import LABELS


def linear_vae(cls: type[VAE] = VAE, **settings: Any) -> tuple[VAE, LinearGaussian]:
    """A linear VAE that holds the true model and the true posterior of a linear-Gaussian distribution.

    W has orthogonal columns, so that the posterior's covariance is diagonal, as q's is.
    """
    w = torch.linalg.qr(noise.normal((5, 2), stream("w"), dtype=torch.float64))[0] * torch.tensor([2.0, 0.7]).double()
    truth = LinearGaussian(w, torch.arange(5.0).double(), sigma=0.4)
    model = cls(Vectors(5), latent_features=2, hidden=(), **settings).double()
    mean, covariance = truth.posterior(torch.eye(5).double())
    zero, _ = truth.posterior(torch.zeros(1, 5).double())
    encoder, decoder = model.encoder[-1], model.decoder[-1]
    with torch.no_grad():
        encoder.weight.copy_(torch.cat([(mean - zero).T, torch.zeros(2, 5)]))
        encoder.bias.copy_(torch.cat([zero[0], covariance.diagonal().log()]))
        decoder.weight.copy_(torch.cat([w, torch.zeros(5, 2)]))
        model.bias.copy_(torch.stack([truth.mean, torch.full((5,), math.log(0.4)).double()]))
    return model, truth


def test_the_elbo_of_a_linear_vae_with_the_true_posterior_is_log_p() -> None:
    model, truth = linear_vae()
    x = truth.sample(64, stream("x"))
    exact = truth.log_prob(x)
    for num_samples in (1, 7):  # every sample has the same weight, so there is nothing to average
        torch.testing.assert_close(model.log_prob(x, num_samples=num_samples, generator=stream("z")), exact)
    with torch.no_grad():
        losses = [model.losses(Batch(x), stream(r))["loss"] for r in range(400)]
    assert abs(z_of_mean(-torch.stack(losses).mean(1), float(exact.mean()))) < 5


@pytest.mark.parametrize("estimator", ["dreg", "stl", "plain"])
def test_at_the_true_posterior_the_encoder_rests_but_for_the_plain_estimator(estimator: str) -> None:
    model, truth = linear_vae(IWAE, importance_samples=8, estimator=estimator)
    loss = model.losses(Batch(truth.sample(16, stream("x"))), stream("z"))["loss"].mean()
    gradient = torch.autograd.grad(loss, model.encoder[-1].weight)[0].abs().max()
    assert gradient > 1e-3 if estimator == "plain" else gradient < 1e-6


def test_a_wrong_posterior_costs_its_divergence_and_more_samples_win_it_back() -> None:
    model, truth = linear_vae()
    with torch.no_grad():
        model.encoder[-1].bias[:2] += 0.5  # shifted means: KL(q || p(z|x)) is known
    _, covariance = truth.posterior(truth.mean[None])
    divergence = float((0.25 / covariance.diagonal()).sum() / 2)
    x = truth.sample(4000, stream("x"))
    gap = [truth.log_prob(x) - model.log_prob(x, num_samples=k, generator=stream("z", k)) for k in (1, 10, 100)]
    assert abs(z_of_mean(gap[0], divergence)) < 5
    means = [float(g.mean()) for g in gap]
    assert means[0] > means[1] > means[2] > 0


def test_kl_to_standard_agrees_with_torch() -> None:
    mean, log_var = noise.normal((50,), stream(1)), noise.normal((50,), stream(2))
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian.kl_to_standard(mean, log_var), expected)


@pytest.mark.parametrize(
    ("name", "levels", "scale"),
    [
        ("bernoulli", 2, "entry"),
        ("categorical", 7, "entry"),
        ("discretized_logistic", 2, "entry"),
        ("discretized_logistic", 256, "entry"),
        ("discretized_logistic", 256, "shared"),
    ],
)
def test_a_decoder_is_a_law(name: str, levels: int, scale: Any) -> None:
    domain = Grid(1, (1,), levels)
    distribution = _decoder.choose(name, domain, scale).double().requires_grad_(False)
    states = all_states(domain)
    for seed in range(5):
        parameters = noise.normal((1, distribution.outputs, 1, 1), stream("distribution", seed)).double()
        p = distribution.log_prob(states, parameters.expand(levels, -1, -1, -1)).exp().flatten()
        assert float(p.sum()) == pytest.approx(1, abs=1e-12)
        draws = distribution.draw(parameters.expand(20_000, -1, -1, -1), stream("draw", seed)).double()
        assert abs(z_of_mean(draws, float((p * states.flatten()).sum()))) < 5
        assert abs(z_of_mean(draws.square(), float((p * states.flatten().double().square()).sum()))) < 5


def test_auto_takes_the_law_that_fits() -> None:
    assert isinstance(VAE(Grid(1, (4, 4), 2)).distribution, _decoder.Bernoulli)
    assert isinstance(VAE(Grid(3, (4, 4), 256)).distribution, _decoder.DiscretizedLogistic)
    assert isinstance(VAE(Vectors(3)).distribution, _decoder.Gaussian)
    assert isinstance(VAE(Waveform(9, 8000)).distribution, _decoder.DiscretizedLogistic)
    assert isinstance(VAE(Waveform(9, 8000), decoder="categorical").distribution, _decoder.Categorical)
    assert isinstance(VAE(Tokens(9, 3)).distribution, _decoder.Categorical)
    assert isinstance(VAE(Tokens(9, 2)).distribution, _decoder.Bernoulli)
    assert isinstance(VAE(Grid(1, (4, 4), 5, ordered=False)).distribution, _decoder.Categorical)
    with pytest.raises(ValueError, match="cannot describe"):
        VAE(Tokens(9, 3), decoder="discretized_logistic")
    with pytest.raises(ValueError, match="needs a distribution with a scale"):
        VAE(Tokens(9, 3), scale="shared")
    with pytest.raises(ValueError, match="cannot describe"):
        VAE(Grid(1, (4, 4), 256), decoder="bernoulli")
    with pytest.raises(ValueError, match="expected auto or gaussian"):
        VAE(Vectors(3), decoder="grey_bce")


def test_grey_bce_is_no_likelihood() -> None:
    grey = VAE(Grid(1, (4, 4), 256), decoder="grey_bce")
    assert grey.likelihood is Likelihood.NONE
    with pytest.raises(CapabilityError, match="not the log-probability of anything"):
        grey.log_prob(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    assert VAE(Grid(1, (4, 4), 256)).likelihood is Likelihood.BOUND


def test_grey_bce_has_the_floor_of_the_data_entropy() -> None:
    grey = VAE(Grid(1, (1, 1), 256), decoder="grey_bce")
    x = torch.full((1, 1, 1, 1), 51, dtype=torch.uint8)  # 0.2: the best logit is logit(0.2), and its loss is not 0
    best = -grey.distribution.log_prob(x, torch.logit(torch.tensor(0.2)).view(1, 1, 1, 1, 1))
    assert float(best) == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8), abs=1e-6)


class Fixed:
    """A split of the given data."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index])


def test_the_output_starts_at_the_data() -> None:
    x = (noise.uniform((2000, 1, 2, 2), stream("x")) < torch.tensor([[0.1, 0.5], [0.9, 0.3]])).to(torch.uint8)
    model = VAE(Grid(1, (2, 2), 2))
    model.initialise(Fixed(x))
    torch.testing.assert_close(model.bias[0].sigmoid(), x.float().mean(0))

    rows = 100 + torch.tensor([5.0, 0.01]) * noise.normal((2000, 2), stream("rows"))
    table = VAE(Vectors(2))
    before = table.log_prob(rows, generator=stream("z")).mean()
    table.initialise(Fixed(rows))
    exact = -0.5 * (1 + math.log(2 * math.pi)) * 2 - math.log(5 * 0.01)  # minus the entropy of the data
    after = float(table.log_prob(rows, generator=stream("z"), num_samples=16).mean())
    assert before < -1000
    assert after == pytest.approx(exact, abs=1)
    constant = torch.cat([rows, torch.full((2000, 1), 7.0)], 1)
    symbols = (noise.uniform((2000, 3), stream("symbols")) * 4).long().clamp(max=2).to(torch.uint8)
    codes = VAE(Tokens(3, 4))
    codes.initialise(Fixed(symbols))
    frequency = torch.stack([(symbols == level).double().mean(0) for level in range(4)])
    torch.testing.assert_close(codes.bias.softmax(0).double(), frequency, atol=1e-3, rtol=0.0)
    still = VAE(Vectors(3))
    still.initialise(Fixed(constant))
    assert still.log_prob(constant[:4], generator=stream("z")).isfinite().all()


@pytest.mark.parametrize("domain", [Grid(1, (7, 5), 2), Grid(3, (6, 9), 256), Grid(1, (1, 1), 2), Grid(2, (28, 28), 4)])
@pytest.mark.parametrize("condition", [None, Label(("a", "b"))])
def test_convolutions_take_any_size(domain: Grid, condition: Label | None) -> None:
    model = VAE(domain, condition, network="conv", channels=(4, 6, 8), latent_features=3)
    labels = None if condition is None else torch.tensor([0, 1])
    x = model.sample(2, condition=labels, generator=stream(0))
    domain.check(x)
    assert model.losses(Batch(x, labels), stream(1))["loss"].shape == (2,)
    assert model.decode(model.encode(x, condition=labels), condition=labels).shape == x.shape


def test_convolutions_obey_the_contract() -> None:
    from genus.testing import checks

    class Convolutional(VAE):
        @classmethod
        def tiny(cls, domain: Grid, condition: Label | None = None) -> "Convolutional":
            return cls(domain, condition, network="conv", channels=(4, 6), hidden=(8,), blocks=1, latent_features=2)

    tiny = (Grid(3, (5, 7), 4), None), (Grid(1, (2, 2), 2), LABELS), (Tokens(4, 3), None)
    for subject in (Subject(Convolutional, domain, labels) for domain, labels in tiny):
        for check in checks.checks_for(subject):
            check(subject)


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize(
    "domain",
    [Grid(2, (6,), 2), Grid(2, (3, 4, 5), 2), Grid(1, (3, 2), 7, ordered=False), Tokens(9, 5), Waveform(21, 8000)],
    ids=str,
)
def test_volumes_sequences_sound_and_codes(domain: Domain, network: Any) -> None:
    model = VAE(domain, hidden=(8,), network=network, channels=(3, 4), blocks=1, latent_features=2)
    x = model.sample(3, generator=stream(0))
    domain.check(x)
    model.initialise(Fixed(x))
    loss = model.losses(Batch(x), stream(1))["loss"]
    assert loss.shape == (3,)
    loss.mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.decode(model.encode(x)).shape == x.shape


def test_convolutions_need_neighbours() -> None:
    with pytest.raises(ValueError, match="neighbours along 1 to 3 axes"):
        VAE(Vectors(3), network="conv")
    with pytest.raises(ValueError, match="neighbours along 1 to 3 axes"):
        VAE(Grid(1, (2, 2, 2, 2), 2), network="conv")
    with pytest.raises(ValueError, match="channels"):
        VAE(Grid(1, (2, 2), 2), network="conv", channels=())


def test_parameters_of_older_runs_fit() -> None:
    names = {name: tuple(p.shape) for name, p in VAE(Grid(1, (28, 28), 2), hidden=(500, 400)).state_dict().items()}
    assert names == {
        "encoder.0.weight": (500, 784), "encoder.0.bias": (500,),
        "encoder.2.weight": (400, 500), "encoder.2.bias": (400,),
        "encoder.4.weight": (40, 400), "encoder.4.bias": (40,),
        "decoder.0.weight": (400, 20), "decoder.0.bias": (400,),
        "decoder.2.weight": (500, 400), "decoder.2.bias": (500,),
        "decoder.4.weight": (784, 500), "decoder.4.bias": (784,),
    }  # fmt: skip


def test_beta_and_its_warm_up_weigh_the_kl_term() -> None:
    model = VAE(Grid(1, (4, 4), 2), beta=4.0, kl_warmup=0.5)
    batch = Batch(model.sample(8, generator=stream(0)))
    for fraction, weight in ((0.0, 0.0), (0.25, 2.0), (0.5, 4.0), (1.0, 4.0)):
        model.progress(fraction)
        terms = model.losses(batch, stream(1))
        torch.testing.assert_close(terms["loss"], terms["reconstruction"] + weight * terms["kl"])
        torch.testing.assert_close(model.criterion(batch, stream(1)), terms["reconstruction"] + 4.0 * terms["kl"])


def test_free_bits_cost_nothing_and_their_mean_is_the_larger() -> None:
    model = VAE(Grid(1, (4, 4), 2), latent_features=3, hidden=(), free_bits=0.3, beta=2.0).train()
    with torch.no_grad():
        model.encoder[-1].weight.mul_(3 * torch.tensor([1.0, 0.1, 0.0, 1.0, 0.0, 0.0]).unsqueeze(1))
    batch = Batch(model.sample(64, generator=stream(0)))
    for _ in range(200):  # until the averages have settled
        model.losses(batch, stream(1))
    each = model.posterior(batch.x).kl_to_standard()
    assert (each.mean(0) > 0.3).tolist() == [True, False, False]
    terms = model.eval().losses(batch, stream(1))
    torch.testing.assert_close(model.kl_average, each.detach().mean(0))
    torch.testing.assert_close(terms["kl"], each.sum(1))  # the true one
    price = (terms["loss"] - terms["reconstruction"]) / 2.0
    torch.testing.assert_close(price.mean(), each.mean(0).clamp(min=0.3).sum())
    gradient = torch.autograd.grad(price.mean(), model.encoder[-1].weight)[0].view(2, 3, 16).abs().sum((0, 2))
    assert (gradient > 1e-6).tolist() == [True, False, False]
    torch.testing.assert_close(model.criterion(batch, stream(1)), terms["reconstruction"] + 2.0 * terms["kl"])


def test_free_bits_of_parts_are_those_of_the_whole() -> None:
    from genus.testing import checks

    class Free(VAE):
        @classmethod
        def tiny(cls, domain: Domain, condition: Domain | None = None) -> "Free":
            return cls(domain, condition, latent_features=3, hidden=(16,), free_bits=0.1)

    subject = Subject(Free, Grid(1, (2, 2), 2))
    for check in (checks.check_parts, checks.check_learning, checks.check_save_and_load, checks.check_criterion):
        check(subject)


def test_a_linear_vae_with_one_scale_is_ppca() -> None:
    """Its log p(x) is that of N(mean, W W^T + sigma^2 I) in the table's own units, whatever they are."""
    truth = LinearGaussian(noise.normal((4, 2), stream("w")).double(), 100 * torch.arange(4.0).double(), sigma=3.0)
    rows = truth.sample(9_000, stream("x"))
    model = VAE(Vectors(4), latent_features=2, hidden=(), scale="shared").double()
    model.initialise(Fixed(rows))
    unit = model.distribution.scale
    assert float(unit.std()) == 0
    torch.testing.assert_close(unit[0], rows.var(0, correction=0).mean().sqrt())
    with torch.no_grad():
        model.distribution.log_scale.copy_((3.0 / unit[0]).log())
        model.decoder[-1].weight.copy_(truth.w / unit[0])
        model.bias.copy_(((truth.mean - model.distribution.shift) / unit)[None])
    z = noise.normal((50, 2), stream("z"), dtype=torch.float64)
    distribution = torch.distributions.Normal(z @ truth.w.T + truth.mean, 3.0)
    torch.testing.assert_close(model.log_likelihood(rows[:50], z), distribution.log_prob(rows[:50]).sum(1))
    gap = truth.log_prob(rows[:200]) - model.log_prob(rows[:200], num_samples=2000, generator=stream("k"))
    assert abs(float(gap.mean())) < 0.05


def test_chunks_of_samples_are_one_mean() -> None:
    model = VAE(Grid(1, (4, 4), 2), latent_features=2)
    x = model.sample(4096, generator=stream(0))  # two samples of z fit into a chunk
    many = model.log_prob(x, num_samples=5, generator=stream(1))
    assert many.shape == (4096,)
    chunks = stream(1)
    q = model.posterior(x)
    parts = [model.log_weight(x, q.sample(k, chunks), q) for k in (2, 2, 1)]
    torch.testing.assert_close(
        many.double(), torch.cat(parts).double().logsumexp(0) - math.log(5), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_features": 0}, "latent_features"),
        ({"hidden": (0,)}, "hidden"),
        ({"beta": -1.0}, "beta"),
        ({"kl_warmup": 2.0}, "kl_warmup"),
        ({"free_bits": -1.0}, "free_bits"),
        ({"free_bits": 1.0, "prior": "flow"}, "free_bits"),
        ({"prior": "vamp", "components": 0}, "components"),
        ({"prior": "flow", "latent_features": 1}, "at least 2"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(Grid(1, (4, 4), 2), **settings)


def test_bad_questions_are_answered() -> None:
    model = VAE(Grid(1, (4, 4), 2))
    x = model.sample(2, generator=stream(0))
    with pytest.raises(ValueError, match="num_samples"):
        model.log_prob(x, num_samples=0)
    with pytest.raises(ValueError, match=r"expected latents \(B, 20\)"):
        model.decode(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="vae models grid, tokens, waveform and vectors data"):
        VAE(Points(16))
    with pytest.raises(ValueError, match="is conditioned on labels"):
        VAE(Grid(1, (4, 4), 2), AlienDomain())


@pytest.mark.slow
def test_the_tutorials_curve_on_mnist() -> None:
    """784-400-20, ReLU, Adam 1e-3, batch 128, ten epochs of grey pictures: test BCE + KL 105.6 +- 0.6."""
    if not os.environ.get("GENUS_DATA"):
        pytest.skip("GENUS_DATA is not set: no MNIST on this machine")
    from genus.data import open_source

    source, recipe = open_source("mnist"), VAE.recipes["grey"]
    parts = [source.train, source.validation]  # the tutorials train on all 60,000
    train = Fixed(torch.cat([part.batch(torch.arange(len(part))).x for part in parts]))
    test = source.test.batch(torch.arange(len(source.test))).x
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VAE(source.domain, decoder="grey_bce")
    model.initialise(train)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    steps = 0
    for epoch in range(10):
        for index in noise.permutation(len(train), stream("order", epoch)).split(recipe.batch_size):
            loss = model.losses(train.batch(index), stream("noise", steps))["loss"].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
    assert steps == recipe.steps
    with torch.no_grad():
        losses = [model.losses(Batch(x), stream("test", i))["loss"] for i, x in enumerate(test.split(1000))]
    assert float(torch.cat(losses).mean()) == pytest.approx(105.6, abs=0.6)


def test_the_sum_of_bernoulli_laws_and_its_gradient() -> None:
    distribution = _decoder.Bernoulli(Grid(1, (3, 5), 2))
    x = (noise.uniform((6, 1, 3, 5), stream("x")) < 0.5).to(torch.uint8)
    logits = (20 * noise.normal((6, 1, 1, 3, 5), stream("l"), dtype=torch.float64)).requires_grad_()
    weight = noise.normal((6,), stream("w"), dtype=torch.float64)
    total, plain = distribution.total(x, logits), distribution.log_prob(x, logits).flatten(1).sum(1)
    torch.testing.assert_close(total, plain)
    gradients = [torch.autograd.grad((weight * value).sum(), logits)[0] for value in (total, plain)]
    torch.testing.assert_close(*gradients)
