"""edm, flow_matching and vdm: models in continuous time, with a perfect network where the answer is known."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.kinds import Grid, Label, Tokens, Vectors
from genus.models.diffusion import _denoiser
from genus.models.diffusion._diffusion import FlowDensity, GaussianDiffusion
from genus.models.diffusion.edm import EDM
from genus.models.diffusion.flow_matching import FlowMatching
from genus.models.diffusion.vdm import VDM
from genus.prob import noise
from genus.testing.statistics import LARGEST_Z, z_of_mean

MODELS: list[type[GaussianDiffusion]] = [EDM, FlowMatching, VDM]
COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
LAW = torch.distributions.MultivariateNormal(torch.zeros(2), COVARIANCE)


def knowing(model_class: type[GaussianDiffusion], **settings: Any) -> GaussianDiffusion:
    """A perfect model of two normal numbers with correlation 0.8."""

    class Knowing(model_class):  # type: ignore[misc, valid-type]
        def outputs_at(self, x: Tensor, t: Tensor, label: Tensor | None) -> tuple[Tensor, ...]:
            alpha, sigma = self.process.alpha_sigma(t[:1])
            c_skip, c_out, c_in = (float(c) for c in _denoiser.coefficients(self.predicts, alpha, sigma, self.spread))
            a, s, x_t = float(alpha), float(sigma), x / c_in
            x_0 = a * x_t @ torch.linalg.inv(a**2 * COVARIANCE + s**2 * torch.eye(2)) @ COVARIANCE
            return ((x_0 - c_skip * x_t) / c_out,)

    return Knowing(Vectors(2), width=8, multipliers=(1,), blocks=1, **settings).eval()


@pytest.mark.parametrize("model_class", [EDM, FlowMatching])
def test_a_perfect_network_estimates_the_density_within_its_standard_error(model_class: type[FlowDensity]) -> None:
    model = knowing(model_class, flow_steps=30)
    x = torch.tensor([[0.3, 0.1], [1.0, 1.2], [-0.5, 0.5], [2.0, 1.0]])
    draws = model.flow_log_prob(x.repeat(64, 1), generator=noise.stream("signs")).view(64, 4)
    for i, exact in enumerate(LAW.log_prob(x).tolist()):
        assert abs(z_of_mean(draws[:, i], exact)) < LARGEST_Z
    assert model.likelihood is Likelihood.ESTIMATE
    two = model.flow_log_prob(x, num_samples=2, generator=noise.stream("two"))
    assert two.shape == (2, 4)
    assert not torch.equal(two[0], two[1])
    mean = model.log_prob(x, num_samples=2, generator=noise.stream("two"))
    torch.testing.assert_close(mean, two.mean(0).float())


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("sampler", [None, "dpm_solver", "ancestral"])
def test_a_perfect_network_draws_the_law(model_class: type[GaussianDiffusion], sampler: Any) -> None:
    model, count = knowing(model_class), 8000
    chain = (sampler or model.usual_sampler) == "ancestral"
    x = model.sample(count, sampler=sampler, steps=200 if chain else 60, generator=noise.stream("x"))
    product = x[:, 0] * x[:, 1]
    for numbers, expected in ((x[:, 0], 0.0), (x[:, 1], 0.0), (product, 0.8), (x[:, 0].square(), 1.0)):
        # an ancestral chain is of first order: 200 steps are off by half a percent
        error = float(numbers.std()) / math.sqrt(count) + (0.01 if chain else 0.0)
        assert abs(float(numbers.mean()) - expected) < LARGEST_Z * error


@pytest.mark.parametrize("model_class", MODELS)
def test_latents_of_the_law_are_standard_normal(model_class: type[GaussianDiffusion]) -> None:
    torch.manual_seed(0)
    model, x = knowing(model_class), LAW.sample((6000,))
    z = model.encode(x)
    for numbers, expected in ((z[:, 0], 0.0), (z[:, 0] * z[:, 1], 0.0), (z.square().sum(1), 2.0)):
        assert abs(z_of_mean(numbers, expected)) < LARGEST_Z
    torch.testing.assert_close(model.decode(z), x, rtol=0, atol=0.01)


@pytest.mark.parametrize("model_class", MODELS)
def test_the_loss_of_the_perfect_network_cannot_be_beaten_by_another(model_class: type[GaussianDiffusion]) -> None:
    """The same noise for both: a network that is off anywhere loses."""
    torch.manual_seed(0)
    batch = Batch(LAW.sample((4000,)))
    best, other = knowing(model_class), knowing(model_class)
    outputs = other.outputs_at
    other.outputs_at = lambda x, t, label: (outputs(x, t, label)[0] + 0.5,)  # type: ignore[method-assign]
    gap = [m.losses(batch, noise.stream("loss"))["loss"] for m in (other, best)]
    assert z_of_mean(gap[0] - gap[1], 0.0) > LARGEST_Z


def test_edm_walks_the_noise_levels_of_the_paper() -> None:
    """Karras et al. (2022), equation 5, for N = 18."""
    model = EDM.tiny(Vectors(2))
    sigma = model.process.alpha_sigma(torch.tensor(model.times(18), dtype=torch.float64))[1]
    i = torch.arange(18).double()
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigma[:-1], expected, rtol=1e-9, atol=0)
    assert float(sigma[-1]) == 0
    assert model.times(1) == [1.0, 0.0]


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("size", [(7, 5), (9,), (4, 5, 3)])
def test_grids_of_any_size_with_labels_and_guidance(
    model_class: type[GaussianDiffusion], size: tuple[int, ...]
) -> None:
    model = model_class.tiny(Grid(2, size, 5), Label(("a", "b")))
    x = model.sample(3, condition=torch.tensor([0, 1, 0]), guidance=2.0, generator=noise.stream(0))
    model.domain.check(x)


@pytest.mark.parametrize("model_class", MODELS)
def test_what_they_cannot_do_is_refused(model_class: type[GaussianDiffusion]) -> None:
    with pytest.raises(ValueError, match="sequences"):
        model_class(Tokens(4, 3))
    model = model_class.tiny(Vectors(2))
    with pytest.raises(ValueError, match="sampler"):
        model.sample(1, sampler="euler")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sampling steps"):
        model.sample(1, steps=0)
    with pytest.raises(ValueError, match="rounds"):
        model.edit(torch.zeros(1, 2), torch.zeros(1, 2).bool(), rounds=0)
    with pytest.raises(ValueError, match="z: expected latents"):
        model.decode(torch.zeros(1, 3))
    if model_class is EDM:
        with pytest.raises(ValueError, match="log_spread"):
            EDM(Vectors(2), log_spread=0.0)
