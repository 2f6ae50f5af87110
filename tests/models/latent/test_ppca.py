import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.errors import CapabilityError
from genus.kinds import Domain, Grid, Points, Vectors
from genus.models.latent import ppca
from genus.models.latent.ppca import CELL, PPCA
from genus.models.latent.vae import VAE
from genus.prob import noise
from genus.prob.noise import stream
from genus.prob.posterior import DiagonalNormal
from genus.prob.reduce import logmeanexp
from genus.testing.oracles import LinearGaussian
from genus.testing.statistics import LARGEST_Z, z_of_counts, z_of_mean

FEATURES, LATENTS = 6, 2


class Fixed:
    """A split of given data."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index])


def truth(features: int = FEATURES, latents: int = LATENTS) -> LinearGaussian:
    w = 2 * noise.normal((features, latents), stream("w"), dtype=torch.float64)
    return LinearGaussian(w, torch.arange(features).double(), 0.5)


def rows(count: int, features: int = FEATURES, latents: int = LATENTS) -> Tensor:
    return truth(features, latents).sample(count, stream("rows", count)).float()


def pictures(count: int, domain: Grid) -> Tensor:
    """Pictures with a common cause, and a dead first pixel."""
    x = truth(domain.num_dims).sample(count, stream("pictures")) + domain.levels / 2
    x[:, 0] = 0
    return x.floor().clamp(0, domain.levels - 1).view(-1, *domain.shape).to(domain.dtype)


def fitted(x: Tensor, domain: Domain | None = None, latents: int = LATENTS) -> PPCA:
    model = PPCA(domain or Vectors(x.shape[1]), latent_features=latents)
    model.fit(Fixed(x))
    return model


def oracle(model: PPCA) -> LinearGaussian:
    return LinearGaussian(model.weight, model.mean, float(model.variance.sqrt()))


def covariance(model: PPCA) -> Tensor:
    return model.weight @ model.weight.T + model.variance * torch.eye(len(model.mean), dtype=torch.float64)


# -- the fit --------------------------------------------------------------------------------


def slope(model: PPCA, x: Tensor) -> float:
    """The largest derivative of the data's mean log-likelihood by W, mu and log sigma, by autograd."""
    w, mean, log_sigma = (t.clone().requires_grad_() for t in (model.weight, model.mean, 0.5 * model.variance.log()))
    spread = w @ w.T + (2 * log_sigma).exp() * torch.eye(len(mean), dtype=torch.float64)
    nats = torch.distributions.MultivariateNormal(mean, spread).log_prob(x.double()).mean()
    return max(float(g.abs().max()) for g in torch.autograd.grad(nats, (w, mean, log_sigma)))


def test_the_fit_is_where_the_likelihood_has_no_slope() -> None:
    x = rows(50)
    model = fitted(x)
    assert slope(model, x) < 1e-10
    model.variance *= 50 / 49  # as if divided by N - 1
    assert slope(model, x) > 1e-2


