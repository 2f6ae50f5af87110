import math
import os
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.domain import Grid, Label, Points, Vectors
from genus.errors import CapabilityError
from genus.models.latent import _decoder
from genus.models.latent.iwae import IWAE
from genus.models.latent.vae import VAE
from genus.prob import gaussian, noise
from genus.prob.noise import stream
from genus.testing import Subject
from genus.testing.oracles import LinearGaussian, all_states
from genus.testing.statistics import z_of_mean
from genus.testing.subjects import LABELS


def linear_vae(cls: type[VAE] = VAE, **settings: Any) -> tuple[VAE, LinearGaussian]:
    """A linear VAE that holds the true model and the true posterior of a linear-Gaussian law.

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
    ("name", "levels"), [("bernoulli", 2), ("discretized_logistic", 2), ("discretized_logistic", 256)]
)
def test_a_decoder_is_a_law(name: str, levels: int) -> None:
    domain = Grid(1, (1,), levels)
    law = _decoder.choose(name, domain)
    states = all_states(domain)
    for seed in range(5):
        parameters = noise.normal((1, law.outputs, 1, 1), stream("law", seed)).double()
        p = law.log_prob(states, parameters.expand(levels, -1, -1, -1)).exp().flatten()
        assert float(p.sum()) == pytest.approx(1, abs=1e-12)
        draws = law.draw(parameters.expand(20_000, -1, -1, -1), stream("draw", seed)).double()
        assert abs(z_of_mean(draws, float((p * states.flatten()).sum()))) < 5
        assert abs(z_of_mean(draws.square(), float((p * states.flatten().double().square()).sum()))) < 5


def test_auto_takes_the_law_that_fits() -> None:
    assert isinstance(VAE(Grid(1, (4, 4), 2)).law, _decoder.Bernoulli)
    assert isinstance(VAE(Grid(3, (4, 4), 256)).law, _decoder.DiscretizedLogistic)
    assert isinstance(VAE(Vectors(3)).law, _decoder.Gaussian)
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
    best = -grey.law.log_prob(x, torch.logit(torch.tensor(0.2)).view(1, 1, 1, 1, 1))
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
            return cls(domain, condition, network="conv", channels=(4, 6), latent_features=2)

    for subject in (Subject(Convolutional, Grid(3, (5, 7), 4)), Subject(Convolutional, Grid(1, (2, 2), 2), LABELS)):
        for check in checks.checks_for(subject):
            check(subject)


def test_volumes_and_sequences_are_grids_too() -> None:
    for size in ((6,), (3, 4, 5)):
        x = VAE(Grid(2, size, 2), hidden=(8,)).sample(3, generator=stream(0))
        assert x.shape == (3, 2, *size)
        with pytest.raises(ValueError, match="2-D grid"):
            VAE(Grid(2, size, 2), network="conv")


def test_beta_and_its_warm_up_weigh_the_kl_term() -> None:
    model = VAE(Grid(1, (4, 4), 2), beta=4.0, kl_warmup=0.5)
    batch = Batch(model.sample(8, generator=stream(0)))
    for fraction, weight in ((0.0, 0.0), (0.25, 2.0), (0.5, 4.0), (1.0, 4.0)):
        model.progress(fraction)
        terms = model.losses(batch, stream(1))
        torch.testing.assert_close(terms["loss"], terms["reconstruction"] + weight * terms["kl"])
        torch.testing.assert_close(model.criterion(batch, stream(1)), terms["reconstruction"] + 4.0 * terms["kl"])


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
    with pytest.raises(ValueError, match=r"expected shape \(B, 20\)"):
        model.decode(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="vae models grid and vectors data"):
        VAE(Points(16))
    with pytest.raises(ValueError, match="labels"):
        VAE(Grid(1, (4, 4), 2), Vectors(2))


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
    law = _decoder.Bernoulli(Grid(1, (3, 5), 2))
    x = (noise.uniform((6, 1, 3, 5), stream("x")) < 0.5).to(torch.uint8)
    logits = (20 * noise.normal((6, 1, 1, 3, 5), stream("l"), dtype=torch.float64)).requires_grad_()
    weight = noise.normal((6,), stream("w"), dtype=torch.float64)
    total, plain = law.total(x, logits), law.log_prob(x, logits).flatten(1).sum(1)
    torch.testing.assert_close(total, plain)
    gradients = [torch.autograd.grad((weight * value).sum(), logits)[0] for value in (total, plain)]
    torch.testing.assert_close(*gradients)
