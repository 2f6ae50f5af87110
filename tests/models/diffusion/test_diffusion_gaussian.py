"""The noise process, its bound and its samplers against closed forms and quadrature."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from genus.models.diffusion import _gaussian as gaussian
from genus.prob import discretized_gaussian, noise
from genus.prob import gaussian as normal
from genus.testing.statistics import LARGEST_Z, z_of_mean


def process(steps: int = 20, schedule: str = "linear") -> gaussian.GaussianProcess:
    stretch = 1000 / steps
    betas = {
        "linear": gaussian.linear_betas(steps, 1e-4 * stretch, 0.02 * stretch),
        "cosine": gaussian.cosine_betas(steps),
    }[schedule]
    return gaussian.GaussianProcess(betas)


def perfect(q: gaussian.GaussianProcess) -> gaussian.Denoiser:
    """E[x_0 | x_t] for data N(0, 1)."""
    return lambda x_t, step: q.alpha_bar_at(step, x_t).sqrt().to(x_t) * x_t


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [2, 7, 200])
def test_q_of_x_t_given_x_0_is_all_single_steps_together(schedule: str, steps: int) -> None:
    betas = gaussian.cosine_betas(steps) if schedule == "cosine" else gaussian.linear_betas(steps)
    q = gaussian.GaussianProcess(betas)
    mean, variance = 1.0, 0.0
    for step, beta in enumerate(betas.tolist(), start=1):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        kept = float(q.alpha_bar[step])
        assert math.isclose(math.sqrt(kept), mean, rel_tol=1e-9)
        assert math.isclose(1 - kept, variance, rel_tol=1e-9)
    x_0, eps = torch.tensor([[2.0]]).double(), torch.tensor([[-0.7]]).double()
    torch.testing.assert_close(
        q.diffuse(x_0, torch.tensor([steps]), eps), mean * x_0 + math.sqrt(variance) * eps, rtol=1e-9, atol=0
    )


def test_schedules_run_from_data_to_noise() -> None:
    for q in (process(1000), process(100), process(1000, "cosine")):
        assert float(q.alpha_bar[0]) == 1.0
        assert (q.alpha_bar.diff() < 0).all()
        assert float(q.alpha_bar[-1]) < 1e-4
    # the stretched betas follow one curve
    assert abs(float(process(1000).alpha_bar[500]) - float(process(100).alpha_bar[50])) < 0.01


def test_eps_and_x_0_are_two_names_for_one_thing() -> None:
    q, step = process(), torch.tensor([1, 9, 20])
    x_0, eps = noise.normal((2, 3, 4, 5), noise.stream(0), dtype=torch.float64)
    x_t = q.diffuse(x_0, step, eps)
    torch.testing.assert_close(q.x_0_of(x_t, eps, step), x_0)
    torch.testing.assert_close(q.eps_of(x_t, x_0, step), eps)


@pytest.mark.parametrize(("step", "previous"), [(10, 9), (20, 13), (2, 1)])
def test_posterior_is_bayes_rule(step: int, previous: int) -> None:
    q = process()
    x_0, x_t = 0.8, -0.4
    x_s = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    kept_s, kept_t = float(q.alpha_bar[previous]), float(q.alpha_bar[step])
    between = kept_t / kept_s

    def log_normal(x: Tensor, mean: Tensor, variance: float) -> Tensor:
        return -0.5 * (x - mean).square() / variance

    forward = log_normal(torch.tensor(x_t).double(), math.sqrt(between) * x_s, 1 - between)
    prior = log_normal(x_s, torch.tensor(math.sqrt(kept_s) * x_0).double(), 1 - kept_s)
    weight = (forward + prior).softmax(0)
    mean = (weight * x_s).sum()
    variance = (weight * (x_s - mean).square()).sum()
    ours = q.posterior(
        torch.tensor([[x_t]]).double(), torch.tensor([[x_0]]).double(), torch.tensor([step]), torch.tensor([previous])
    )
    torch.testing.assert_close(ours[0].squeeze(), mean, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(ours[1].squeeze(), variance, rtol=1e-6, atol=1e-9)


def test_normal_kl_is_that_of_torch() -> None:
    mean_q, mean_p = noise.normal((2, 50), noise.stream(0), dtype=torch.float64)
    var_q, var_p = noise.uniform((2, 50), noise.stream(1), dtype=torch.float64) + 0.1
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean_q, var_q.sqrt()), torch.distributions.Normal(mean_p, var_p.sqrt())
    )
    torch.testing.assert_close(gaussian.normal_kl(mean_q, var_q, mean_p, var_p), expected)


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_terms_of_the_bound_are_their_closed_forms(variance: gaussian.Variance) -> None:
    """Data N(0, 1), the perfect denoiser sqrt(alpha_bar) x_t: every KL has an exact mean over the noise."""
    q, value, draws = process(6), 1.3, 20_000
    x_0 = torch.full((draws, 1), value, dtype=torch.float64)
    terms = gaussian.bound_terms(
        q, perfect(q), x_0, lambda mean, scale: normal.log_prob(x_0, mean, scale.log()), variance=variance,
        generator=noise.stream("bound"),
    )  # fmt: skip
    one = torch.zeros(1, 1, dtype=torch.float64)
    for t in range(2, q.steps + 1):
        step, previous, kept = torch.tensor([t]), torch.tensor([t - 1]), float(q.alpha_bar[t])
        slope = float(q.posterior(one, one + 1, step, previous)[0])  # of the mean, in x_0
        var_q = float(q.posterior(one, one, step, previous)[1])
        var_p = float(q.reverse_variance(one, step, previous, variance))
        gap = slope**2 * ((value * (1 - kept)) ** 2 + kept * (1 - kept))  # E[(x_0 - sqrt(kept) x_t)^2]
        exact = 0.5 * (math.log(var_p / var_q) + (var_q + gap) / var_p - 1)
        assert abs(z_of_mean(terms["L_t"][:, t - 2], exact)) < LARGEST_Z
    kept = float(q.alpha_bar[-1])
    exact = 0.5 * (kept * value**2 - kept - math.log(1 - kept))
    torch.testing.assert_close(terms["L_T"], torch.full((draws,), exact, dtype=torch.float64))


@pytest.mark.parametrize("value", [0.0, -1.5, 2.5])
def test_bound_is_exact_where_the_reverse_process_is(value: float) -> None:
    """For data N(0, 1) the steps with variance beta and the perfect denoiser are the true
    reverse process, so the bound must be log N(x; 0, 1) itself, whatever T."""
    for steps in (3, 25):
        q = process(steps)
        x_0 = torch.full((5000, 1), value, dtype=torch.float64)
        terms = gaussian.bound_terms(
            q, perfect(q), x_0, lambda mean, scale, x_0=x_0: normal.log_prob(x_0, mean, scale.log()),
            generator=noise.stream("exact", steps),
        )  # fmt: skip
        total = terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"]
        assert abs(z_of_mean(total, 0.5 * value**2 + 0.5 * math.log(2 * math.pi))) < LARGEST_Z


def test_bound_of_binary_pixels_is_tight_and_below_the_probabilities() -> None:
    """Two binary pixels of known law with the perfect denoiser: probabilities under the bound
    sum to at most one, and to nearly one."""
    q = process(300)
    states = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]).double()
    law = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()

    def denoise(x_t: Tensor, step: Tensor) -> Tensor:
        kept = q.alpha_bar_at(step, x_t)
        distance = (x_t[:, None] - kept.sqrt()[..., None] * states).square().sum(-1)
        return (law.log() - 0.5 * distance / (1 - kept)).softmax(1) @ states

    draws = 400
    x_0 = states.repeat_interleave(draws, 0)
    levels = (x_0 > 0).long()
    terms = gaussian.bound_terms(
        q, denoise, x_0, lambda mean, scale: discretized_gaussian.log_prob(levels, mean, scale, 2),
        variance="posterior", generator=noise.stream("binary"),
    )  # fmt: skip
    bound = -(terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"]).view(4, draws)
    assert 0.9 < float(bound.mean(1).exp().sum()) < 1
    for one, p in zip(bound, law.log().tolist(), strict=True):
        assert z_of_mean(one, p) < LARGEST_Z


def test_ancestral_steps_draw_gaussian_data() -> None:
    """Correlated data N(m, C) with the perfect denoiser: mean and covariance come back."""
    q, count = process(1000), 20_000
    mean = torch.tensor([0.5, -1.0]).double()
    covariance = torch.tensor([[0.8, 0.5], [0.5, 1.1]]).double()

    def denoise(x_t: Tensor, step: Tensor) -> Tensor:
        kept = q.alpha_bar[step[0]]
        gain = kept.sqrt() * covariance @ torch.linalg.inv(kept * covariance + (1 - kept) * torch.eye(2))
        return mean + (x_t - kept.sqrt() * mean) @ gain.T

    x_t = noise.normal((count, 2), noise.stream("start"), dtype=torch.float64)
    x = gaussian.ancestral(q, denoise, x_t, variance="beta", generator=noise.stream("steps"))
    centred = x - mean
    for i in range(2):
        assert abs(z_of_mean(x[:, i], float(mean[i]))) < LARGEST_Z
        for j in range(2):
            assert abs(z_of_mean(centred[:, i] * centred[:, j], float(covariance[i, j]))) < LARGEST_Z


def test_ancestral_steps_of_standard_normal_data_keep_it_so_with_few_steps() -> None:
    q, generator = process(10), noise.stream("few")
    x_t = noise.normal((40_000, 1), generator, dtype=torch.float64)
    for steps in (10, 4):
        x = gaussian.ancestral(q, perfect(q), x_t, steps=steps, generator=generator)
        last = float(q.alpha_bar[gaussian.spacing(10, steps)[-1][0]])  # the last step takes the mean
        assert abs(z_of_mean(x.square(), last)) < LARGEST_Z


@pytest.mark.parametrize("steps", [None, 10, 7])
def test_ddim_with_eta_one_is_the_ancestral_sampler(steps: int | None) -> None:
    """The same law, and indeed the same draws: algebra turns one formula into the other."""
    q = process(40, "cosine")
    x_t = noise.normal((64, 3, 2), noise.stream("start"), dtype=torch.float64)

    def denoise(x_t: Tensor, step: Tensor) -> Tensor:
        return torch.tanh(1.5 * x_t) * 0.9

    a = gaussian.ancestral(q, denoise, x_t, steps=steps, variance="posterior", generator=noise.stream("fresh"))
    b = gaussian.ddim(q, denoise, x_t, steps=steps, eta=1.0, generator=noise.stream("fresh"))
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 17, 50])
def test_ddim_of_standard_normal_data_turns_by_angles(steps: int) -> None:
    """With alpha_bar = cos^2(angle) and data N(0, 1), a deterministic step multiplies by the
    cosine of the turn; the last turn ends at angle 0, where alpha_bar is 1."""
    q = process(50)
    x_t = noise.normal((5, 2), noise.stream(0), dtype=torch.float64)
    angles = [math.acos(math.sqrt(float(q.alpha_bar[k]))) for k, _ in gaussian.spacing(50, steps)] + [0.0]
    factor = math.prod(math.cos(a - b) for a, b in itertools.pairwise(angles))
    generator = noise.stream("untouched")
    before = generator.get_state()
    torch.testing.assert_close(gaussian.ddim(q, perfect(q), x_t, steps=steps, generator=generator), factor * x_t)
    assert torch.equal(generator.get_state(), before)  # deterministic given the start


def test_spacing_has_both_ends_and_falls() -> None:
    for total in (2, 10, 1000):
        for steps in {1, 2, total // 2, total - 1, total}:
            pairs = gaussian.spacing(total, steps)
            assert pairs[0][0] == total
            assert pairs[-1][1] == 0
            assert len(pairs) == steps
            assert all(step > previous for step, previous in pairs)
            assert all(a[1] == b[0] for a, b in itertools.pairwise(pairs))


def test_wrong_numbers_are_refused() -> None:
    q, x = process(10), torch.zeros(2, 1)
    with pytest.raises(ValueError, match=r"1\.\.10"):
        gaussian.ancestral(q, perfect(q), x, steps=11)
    with pytest.raises(ValueError, match="eta"):
        gaussian.ddim(q, perfect(q), x, eta=1.5)
    with pytest.raises(ValueError, match="betas"):
        gaussian.GaussianProcess(torch.tensor([0.1, 1.0]))


def test_simple_loss_of_the_true_noise_is_zero_and_of_nothing_is_one() -> None:
    q, x_0 = process(), torch.zeros(4096, 3)

    def knows(x_t: Tensor, t: Tensor) -> Tensor:  # x_0 = 0, so x_t is the noise, scaled
        kept = q.alpha_bar_at((t * q.steps).round().long(), x_t)
        return x_t / (1 - kept).sqrt().to(x_t)

    assert float(gaussian.simple_loss(q, knows, x_0, noise.stream(0)).max()) < 1e-8
    blind = gaussian.simple_loss(q, lambda x_t, t: torch.zeros_like(x_t), x_0, noise.stream(0))
    assert blind.shape == (4096,)
    assert abs(z_of_mean(blind, 1.0)) < LARGEST_Z