def test_the_score_is_that_of_scikit_learn_which_divides_by_one_less() -> None:
    count = 40
    x = rows(count)
    model, theirs = fitted(x), PCA(LATENTS, svd_solver="full").fit(x.double().numpy())
    expected = theirs.score_samples(x.double().numpy())
    assert not np.allclose(model.log_prob(x).numpy(), expected, rtol=1e-4)
    for part in (model.eigenvalues, model.variance):
        part *= count / (count - 1)
    np.testing.assert_allclose(model.log_prob(x).numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(covariance(model).numpy(), theirs.get_covariance(), rtol=1e-10, atol=1e-12)


def test_enough_data_give_the_law_that_they_were_drawn_from() -> None:
    model, real = fitted(rows(20_000)), truth()
    torch.testing.assert_close(model.weight @ model.weight.T, real.w @ real.w.T, atol=0.3, rtol=0.03)
    assert float(model.variance.sqrt()) == pytest.approx(real.sigma, rel=0.02)


@pytest.mark.parametrize("sizes", [(1000, 1000, 7), (1, 3, 2003), (2007,)])
def test_moments_of_batches_are_merged_exactly_even_far_from_zero(sizes: tuple[int, ...]) -> None:
    x = rows(2007).double() + 1e6
    mean, values, axes = ppca.of_covariance(x.split(sizes), FEATURES)
    exact = torch.cov(x.T, correction=0)
    torch.testing.assert_close(mean, x.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(axes * values @ axes.T, exact, rtol=1e-8, atol=1e-8)


def test_data_that_come_in_batches_are_fitted_as_one() -> None:
    x = rows(2500)
    shuffled = x[noise.permutation(2500, stream("order"))]
    torch.testing.assert_close(covariance(fitted(x)), covariance(fitted(shuffled)))


@pytest.mark.parametrize("latents", [3, 19])
def test_few_long_rows_have_the_axes_of_their_covariance(latents: int) -> None:
    x = rows(20, 30, 10).double()
    (m, long, u), (mean, short, v) = ppca.of_covariance([x], latents), ppca.of_rows(x.split(7), latents)
    torch.testing.assert_close(m, mean)
    torch.testing.assert_close(long[:20], short)
    assert float(long[20:].sum()) < 1e-12
    torch.testing.assert_close(v.T @ v, torch.eye(latents, dtype=torch.float64))
    torch.testing.assert_close(u, v)  # signs too: each axis points along its largest entry


def test_more_entries_than_data() -> None:
    x = rows(20, 30, 3)
    model = fitted(x)
    spectrum = torch.linalg.eigvalsh(torch.cov(x.double().T, correction=0)).flip(0)
    torch.testing.assert_close(model.eigenvalues, spectrum[:LATENTS])
    torch.testing.assert_close(model.variance, spectrum[LATENTS:].clamp(min=0).mean())
    torch.testing.assert_close(model.log_prob(x), oracle(model).log_prob(x.double()))


# -- data that are not in general position -----------------------------------------------------


def test_columns_that_repeat_others_keep_a_finite_density() -> None:
    x = rows(300, 3, 1)
    x = torch.cat([x, x, torch.full((300, 1), 7.0)], 1)  # rank 3 of 7; one column is constant
    for latents in (3, 5):
        model = fitted(x, latents=latents)
        assert 0 < float(model.variance) < 1e-12
        assert bool(model.log_prob(x).isfinite().all())
        torch.testing.assert_close(model.weight[3:6], model.weight[:3])
        keep = torch.arange(7).expand(300, 7) < 3
        torch.testing.assert_close(model.impute(x, keep), x, atol=1e-5, rtol=0)  # what is repeated is known
        torch.testing.assert_close(model.edit(x, keep, generator=stream(0)), x, atol=1e-5, rtol=0)


def test_data_and_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="all 9 data are the same"):
        fitted(torch.full((9, 4), 2.5))
    with pytest.raises(ValueError, match="1 data span 0 directions"):
        fitted(rows(1))
    with pytest.raises(ValueError, match="2 data span 1 directions at most, too few for latent_features=2"):
        fitted(rows(2))
    for latents in (0, FEATURES):
        with pytest.raises(ValueError, match="latent_features: expected 1 to 5"):
            PPCA(Vectors(FEATURES), latent_features=latents)
    with pytest.raises(ValueError, match="two entries"):
        PPCA(Vectors(1))
    with pytest.raises(ValueError, match="codes have no order"):
        PPCA(Grid(1, (4, 4), 8, ordered=False))
    with pytest.raises(ValueError, match="grid and vectors"):
        PPCA(Points(16))
    with pytest.raises(ValueError, match=r"z: expected latents \(B, 2\)"):
        fitted(rows(9)).decode(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="keep: expected booleans"):
        fitted(rows(9)).edit(rows(9), torch.ones(9, FEATURES))
    with pytest.raises(CapabilityError, match="log_levels"):
        fitted(rows(9)).log_levels(torch.zeros(3, LATENTS))


def test_a_matrix_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ppca, "LARGEST", 5)
    with pytest.raises(ValueError, match="at most 5"):
        fitted(rows(9))


def test_the_number_of_latents_follows_the_data_unless_given() -> None:
    assert PPCA(Vectors(2)).latent_features == 1
    assert PPCA(Grid(1, (8, 8), 17)).latent_features == 32
    assert PPCA(Grid(3, (32, 32))).latent_features == 50
    assert PPCA(Vectors(4), latent_features=2).num_parameters == 4 + 1 + 4 * 2 - 1  # W up to one rotation


# -- grids ------------------------------------------------------------------------------------


def test_the_bound_of_integers_is_the_mean_over_uniform_noise() -> None:
    domain = Grid(1, (2, 3), 9)
    x = pictures(400, domain)
    model, count = fitted(x, domain), 4000
    assert model.likelihood is Likelihood.BOUND and model.protocol == {"dequantization": "uniform"}
    y = x[0].flatten().double() + noise.uniform((count, 6), stream("u"), dtype=torch.float64)
    nats = oracle(model).log_prob(y)
    assert abs(z_of_mean(nats, float(model.log_prob(x[:1])))) < LARGEST_Z
    middle = float(oracle(model).log_prob(x[:1].flatten(1).double() + 0.5))
    assert abs(z_of_mean(nats, middle)) > LARGEST_Z  # the middle of the cell alone is another number


