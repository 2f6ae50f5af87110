"""Our steps beside those of diffusers' schedulers, on the same outputs of one network."""

import pytest
import torch
from torch import Tensor
from worlds import steps

from genus.models.diffusion import _bound, _denoiser, _samplers
from genus.prob import noise

diffusers = pytest.importorskip("diffusers", reason="the comparison needs diffusers")

LINEAR = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
NAMES = {"eps": "epsilon", "v": "v_prediction", "x_0": "sample"}


def output(x: Tensor, t: Tensor) -> Tensor:
    """Of a network that is none: any smooth function of both."""
    wide = t.to(x).view(-1, *[1] * (x.ndim - 1))
    return torch.tanh(x + wide) * (1 - 0.3 * wide)


def at(step: int, x: Tensor) -> Tensor:
    return torch.full((len(x),), step / 1000, dtype=torch.float64)


def theirs(scheduler: object, x: Tensor, count: int, **options: object) -> Tensor:
    """A walk with a scheduler; its time k is our step k + 1."""
    scheduler.set_timesteps(count)  # type: ignore[attr-defined]
    for k in scheduler.timesteps:  # type: ignore[attr-defined]
        x = scheduler.step(output(x, at(int(k) + 1, x)), k, x, **options).prev_sample  # type: ignore[attr-defined]
    return x


def in_double(scheduler: object) -> None:
    """Their alphas in float64: in float32 1 - alpha_bar_t / alpha_bar_{t-1} is off by 6e-5 where betas are small."""
    scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("predicts", ["eps", "v", "x_0"])
@pytest.mark.parametrize(("variance", "name"), [("beta", "fixed_large"), ("posterior", "fixed_small")])
@pytest.mark.parametrize("step", [1000, 500, 2])
def test_an_ancestral_step(step: int, variance: _bound.Variance, name: str, predicts: _denoiser.Prediction) -> None:
    q, x = steps(1000), noise.normal((4, 3, 8, 8), noise.stream("x"))
    reverse = _bound.fixed(q, _denoiser.denoiser(q, output, predicts, clip=True), variance)
    mean, var = reverse(x, at(step, x), at(step - 1, x))
    ours = mean + var.sqrt() * noise.normal(tuple(x.shape), noise.stream("eps"))
    scheduler = diffusers.DDPMScheduler(**LINEAR, variance_type=name, prediction_type=NAMES[predicts], clip_sample=True)
    in_double(scheduler)
    drawn = scheduler.step(output(x, at(step, x)), step - 1, x, generator=noise.stream("eps")).prev_sample
    torch.testing.assert_close(ours, drawn.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("predicts", ["eps", "v", "x_0"])
@pytest.mark.parametrize("count", [1000, 50, 8])
def test_ddim(count: int, predicts: _denoiser.Prediction) -> None:
    q, x = steps(1000), noise.normal((4, 2), noise.stream("x"))
    ours = _samplers.ddim(q, _denoiser.denoiser(q, output, predicts, clip=True), x, _samplers.of_steps(1000, count))
    scheduler = diffusers.DDIMScheduler(
        **LINEAR, prediction_type=NAMES[predicts], clip_sample=True, timestep_spacing="trailing", set_alpha_to_one=True
    )
    in_double(scheduler)
    drawn = theirs(scheduler, x, count, use_clipped_model_output=True)  # as ours: eps of the estimate after clipping
    torch.testing.assert_close(ours, drawn.float(), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # theirs
@pytest.mark.parametrize(("eta", "algorithm"), [(0.0, "dpmsolver++"), (1.0, "sde-dpmsolver++")])
@pytest.mark.parametrize("count", [10, 20, 50])
def test_dpm_solver(count: int, eta: float, algorithm: str) -> None:
    q, x = steps(1000), noise.normal((4, 2), noise.stream("x"))
    denoise, times = _denoiser.denoiser(q, output, "x_0"), _samplers.of_steps(1000, count)
    ours = _samplers.dpm_solver(q, denoise, x, times, eta=eta, generator=noise.stream("fresh"))
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **LINEAR, prediction_type="sample", algorithm_type=algorithm, solver_order=2, final_sigmas_type="zero",
        timestep_spacing="trailing",
    )  # fmt: skip
    drawn = theirs(scheduler, x, count, generator=noise.stream("fresh"))
    torch.testing.assert_close(ours, drawn, rtol=0, atol=1e-5)
