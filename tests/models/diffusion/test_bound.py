"""The discrete bound against closed forms: data N(0, 1), binary pixels."""

import math

import pytest
import torch
from torch import Tensor
from worlds import shrinking, steps

from genus.models.diffusion import _bound
from genus.models.diffusion._process import Steps
from genus.models.diffusion._weighting import StepMoments
from genus.prob import discretized_gaussian, noise
from genus.prob import gaussian as normal
from genus.testing.statistics import LARGEST_Z, z_of_mean


def test_normal_kl_is_that_of_torch() -> None:
    mean_q, mean_p = noise.normal((2, 50), noise.stream(0), dtype=torch.float64)
    var_q, var_p = noise.uniform((2, 50), noise.stream(1), dtype=torch.float64) + 0.1
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean_q, var_q.sqrt()), torch.distributions.Normal(mean_p, var_p.sqrt())
    )
    torch.testing.assert_close(_bound.normal_kl(mean_q, var_q, mean_p, var_p), expected)


def terms_of(q: Steps, value: float, draws: int, variance: _bound.Variance = "beta") -> dict[str, Tensor]:
    """Of one datum, many times."""
    x_0 = torch.full((draws, 1), value, dtype=torch.float64)
    return _bound.bound_terms(
        q, _bound.fixed(q, shrinking(q), variance), x_0, lambda mean, scale: normal.log_prob(x_0, mean, scale.log()),
        noise.stream("bound", q.steps),
    )  # fmt: skip


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_terms_of_the_bound_are_their_closed_forms(variance: _bound.Variance) -> None:
    """Data N(0, 1), the perfect denoiser alpha x_t: every KL has an exact mean over the noise."""
    q, value, draws = steps(6), 1.3, 20_000
    terms = terms_of(q, value, draws, variance)
    one = torch.zeros(1, 1, dtype=torch.float64)
    for k in range(2, q.steps + 1):
        t, s, kept = q.time(torch.tensor([k])), q.time(torch.tensor([k - 1])), float(q.alpha_bar[k])
        slope = float(q.posterior(one, one + 1, t, s)[0])  # of the mean, in x_0
        var_q = float(q.posterior(one, one, t, s)[1])
        var_p = float(_bound.step_variance(q, one, t, s, variance))
        gap = slope**2 * ((value * (1 - kept)) ** 2 + kept * (1 - kept))  # E[(x_0 - sqrt(kept) x_t)^2]
        exact = 0.5 * (math.log(var_p / var_q) + (var_q + gap) / var_p - 1)
        assert abs(z_of_mean(terms["L_t"][:, k - 2], exact)) < LARGEST_Z
    kept = float(q.alpha_bar[-1])
    exact = 0.5 * (kept * value**2 - kept - math.log(1 - kept))
    torch.testing.assert_close(terms["L_T"], torch.full((draws,), exact, dtype=torch.float64))