def test_integers_are_fitted_as_if_all_noise_had_been_seen() -> None:
    domain = Grid(1, (2, 3), 9)
    x = pictures(400, domain)
    model, middles = fitted(x, domain), fitted(x.flatten(1) + 0.5)
    torch.testing.assert_close(model.weight, middles.weight)
    torch.testing.assert_close(model.variance, middles.variance + CELL)
    many = x.flatten(1).repeat(100, 1) + noise.uniform((40_000, 6), stream("u"))
    torch.testing.assert_close(covariance(model), covariance(fitted(many)), atol=0.02, rtol=0.01)


def test_a_constant_picture_has_the_variance_of_its_cells() -> None:
    model = fitted(torch.zeros(20, 1, 2, 3, dtype=torch.uint8), Grid(1, (2, 3), 9))
    assert float(model.variance) == pytest.approx(1 / 12)
    assert not model.weight.any()


def test_draws_of_integers_follow_the_cells_that_log_given_counts() -> None:
    domain, draws = Grid(1, (1, 2), 5), 20_000
    model = fitted(pictures(200, domain), domain, latents=1)
    z = torch.full((1, 1), 0.7, dtype=torch.float64)
    every = model.log_levels(z)
    torch.testing.assert_close(every.exp().sum(-1), torch.ones(1, 2, dtype=torch.float64))
    x = model.generate(z.expand(draws, 1), generator=stream("draws"))
    for entry in range(2):
        counts = torch.bincount(x.flatten(1)[:, entry].long(), minlength=5)
        assert z_of_counts(counts, every[0, entry].exp()) < LARGEST_Z
        assert z_of_counts(counts, every[0, entry].roll(1).exp()) > LARGEST_Z
    expected = every.expand(9, -1, -1).gather(-1, x[:9].flatten(1).long().unsqueeze(-1)).sum((1, 2))
    torch.testing.assert_close(model.log_likelihood(x[:9], z.expand(9, 1)), expected)


# -- the oracle of the family --------------------------------------------------------------------


def test_density_and_posterior_are_those_of_the_linear_gaussian_law() -> None:
    x = rows(30)
    model = fitted(x)
    assert model.likelihood is Likelihood.EXACT and model.protocol == {}
    torch.testing.assert_close(model.log_prob(x), oracle(model).log_prob(x.double()))
    mean, spread = oracle(model).posterior(x.double())
    q = model.posterior(x)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.log_var.exp(), spread.diagonal().expand_as(mean))
    torch.testing.assert_close(spread, spread.diagonal().diag())
    torch.testing.assert_close(model.encode(x), mean.float())


def test_a_draw_from_the_exact_posterior_weighs_exactly_the_likelihood() -> None:
    x = rows(30)
    model = fitted(x)
    q = model.posterior(x)
    log_w = model.log_weight(x, q.sample(5, stream("z")), q)
    torch.testing.assert_close(log_w, model.log_prob(x).expand(5, -1))


def test_importance_weighted_bounds_rise_to_the_exact_likelihood() -> None:
    x, repeats = rows(20), 200
    model = fitted(x)
    exact, posterior = model.log_prob(x), model.posterior(x)
    q = DiagonalNormal(posterior.mean + 0.2, posterior.log_var + 1.0)  # beside it, and wider
    weights = [model.log_weight(x, q.sample(64, stream("z", k)), q) for k in range(repeats)]
    log_w = torch.stack(weights) - exact  # (repeats, 64, B)
    assert abs(z_of_mean(log_w.exp().mean((1, 2)), 1.0)) < LARGEST_Z  # the mean weight is p(x)
    bounds = [logmeanexp(log_w.unflatten(1, (-1, k)), 2).mean((1, 2)) for k in (1, 4, 16, 64)]
    for looser, tighter in pairwise(bounds):
        assert z_of_mean(tighter - looser, 0.0) > LARGEST_Z
    assert z_of_mean(bounds[0], 0.0) < -LARGEST_Z  # below the exact value
    assert float(bounds[-1].mean()) > -0.05  # and nearly there
    kl = (q.log_var.exp() / posterior.log_var.exp() - 1 - 1.0 + 0.04 / posterior.log_var.exp()).sum(1) / 2
    assert abs(z_of_mean(bounds[0], -float(kl.mean()))) < LARGEST_Z  # one draw misses it by KL(q || p(z|x))


def bound_of_linear_vae(x: Tensor, steps: int) -> Tensor:
    """Draws of the ELBO of all data, after training without hidden layers and with one scale for all columns."""
    torch.manual_seed(0)
    model = VAE(Vectors(FEATURES), latent_features=LATENTS, hidden=(), scale="shared")
    model.initialise(Fixed(x))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for step in range(steps):
        loss = model.losses(Batch(x[step % 4 :: 4]), stream("vae", step))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return torch.stack([model.log_prob(x, generator=stream("elbo", k)) for k in range(50)]).double()


