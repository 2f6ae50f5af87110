"""Samplers with perfect denoisers: their orders, the moments and the turns that they must reproduce."""

import functools
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from worlds import PROCESSES, mixture, perfect, shrinking, steps

from genus.models.diffusion import _bound, _process, _samplers
from genus.models.diffusion._denoiser import Denoiser
from genus.prob import noise
from genus.testing.statistics import LARGEST_Z, z_of_mean

Solver = Callable[[_process.GaussianProcess, Denoiser, Tensor, list[float]], Tensor]
SOLVERS: dict[str, tuple[Solver, int]] = {
    "ddim": (_samplers.ddim, 1),
    "heun": (_samplers.heun, 2),
    "dpm_solver": (_samplers.dpm_solver, 2),
    "runge_kutta": (_samplers.runge_kutta, 4),
}


def along(name: str, count: int) -> list[float]:
    """Times from one angle to another, evenly in the angle."""
    return PROCESSES[name].time_at(torch.linspace(1.2, 0.2, count + 1).double()).tolist()


@functools.cache
def exact(name: str) -> tuple[Tensor, Tensor]:
    """Where the flow starts, and where it ends by many steps of the best solver."""
    q, distribution = PROCESSES[name], mixture()
    x = distribution.diffused(*(float(v) for v in q.alpha_sigma(torch.tensor(along(name, 1)[:1])))).sample(
        64, noise.stream("start")
    )
    return x, _samplers.runge_kutta(q, perfect(q, distribution), x, along(name, 512))


def measured_order(solver: Solver, name: str, counts: tuple[int, int] = (64, 128)) -> float:
    """log2 of how much smaller the error becomes with twice as many steps, from one angle to another."""
    q, (x, end) = PROCESSES[name], exact(name)
    denoise = perfect(q, mixture())
    few, many = (float((solver(q, denoise, x, along(name, n)) - end).abs().mean()) for n in counts)
    return math.log2(few / many)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_measured_order_is_the_claimed_one(solver: str, name: str) -> None:
    function, order = SOLVERS[solver]
    # the fourth order shows with fewer steps: with more, rounding is all that is left
    counts = (8, 16) if order == 4 else (64, 128)
    assert abs(measured_order(function, name, counts) - order) < 0.2


def test_solvers_that_forget_something_lose_an_order() -> None:
    def forgets_the_correction(q: _process.GaussianProcess, d: Denoiser, x: Tensor, times: list[float]) -> Tensor:
        for pair in itertools.pairwise(times):  # each step alone has no estimate before
            x = _samplers.dpm_solver(q, d, x, list(pair))
        return x

    assert abs(measured_order(forgets_the_correction, "linear") - 2) > 0.5

    def late(q: _process.GaussianProcess, d: Denoiser, x: Tensor, times: list[float]) -> Tensor:
        """Asks the denoiser for a time that is a hundredth off."""
        return _samplers.heun(q, lambda x, t: d(x, t + 0.01 * (times[0] - times[1])), x, times)

    assert abs(measured_order(late, "linear") - 2) > 0.5


@pytest.mark.parametrize("solver", ["heun", "dpm_solver", "runge_kutta"])  # a first-order one is off by its steps
@pytest.mark.parametrize("name", PROCESSES)
def test_the_flow_carries_noise_to_the_law_of_the_data(solver: str, name: str) -> None:
    """Mean and second moments of a mixture, from noise at time 1 to data at time 0."""
    q, distribution, count = PROCESSES[name], mixture(), 5_000
    eps = noise.normal((count, 2), noise.stream("flow"), dtype=torch.float64)
    times = [1.0, *q.time_at(torch.linspace(1.5, 0.03, 30).double()).tolist(), 0.0]
    x = SOLVERS[solver][0](q, perfect(q, distribution), _samplers.scale(q, torch.ones(count), eps) * eps, times)
    mean = distribution.weights @ distribution.means
    second = torch.einsum("k,ki,kj->ij", distribution.weights, distribution.means, distribution.means)
    second += (distribution.weights @ distribution.scales.square()) * torch.eye(2)
    for i in range(2):
        assert abs(z_of_mean(x[:, i], float(mean[i]))) < LARGEST_Z
        for j in range(i + 1):
            assert abs(z_of_mean(x[:, i] * x[:, j], float(second[i, j]))) < LARGEST_Z


@pytest.mark.parametrize("name", PROCESSES)
def test_the_flow_goes_both_ways(name: str) -> None:
    """Data to noise and back again; the noise of each datum is its own."""
    q, distribution = PROCESSES[name], mixture()
    x_0 = distribution.sample(50, noise.stream("x"))
    last = float(q.angle(torch.ones(1)))
    times = q.time_at(torch.linspace(0.01, last - 1e-6, 100).double()).tolist()
    there = _samplers.runge_kutta(q, perfect(q, distribution), x_0, times)
    back = _samplers.runge_kutta(q, perfect(q, distribution), there, times[::-1])
    torch.testing.assert_close(back, x_0, rtol=0, atol=1e-5)
    assert float((there - there.roll(1, 0)).abs().min(0).values.max()) > 0


