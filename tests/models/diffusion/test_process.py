"""Noise processes against their single steps, Bayes' rule and the inverse of their curves."""

import math

import pytest
import torch
from torch import Tensor
from worlds import PROCESSES, steps

from genus.models.diffusion import _process
from genus.prob import noise


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("count", [2, 7, 200])
def test_q_of_x_t_given_x_0_is_all_single_steps_together(schedule: str, count: int) -> None:
    betas = {
        "linear": _process.linear_betas, "cosine": _process.cosine_betas, "sigmoid": _process.sigmoid_betas
    }[schedule](count)  # fmt: skip
    q = _process.Steps(betas)
    mean, variance = 1.0, 0.0
    for step, beta in enumerate(betas.tolist(), start=1):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        alpha, sigma = q.alpha_sigma(q.time(torch.tensor([step])))
        assert math.isclose(float(alpha), mean, rel_tol=1e-9)
        assert math.isclose(float(sigma) ** 2, variance, rel_tol=1e-9)
    x_0, eps = torch.tensor([[2.0]]).double(), torch.tensor([[-0.7]]).double()
    torch.testing.assert_close(
        q.diffuse(x_0, times(1.0), eps), mean * x_0 + math.sqrt(variance) * eps, rtol=1e-9, atol=0
    )


def test_a_step_too_far_would_be_seen() -> None:
    """What an off-by-one in the time of a step would do to the line above."""
    q = steps(20)
    alpha, _ = q.alpha_sigma(q.time(torch.arange(1, 21)))
    late, _ = q.alpha_sigma(q.time(torch.arange(20)))
    assert float((late / alpha - 1).abs().min()) > 1e-4


def test_schedules_run_from_data_to_noise() -> None:
    for name in ("linear", "cosine", "sigmoid"):
        for count in (100, 1000):
            kept = steps(count, name).alpha_bar
            assert float(kept[0]) == 1.0
            assert (kept.diff() < 0).all()
            assert float(kept[-1]) < 1e-4
    # the stretched betas follow one curve
    assert abs(float(steps(1000).alpha_bar[500]) - float(steps(100).alpha_bar[50])) < 0.01


@pytest.mark.parametrize("name", PROCESSES)
def test_the_time_of_an_angle_is_the_inverse(name: str) -> None:
    q, t = PROCESSES[name], torch.linspace(0.001, 1, 777).double()
    torch.testing.assert_close(q.time_at(q.angle(t)), t, rtol=1e-6, atol=1e-9)
    assert bool((q.angle(t).diff() > 0).all())
    assert float(q.angle(times(0.0))) == 0.0


@pytest.mark.parametrize("name", PROCESSES)
def test_the_noise_in_a_datum_is_found_again(name: str) -> None:
    q, t = PROCESSES[name], times(0.2, 0.5, 0.9)
    x_0, eps = noise.normal((2, 3, 4, 5), noise.stream(0), dtype=torch.float64)
    x_t = q.diffuse(x_0, t, eps)
    torch.testing.assert_close(q.eps_of(x_t, x_0, t), eps)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize(("t", "s"), [(0.5, 0.45), (0.9, 0.3), (0.1, 0.05)])
def test_posterior_is_bayes_rule(name: str, t: float, s: float) -> None:
    q, x_0, x_t = PROCESSES[name], 0.8, -0.4
    (alpha_t, sigma_t), (alpha_s, sigma_s) = ([float(v) for v in q.alpha_sigma(times(at))] for at in (t, s))
    between = alpha_t / alpha_s
    spread = math.sqrt(sigma_t**2 - between**2 * sigma_s**2)
    x_s = torch.linspace(-1, 1, 400_001, dtype=torch.float64) * 12 * max(sigma_s, 1)

    def log_normal(x: Tensor, mean: Tensor | float, scale: float) -> Tensor:
        return -0.5 * ((x - mean) / scale).square()

    forward = log_normal(torch.tensor(x_t).double(), between * x_s, spread)
    weight = (forward + log_normal(x_s, alpha_s * x_0, sigma_s)).softmax(0)
    mean = (weight * x_s).sum()
    variance = (weight * (x_s - mean).square()).sum()
    ours = q.posterior(torch.tensor([[x_t]]).double(), torch.tensor([[x_0]]).double(), times(t), times(s))
    torch.testing.assert_close(ours[0].squeeze(), mean, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(ours[1].squeeze(), variance, rtol=1e-5, atol=1e-8)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="betas"):
        _process.Steps(torch.tensor([0.1, 1.0]))
    with pytest.raises(ValueError, match="rho"):
        _process.VarianceExploding(rho=0.5)
    with pytest.raises(ValueError, match="gamma"):
        _process.LogLinear(1.0, 1.0)