def test_a_linear_vae_climbs_to_the_exact_likelihood_and_not_above() -> None:
    x = rows(1000)
    exact = fitted(x).log_prob(x).mean()
    bound = bound_of_linear_vae(x, 600)
    assert float(exact - bound.mean()) < 0.005 * abs(float(exact))
    assert z_of_mean(bound.mean(1), float(exact)) < LARGEST_Z
    assert float(exact - bound_of_linear_vae(x, 0).mean()) > 0.05 * abs(float(exact))  # it had to be trained


# -- missing values --------------------------------------------------------------------------------


def conditional(model: PPCA, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the missing entries of one row by the textbook's formula."""
    c, mean = covariance(model), model.mean
    gain = c[~keep][:, keep] @ torch.linalg.inv(c[keep][:, keep])
    return mean[~keep] + gain @ (x[keep].double() - mean[keep]), c[~keep][:, ~keep] - gain @ c[keep][:, ~keep]


def masks(count: int) -> Tensor:
    keep = noise.uniform((count, FEATURES), stream("keep")) < 0.5
    keep[0], keep[1] = False, torch.arange(FEATURES) != 3
    return keep


def test_the_law_of_what_is_missing_is_the_conditional_gaussian() -> None:
    x, keep = rows(12), masks(12)
    model = fitted(rows(300))
    mean, root = model.latents_given(x, keep)
    for row in range(12):
        w = model.weight[~keep[row]]
        expected, spread = conditional(model, x[row], keep[row])
        torch.testing.assert_close(w @ mean[row] + model.mean[~keep[row]], expected)
        found = w @ root[row] @ root[row].T @ w.T + model.variance * torch.eye(len(w), dtype=torch.float64)
        torch.testing.assert_close(found, spread)
        torch.testing.assert_close(model.impute(x, keep)[row][~keep[row]], expected.float())


def test_what_is_drawn_has_that_law_and_what_is_kept_its_bits() -> None:
    model, count = fitted(rows(300)), 20_000
    x, keep = rows(1).expand(count, -1), masks(3)[2].expand(count, -1)
    drawn = model.edit(x, keep, generator=stream("edit"))
    assert torch.equal(drawn[keep], x[keep])
    mean, spread = conditional(model, x[0], keep[0])
    whitened = torch.linalg.solve(torch.linalg.cholesky(spread), (drawn[:, ~keep[0]].double() - mean).T)
    for one in range(len(mean)):
        assert abs(z_of_mean(whitened[one], 0.0)) < LARGEST_Z
        for other in range(len(mean)):
            assert abs(z_of_mean(whitened[one] * whitened[other], float(one == other))) < LARGEST_Z


def test_missing_entries_may_hold_anything() -> None:
    x, keep = rows(12), masks(12)
    model = fitted(rows(300))
    holes = torch.where(keep, x, math.nan)
    assert torch.equal(model.impute(holes, keep), model.impute(x, keep))
    assert torch.equal(model.edit(holes, keep, generator=stream(0)), model.edit(x, keep, generator=stream(0)))
    with pytest.raises(ValueError, match="NaN"):
        model.impute(holes, torch.ones_like(keep))


def test_missing_pixels_are_cells_given_the_middles_of_others() -> None:
    domain = Grid(1, (2, 3), 9)
    x = pictures(400, domain)
    model, keep = fitted(x, domain), masks(400).view(-1, 1, 2, 3)
    filled = model.impute(x, keep)
    assert filled.dtype == torch.uint8 and torch.equal(filled[keep], x[keep])
    for row in range(2, 9):
        missing = ~keep[row].flatten()
        mean, _ = conditional(model, x[row].flatten() + 0.5, ~missing)
        assert filled[row].flatten()[missing].tolist() == mean.floor().clamp(0, 8).tolist()


# -- real data --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("latents", "bits", "variance"), [(50, 7.042, 0.01250), (200, 6.440, 0.003007)])
def test_the_known_figures_of_mnist(latents: int, bits: float, variance: float, data_home: Path) -> None:
    """Fitted to all 60,000, uniform dequantization, whole test split; sigma^2 of (x + u) / 256."""
    from genus.data import open_source
    from genus.data.source import DataOptions

    source = open_source("mnist", DataOptions(holdout=0))
    model = PPCA(source.domain, latent_features=latents)
    model.fit(source.train)
    x = source.test.batch(torch.arange(len(source.test))).x
    assert float(-model.log_prob(x).mean() / (784 * math.log(2))) == pytest.approx(bits, abs=0.0005)
    assert float(model.variance) / 256**2 == pytest.approx(variance, rel=1e-3)