def test_ancestral_steps_draw_gaussian_data() -> None:
    """Correlated data N(m, C) with the perfect denoiser: mean and covariance come back."""
    q, count = steps(300), 20_000
    mean = torch.tensor([0.5, -1.0]).double()
    covariance = torch.tensor([[0.8, 0.5], [0.5, 1.1]]).double()

    def chain(lag: float = 0.0) -> Tensor:
        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = (v[0] for v in q.alpha_sigma((t + lag).clamp(max=1)))
            gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(2))
            return mean + (x_t - alpha * mean) @ gain.T

        x = noise.normal((count, 2), noise.stream("start"), dtype=torch.float64)
        return _samplers.ancestral(_bound.fixed(q, denoise, "beta"), x, _samplers.of_steps(300), noise.stream("steps"))

    def largest_z(x: Tensor) -> float:
        centred = x - mean
        scores = [z_of_mean(x[:, i], float(mean[i])) for i in range(2)]
        scores += [
            z_of_mean(centred[:, i] * centred[:, j], float(covariance[i, j])) for i, j in ((0, 0), (0, 1), (1, 1))
        ]
        return max(map(abs, scores))

    assert largest_z(chain()) < LARGEST_Z
    assert largest_z(chain(lag=0.02)) > LARGEST_Z  # a denoiser that is told another time


def test_ancestral_steps_of_standard_normal_data_keep_it_so_with_few_steps() -> None:
    q, generator = steps(10), noise.stream("few")
    x_t = noise.normal((40_000, 1), generator, dtype=torch.float64)
    for count in (10, 4):
        times = _samplers.of_steps(10, count)
        x = _samplers.ancestral(_bound.fixed(q, shrinking(q), "beta"), x_t, times, generator)
        last = float(q.alpha_bar[round(10 * times[-2])])  # the last step takes the mean
        assert abs(z_of_mean(x.square(), last)) < LARGEST_Z


def chain_variance(count: int) -> float:
    """Of the ancestral sampler's samples of data N(0, 1/4) in ``count`` steps, by its own recursion: no draws."""
    q, one = steps(1000, "cosine"), torch.ones(1, 1).double()
    variance, times = 1.0, _samplers.of_steps(1000, count)
    for t, s in _samplers.pairs(times, one):
        alpha, sigma = (float(v) for v in q.alpha_sigma(t))
        gain = alpha * 0.25 / (0.25 * alpha**2 + sigma**2)
        slope = float(q.posterior(one, gain * one, t, s)[0])
        variance = slope**2 * variance + (float(q.posterior(one, one, t, s)[1]) if float(s) else 0)
    return variance


def test_the_ancestral_sampler_is_of_order_one() -> None:
    few, many = (abs(chain_variance(count) - 0.25) for count in (125, 250))
    assert abs(math.log2(few / many) - 1) < 0.2


@pytest.mark.parametrize("count", [None, 10, 7])
def test_ddim_with_eta_one_is_the_ancestral_sampler(count: int | None) -> None:
    """The same distribution, and indeed the same draws: algebra turns one formula into the other."""
    q = steps(40, "cosine")
    x_t = noise.normal((64, 3, 2), noise.stream("start"), dtype=torch.float64)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(1.5 * x_t) * 0.9

    times = _samplers.of_steps(40, count)
    a = _samplers.ancestral(_bound.fixed(q, denoise, "posterior"), x_t, times, noise.stream("fresh"))
    b = _samplers.ddim(q, denoise, x_t, times, eta=1.0, generator=noise.stream("fresh"))
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("count", [1, 3, 17, 50])
def test_ddim_of_standard_normal_data_turns_by_angles(count: int) -> None:
    """With alpha = cos(angle) and data N(0, 1), a deterministic step multiplies by the cosine of the turn; the last
    turn ends at angle 0, where alpha is 1. An alpha of the last step other than 1 would not."""
    q = steps(50)
    x_t = noise.normal((5, 2), noise.stream(0), dtype=torch.float64)
    times = _samplers.of_steps(50, count)
    angles = [math.acos(math.sqrt(float(q.alpha_bar[round(50 * t)]))) for t in times]
    assert angles[-1] == 0.0
    factor = math.prod(math.cos(a - b) for a, b in itertools.pairwise(angles))
    generator = noise.stream("untouched")
    before = generator.get_state()
    torch.testing.assert_close(_samplers.ddim(q, shrinking(q), x_t, times, generator=generator), factor * x_t)
    assert torch.equal(generator.get_state(), before)  # deterministic given the start


def test_times_have_both_ends_and_fall() -> None:
    for total in (2, 10, 1000):
        for count in {1, 2, total // 2, total - 1, total}:
            times = _samplers.of_steps(total, count)
            assert times[0] == 1.0
            assert times[-1] == 0.0
            assert len(times) == count + 1
            assert all(t > s for t, s in itertools.pairwise(times))


def test_wrong_numbers_are_refused() -> None:
    q, x = steps(10), torch.zeros(2, 1)
    with pytest.raises(ValueError, match=r"1\.\.10"):
        _samplers.of_steps(10, 11)
    with pytest.raises(ValueError, match="sampling steps"):
        _samplers.even(0)
    with pytest.raises(ValueError, match="eta"):
        _samplers.ddim(q, shrinking(q), x, [1.0, 0.0], eta=1.5)
    with pytest.raises(ValueError, match="eta"):
        _samplers.dpm_solver(q, shrinking(q), x, [1.0, 0.0], eta=-0.1)
