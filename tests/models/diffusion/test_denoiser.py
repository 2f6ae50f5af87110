"""Predictions: one network's knowledge in six languages."""

import pytest
import torch
from torch import Tensor
from worlds import PROCESSES, steps

from genus.models.diffusion import _denoiser
from genus.models.diffusion._denoiser import Prediction
from genus.prob import noise
from genus.testing.statistics import LARGEST_Z, z_of_mean

ALL: list[Prediction] = ["eps", "x_0", "v", "score", "velocity", "edm"]


@pytest.mark.parametrize("predicts", ALL)
@pytest.mark.parametrize("name", PROCESSES)
def test_the_target_of_training_is_what_the_denoiser_needs(name: str, predicts: Prediction) -> None:
    """A network that gives its target away denoises perfectly, and has no error."""
    q, t = PROCESSES[name], torch.tensor([0.1, 0.5, 0.9]).double()
    x_0, eps = noise.normal((2, 3, 4), noise.stream(0), dtype=torch.float64)
    x_t = q.diffuse(x_0, t, eps)
    c_skip, c_out, c_in = _denoiser.coefficients(predicts, *q.at(t, x_t))

    def network(x: Tensor, t: Tensor) -> Tensor:
        torch.testing.assert_close(x, c_in * x_t)
        return (x_0 - c_skip * x_t) / c_out

    torch.testing.assert_close(_denoiser.denoiser(q, network, predicts)(x_t, t), x_0)
    assert float(_denoiser.error(q, network, predicts, x_0, t, eps).max()) < 1e-16


def test_targets_are_what_the_papers_call_them() -> None:
    q, t = PROCESSES["cosine"], torch.tensor([0.3]).double()
    alpha, sigma = q.alpha_sigma(t)
    x_0, eps = torch.tensor([[0.7]]).double(), torch.tensor([[-1.1]]).double()
    x_t = q.diffuse(x_0, t, eps)
    named = {
        "eps": eps, "x_0": x_0, "v": alpha * eps - sigma * x_0, "score": -eps / sigma, "velocity": eps - x_0
    }  # fmt: skip
    for predicts, expected in named.items():
        c_skip, c_out, _ = _denoiser.coefficients(predicts, alpha, sigma)  # type: ignore[arg-type]
        torch.testing.assert_close((x_0 - c_skip * x_t) / c_out, expected)


@pytest.mark.parametrize("t", [0.05, 0.4, 0.95])
def test_edm_keeps_inputs_and_targets_of_size_one(t: float) -> None:
    """Karras et al. (2022), appendix B.6: for data of the stated spread both have variance one."""
    q, count, spread = PROCESSES["exploding"], 40_000, 0.5
    at = torch.full((count,), t, dtype=torch.float64)
    x_0 = spread * noise.normal((count, 1), noise.stream("x"), dtype=torch.float64)
    x_t = q.diffuse(x_0, at, noise.normal((count, 1), noise.stream("eps"), dtype=torch.float64))
    c_skip, c_out, c_in = _denoiser.coefficients("edm", *q.at(at, x_t), spread)
    for of_size_one in (c_in * x_t, (x_0 - c_skip * x_t) / c_out):
        assert abs(z_of_mean(of_size_one.square().flatten(), 1.0)) < LARGEST_Z


def test_the_error_of_the_true_noise_is_zero_and_of_nothing_is_one() -> None:
    q, x_0 = steps(), torch.zeros(4096, 3)
    t = q.time(1 + noise.integers(q.steps, (4096,), noise.stream("t")))
    eps = noise.normal((4096, 3), noise.stream("eps"))

    def knows(x_t: Tensor, t: Tensor) -> Tensor:  # x_0 = 0, so x_t is the noise, scaled
        return x_t / q.at(t, x_t)[1].to(x_t)

    assert float(_denoiser.error(q, knows, "eps", x_0, t, eps).max()) < 1e-8
    blind = _denoiser.error(q, lambda x_t, t: torch.zeros_like(x_t), "eps", x_0, t, eps)
    assert blind.shape == (4096,)
    assert abs(z_of_mean(blind, 1.0)) < LARGEST_Z