@pytest.mark.parametrize("value", [0.0, -1.5, 2.5])
def test_bound_is_exact_where_the_reverse_process_is(value: float) -> None:
    """For data N(0, 1) the steps with variance beta and the perfect denoiser are the true
    reverse process, so the bound must be log N(x; 0, 1) itself, whatever T."""
    exact = 0.5 * value**2 + 0.5 * math.log(2 * math.pi)
    for count in (3, 25):
        terms = terms_of(steps(count), value, 5000)
        assert abs(z_of_mean(terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"], exact)) < LARGEST_Z


def test_a_bound_without_its_last_term_or_a_step_would_be_seen() -> None:
    terms = terms_of(Steps(torch.full((4,), 0.3)), 1.5, 20_000)
    exact = 0.5 * 1.5**2 + 0.5 * math.log(2 * math.pi)
    assert abs(z_of_mean(terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"], exact)) < LARGEST_Z
    assert abs(z_of_mean(terms["L_0"] + terms["L_t"].sum(1), exact)) > LARGEST_Z
    assert abs(z_of_mean(terms["L_0"] + terms["L_t"][:, 1:].sum(1) + terms["L_T"], exact)) > LARGEST_Z


LAW, STATES = torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]]).double()


def binary_bound(q: Steps, closed: bool = False) -> Tensor:
    """The bound of two binary pixels with their perfect denoiser, ``(4, draws)``; closed: bins without open ends."""
    draws = 400
    x_0 = STATES.repeat_interleave(draws, 0)
    levels = (x_0 > 0).long()

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = q.at(t, x_t)
        distance = (x_t[:, None] - alpha[..., None] * STATES).square().sum(-1)
        return (LAW.log() - 0.5 * distance / sigma.square()).softmax(1) @ STATES

    def log_decoder(mean: Tensor, scale: Tensor) -> Tensor:
        if closed:  # levels 1 and 2 of four: bins between others
            return discretized_gaussian.log_prob(1 + levels, mean / 3, scale / 3, 4)
        return discretized_gaussian.log_prob(levels, mean, scale, 2)

    reverse = _bound.fixed(q, denoise, "posterior")
    terms = _bound.bound_terms(q, reverse, x_0, log_decoder, noise.stream("binary"))
    return -(terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"]).view(4, draws)


def test_bound_of_binary_pixels_is_tight_and_below_the_probabilities() -> None:
    """Two binary pixels of known distribution with the perfect denoiser: probabilities under the bound
    sum to at most one, and to nearly one."""
    bound = binary_bound(steps(300))
    assert 0.9 < float(bound.mean(1).exp().sum()) < 1
    for one, p in zip(bound, LAW.log().tolist(), strict=True):
        assert z_of_mean(one, p) < LARGEST_Z


def test_end_bins_without_open_ends_would_be_seen() -> None:
    """With a coarse last step some of its distribution lies beyond the ends: bins that are closed miss it."""
    coarse = Steps(torch.linspace(0.3, 0.9, 12).double())
    whole, lost = (float(binary_bound(coarse, closed).mean(1).exp().sum()) for closed in (False, True))
    assert lost < 0.99 * whole < 1  # of the same draws


def test_a_learned_variance_lies_between_the_two() -> None:
    q, x = steps(20), torch.zeros(3, 2, dtype=torch.float64)
    t, s = q.time(torch.tensor([1, 2, 20])), q.time(torch.tensor([0, 1, 19]))
    low, high = (_bound.step_variance(q, x, t, s, kind).expand_as(x) for kind in ("posterior", "beta"))
    for share, expected in ((0.0, low), (1.0, high), (0.5, torch.sqrt(low * high))):
        torch.testing.assert_close(_bound.between(q, x, t, s, torch.full_like(x, share)), expected)


def test_steps_drawn_by_importance_leave_the_mean_and_steady_it() -> None:
    """Terms that differ a thousandfold: the weighted mean over drawn steps is their mean, with less spread."""
    count, moments = 10, StepMoments(10)
    terms = torch.logspace(0, 3, count)
    assert len(set(moments.probabilities().tolist())) == 1  # nothing seen yet
    moments.see(torch.arange(1, count + 1), terms)
    moments.advance()
    step, weight = moments.draw(20_000, noise.stream("importance"))
    weighted = weight * terms[step - 1]
    assert abs(z_of_mean(weighted, float(terms.mean()))) < LARGEST_Z
    assert abs(z_of_mean(terms[step - 1], float(terms.mean()))) > LARGEST_Z  # without the weights
    evenly = terms[noise.integers(count, (20_000,), noise.stream("even"))]
    assert float(weighted.std()) < 0.1 * float(evenly.std())


def test_what_parts_of_a_batch_show_is_what_the_batch_shows() -> None:
    whole, parts = StepMoments(4), StepMoments(4)
    step, loss = torch.tensor([1, 2, 2, 4]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    whole.see(step, loss)
    for half in (slice(0, 2), slice(2, 4)):
        parts.see(step[half], loss[half])
    for moments in (whole, parts):
        moments.advance()
    assert torch.equal(whole.totals, parts.totals)
    assert torch.equal(whole.counts, parts.counts)
