"""`genus diagnose`: every number against a linear-Gaussian model, of which everything is known."""

import itertools
import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, HasPosterior, Likelihood, Posterior
from genus.errors import CapabilityError
from genus.evaluate import bounds, diagnose
from genus.evaluate.bounds import Mean
from genus.evaluate.curse import TOO_WIDE, curse
from genus.evaluate.diagnose import Diagnosis
from genus.kinds import Grid, Pyramid, Vectors
from genus.models.diffusion.point_diffusion import PointDiffusion
from genus.models.latent.vae import VAE
from genus.prob import noise
from genus.prob.noise import stream
from genus.prob.posterior import Certain, DiagonalNormal
from genus.testing.oracles import LinearGaussian


class Data:
    """A split of the given data."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index], None, index)


SCALES, SIGMA = torch.tensor([2.0, 0.7, 0.0]).double(), 0.4  # the third latent is not used
TOLD = 0.5 * torch.log1p((SCALES / SIGMA).square())  # nats that each latent tells: a Gaussian channel


def linear(shift: float = 0.0) -> tuple[VAE, LinearGaussian]:
    """A linear VAE that holds a linear-Gaussian distribution and its true posterior; ``shift`` makes q wrong."""
    w = torch.linalg.qr(noise.normal((5, 3), stream("w"), dtype=torch.float64))[0] * SCALES
    truth = LinearGaussian(w, torch.arange(5.0).double(), sigma=SIGMA)
    model = VAE(Vectors(5), latent_features=3, hidden=()).double().eval()
    zero, covariance = truth.posterior(torch.zeros(1, 5).double())
    slope = truth.posterior(torch.eye(5).double())[0] - zero
    encoder, decoder = model.encoder[-1], model.decoder[-1]
    with torch.no_grad():
        encoder.weight.copy_(torch.cat([slope.T, torch.zeros(3, 5)]))
        encoder.bias.copy_(torch.cat([zero[0] + shift, covariance.diagonal().log()]))
        decoder.weight.copy_(torch.cat([w, torch.zeros(5, 3)]))
        model.bias.copy_(torch.stack([truth.mean, torch.full((5,), math.log(SIGMA), dtype=torch.float64)]))
    return model, truth


def near(found: Mean | None, expected: float, slack: float = 0.0) -> bool:
    assert found is not None and found.stderr is not None
    return abs(found.value - expected) < 5 * found.stderr + slack


@pytest.fixture(scope="module")
def told() -> Diagnosis:
    model, truth = linear()
    return diagnose.diagnose(model, Data(truth.sample(2000, stream("x"))), items=2000, samples=16, budget=0)


def test_what_the_latents_tell_is_the_capacity_of_a_gaussian_channel(told: Diagnosis) -> None:
    assert near(told.information, float(TOLD.sum()), slack=0.02)  # of 2,000 items, not of all
    assert told.kl is not None and told.kl_each is not None and told.variances is not None
    assert near(told.kl, float(TOLD.sum()))  # E[mean^2] = 1 - variance: what KL has besides the information is 0
    assert told.kl_each == pytest.approx(TOLD.tolist(), abs=0.1)
    assert told.aggregate == pytest.approx(0, abs=0.1)
    shares = SCALES.square() / (SCALES.square() + SIGMA**2)  # Var_x(E_q[z])
    assert told.variances == pytest.approx(shares.tolist(), abs=0.08)
    assert told.active == 2 and told.symptoms == ()


def test_information_without_the_other_items_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    model, truth = linear()
    data = Data(truth.sample(300, stream("x")))
    mutants = {
        "itself alone": lambda found: found.log_q,
        "the prior": lambda found: model.log_prior(found.z).double() + 0.5,
        "a sum, not a mean": lambda found, kept=diagnose.log_aggregate: kept(found) + math.log(300),
    }
    for mutant in mutants.values():
        with monkeypatch.context() as patched:
            patched.setattr(diagnose, "log_aggregate", mutant)
            found = diagnose.diagnose(model, data, items=300, samples=1, budget=0)
            assert not near(found.information, float(TOLD.sum()), slack=0.02)


def test_the_aggregate_is_the_mean_over_all_items_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, truth = linear()
    batch = Batch(truth.sample(37, stream("x")))
    with torch.no_grad():
        found = diagnose.encode(model, batch, 0)
        whole = diagnose.log_aggregate(found)
        q = model.posterior(batch.x)
        distributions = [torch.distributions.Normal(q.mean[j], (0.5 * q.log_var[j]).exp()) for j in range(37)]
        plain = torch.stack([distribution.log_prob(found.z).sum(1) for distribution in distributions]).logsumexp(
            0
        ) - math.log(37)
        torch.testing.assert_close(whole, plain)
        monkeypatch.setattr(diagnose, "PAIRED", 5 * 256 * 3)
        torch.testing.assert_close(diagnose.log_aggregate(found), whole)


def test_latents_of_others_cost_what_the_channel_says(told: Diagnosis) -> None:
    # E |W(z - z')|^2 / (2 sigma^2) more than with one's own: the data's share of z is independent of z'
    q_variance = 1 / (1 + (SCALES / SIGMA).square())
    own = SCALES.square() * 2 * q_variance  # z drawn from p(z), then its datum, then z' from q: two posterior draws
    other = 2 * SCALES.square()
    assert near(told.shuffled, float((other - own).sum() / (2 * SIGMA**2)))


def test_with_the_true_posterior_every_bound_is_exact() -> None:
    model, truth = linear()
    x = truth.sample(40, stream("x"))
    found = diagnose.diagnose(model, Data(x), items=40, samples=16, budget=2**22)
    exact = float(truth.log_prob(x).mean())
    for point in found.bound:
        assert point.nats.value == pytest.approx(exact, abs=1e-6)
        assert point.effective == pytest.approx(point.draws, rel=1e-6)
    assert [point.draws for point in found.bound] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_grid_is_the_exact_log_p(shift: float) -> None:
    model, truth = linear(shift)
    flat = VAE(Vectors(5), latent_features=2, hidden=()).double().eval()  # without the third latent
    with torch.no_grad():
        flat.encoder[-1].weight.copy_(model.encoder[-1].weight[[0, 1, 3, 4]])
        flat.encoder[-1].bias.copy_(model.encoder[-1].bias[[0, 1, 3, 4]])
        flat.decoder[-1].weight.copy_(model.decoder[-1].weight[:, :2])
        flat.bias.copy_(model.bias)
    x = truth.sample(20, stream("x"))
    with torch.no_grad():
        known = bounds.exact(flat, x, None, flat.posterior(x).sample(64, stream("z")), budget=2**20)
    torch.testing.assert_close(known.nats, truth.log_prob(x), atol=1e-6, rtol=0)
    assert "grid" in known.how
    found = diagnose.diagnose(flat, Data(x), items=20, samples=8)
    assert found.exact is not None and found.elbo_gap is not None and found.bound_gap is not None
    assert found.exact.value == pytest.approx(float(truth.log_prob(x).mean()), abs=1e-6)
    variance = 1 / (1 + (SCALES[:2] / SIGMA).square())
    assert near(found.elbo_gap, float((shift**2 / variance).sum() / 2), slack=1e-9)  # KL(q || p(z|x))
    assert found.bound_gap.value < found.elbo_gap.value or shift == 0


def test_a_grid_that_is_too_coarse_is_refused() -> None:
    model, truth = linear()
    x = truth.sample(8, stream("x"))
    wide = noise.normal((64, 8, 3), stream("z"), dtype=torch.float64)  # as if posteriors were as broad as the prior
    with torch.no_grad():
        known = bounds.exact(model, x, None, wide, budget=2**24)
        assert not len(known.nats) and "too coarse" in known.how
        assert "would take" in bounds.exact(model, x, None, 1e-3 * wide, budget=2**20).how
        assert "at most 3" in bounds.exact(model, x, None, wide.repeat(1, 1, 2), budget=2**20).how


def test_the_curve_rises_item_by_item_and_is_the_textbook_bound() -> None:
    log_w = 4 * noise.normal((40, 9), stream("w"), dtype=torch.float64)
    points = bounds.curve(log_w)
    assert [count for count, *_ in points] == [1, 2, 4, 8, 16, 32]  # the last 8 draws have no group
    for (_, low, _), (_, high, _) in itertools.pairwise(points):
        assert bool((high >= low).all())
    for count, nats, effective in points:
        groups = log_w[:32].view(-1, count, 9)
        torch.testing.assert_close(nats, groups.exp().mean(1).log().mean(0))
        shares = groups.softmax(1)
        torch.testing.assert_close(effective, (1 / shares.square().sum(1)).mean(0))


def test_plain_monte_carlo_is_right_in_the_end_and_far_off_before() -> None:
    model, truth = linear()
    x = truth.sample(60, stream("x"))
    found = diagnose.diagnose(model, Data(x), items=60, samples=4096, budget=0)
    exact = float(truth.log_prob(x).mean())
    first, last = found.prior[0].nats, found.prior[-1].nats
    assert exact - first.value > 5 and 0 < exact - last.value < 0.2
    assert found.prior[-1].effective < 0.2 * found.bound[-1].effective


def test_the_curse_by_latents() -> None:
    found = curse((1, 4, 16), draws=256, items=40)
    assert found.draws == tuple(2**k for k in range(9))
    plain, weighted = ([errors[-1].value for errors in distribution] for distribution in (found.prior, found.posterior))
    assert plain[0] < 0.1 and plain[1] > 1 and plain[2] > 30
    assert max(weighted) < 0.05
    for latents, errors in zip(found.latents, found.posterior, strict=True):  # KL(q || posterior), in closed form
        assert near(errors[0], latents * (TOO_WIDE**2 - 1 - 2 * math.log(TOO_WIDE)) / 2)


def test_a_collapsed_model_is_told_so() -> None:
    model, truth = linear()
    with torch.no_grad():
        model.encoder[-1].weight.zero_()
        model.encoder[-1].bias.zero_()  # q(z|x) = p(z)
    found = diagnose.diagnose(model, Data(truth.sample(100, stream("x"))), samples=2, budget=0)
    assert found.active == 0 and found.kl is not None and found.kl.value == 0
    assert found.information.value == pytest.approx(0, abs=1e-6) and abs(found.shuffled.value) > 0
    (symptom,) = found.symptoms
    assert symptom.name == "posterior collapse" and "--kl-warmup" in symptom.cure


def test_few_items_say_that_they_are_few() -> None:
    model, truth = linear()
    found = diagnose.diagnose(model, Data(truth.sample(12, stream("x"))), samples=1, budget=0)
    assert found.information.value <= math.log(12) + 1e-9
    assert any("Take more items" in note for note in found.notes)


def test_it_is_a_function_of_the_seed_and_plain_json() -> None:
    model, truth = linear()
    data = Data(truth.sample(50, stream("x")))
    one, two, other = (diagnose.diagnose(model, data, items=30, samples=4, seed=seed) for seed in (0, 0, 1))
    assert one == two != other
    read = json.loads(json.dumps(one.to_json(), allow_nan=False))
    assert read["active"] == 2 and read["bound"][0]["draws"] == 1


# -- other kinds of model ----------------------------------------------------------------


class Coder(VAE):
    """Codes for latents: a quantised mean; the methods that the diagnosis asks for, of a code model."""

    @property
    def latent_domain(self) -> Any:
        return Pyramid((2,), 2, 4)  # grids of 1 and of 2 codes

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> Posterior:  # type: ignore[override]
        return Certain((x[:, :3] > 0).to(torch.uint8) * 3)

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.full((len(z),), -3 * math.log(4))

    def log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return -(x[:, :3] - (z.float() / 1.5 - 1)).square().sum(1)


def test_codes_are_told_by_their_usage() -> None:
    x = noise.normal((256, 3), stream("x"))
    found = diagnose.diagnose(Coder(Vectors(3), latent_features=3, hidden=()), Data(x), samples=4)
    assert found.kl is None and found.kl_each is None and found.variances is None and found.bound == ()
    assert [(usage.name, usage.used) for usage in found.codes] == [("1", 2), ("2", 2)]
    assert all(usage.perplexity == pytest.approx(2, abs=0.02) for usage in found.codes)
    assert found.information.value == pytest.approx(3 * math.log(2), abs=0.05)  # eight equally likely codes
    assert found.shuffled.value > 1


def test_a_prior_that_is_not_normal_is_not_taken_for_one() -> None:
    class Elsewhere(VAE):
        standard_prior = False

        def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
            return super().log_prior(z - 0.3)

        def sample_prior(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
            return super().sample_prior(count, condition, generator) + 0.3

    model = Elsewhere(Vectors(2), latent_features=2, hidden=(4,))
    x = noise.normal((80, 2), stream("x"))
    found = diagnose.diagnose(model, Data(x), samples=4)
    assert found.kl_each is None and found.kl is not None and found.exact is None
    draws = bounds.Prior(model, torch.zeros(2000, 2)).sample(1, stream("p"))
    assert float(draws.mean()) == pytest.approx(0.3, abs=0.1)


def test_a_decoder_without_a_law_has_no_curve() -> None:
    grey = VAE(Grid(1, (4, 4), 16), decoder="grey_bce", latent_features=2, hidden=(8,))
    x = noise.integers(16, (20, 1, 4, 4), stream("x")).to(torch.uint8)
    found = diagnose.diagnose(grey, Data(x))
    assert found.bound == () and any("no distribution" in note for note in found.notes) and found.kl is not None


def test_who_cannot_be_diagnosed() -> None:
    from genus.kinds import Points

    with pytest.raises(CapabilityError, match="does not sign HasPosterior"):
        diagnose.diagnose(PointDiffusion.tiny(Points(16, 3)), Data(torch.zeros(4, 16, 3)))
    with pytest.raises(ValueError, match="2 items or more"):
        diagnose.diagnose(linear()[0], Data(torch.zeros(1, 5).double()))
    with pytest.raises(ValueError, match="1 draw or more"):
        diagnose.diagnose(linear()[0], Data(torch.zeros(4, 5).double()), samples=0)


def test_others_are_never_oneself() -> None:
    for count in (2, 3, 17):
        other = diagnose.others(count, 0)
        assert sorted(other.tolist()) == list(range(count)) and bool((other != torch.arange(count)).all())


def test_the_kinds_of_posterior_that_are_known() -> None:
    assert issubclass(VAE, HasPosterior) and VAE(Vectors(2)).decoder_likelihood is Likelihood.EXACT
    assert isinstance(VAE(Vectors(2)).posterior(torch.zeros(2, 2)), DiagonalNormal)


# -- a planted collapse ------------------------------------------------------------------


def trained_on_gaussians(kl_warmup: float, steps: int = 600) -> tuple[VAE, Any]:
    """Three layers on each side, two latents, eight Gaussians on a circle: 600 steps, rate 0.002 falling to 0."""
    from genus.data import open_source

    source = open_source("8gaussians")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VAE(source.domain, latent_features=2, hidden=(64, 64, 64), kl_warmup=kl_warmup)
    model.initialise(source.train)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        model.progress(step / steps)
        generator = stream("planted", step)
        batch = source.train.batch(noise.integers(len(source.train), (128,), generator), generator)
        loss = model.losses(batch._replace(condition=None), generator)["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval(), source


@pytest.mark.slow
def test_a_planted_collapse_is_flagged_and_the_cure_brings_the_latents_back() -> None:
    found = {}
    for warmup in (0.0, 0.5):
        model, source = trained_on_gaussians(warmup)
        found[warmup] = diagnose.diagnose(model, source.test, items=300, samples=16, budget=0)
    collapsed, cured = found[0.0], found[0.5]
    assert collapsed.active == 0 and collapsed.information.value < 0.05 and abs(collapsed.shuffled.value) < 0.1
    (symptom,) = collapsed.symptoms
    assert symptom.name == "posterior collapse" and "--kl-warmup" in symptom.cure
    assert cured.active >= 1 and cured.information.value > 1 and cured.shuffled.value > 10 and not cured.symptoms
    assert cured.bound[0].nats.value > collapsed.bound[0].nats.value + 0.2
