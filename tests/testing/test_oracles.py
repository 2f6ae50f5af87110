import math

import pytest
import torch

from genus.kinds import Grid
from genus.prob.noise import stream
from genus.testing.oracles import GaussianMixture, LinearGaussian, all_states, state_index

MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7]).double(),
    torch.tensor([[0.0, 1.0], [2.0, -1.0]]).double(),
    torch.tensor([0.5, 1.2]).double(),
)


def test_a_mixture_agrees_with_torch() -> None:
    normals = torch.distributions.Independent(
        torch.distributions.Normal(MIXTURE.means, MIXTURE.scales.unsqueeze(1).expand(2, 2)), 1
    )
    same = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(MIXTURE.weights), normals)
    x = MIXTURE.sample(100, stream(0)).requires_grad_()
    torch.testing.assert_close(MIXTURE.log_prob(x), same.log_prob(x))
    (gradient,) = torch.autograd.grad(same.log_prob(x).sum(), x)
    torch.testing.assert_close(MIXTURE.score(x), gradient)


def test_a_diffused_mixture_is_the_law_of_its_noisy_samples() -> None:
    alpha, sigma = 0.6, 0.8
    noisy = alpha * MIXTURE.sample(200_000, stream(1)) + sigma * torch.randn(
        200_000, 2, generator=stream(2), dtype=torch.float64
    )
    distribution = MIXTURE.diffused(alpha, sigma)
    mean = (distribution.weights.unsqueeze(1) * distribution.means).sum(0)
    torch.testing.assert_close(noisy.mean(0), mean, atol=0.02, rtol=0)
    entropy = -distribution.log_prob(noisy).mean()
    assert float(entropy) == pytest.approx(
        float(-distribution.log_prob(distribution.sample(200_000, stream(3))).mean()), abs=0.02
    )


def test_the_perfect_denoiser_is_the_conditional_mean() -> None:
    single = GaussianMixture(torch.ones(1).double(), torch.tensor([[1.0, -2.0]]).double(), torch.tensor([0.5]).double())
    alpha, sigma, x = 0.7, 0.6, torch.tensor([[0.3, 0.4]]).double()
    gain = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2)  # Gaussian regression
    expected = single.means + gain * (x - alpha * single.means)
    torch.testing.assert_close(single.denoised(x, alpha, sigma), expected)


def test_the_linear_gaussian_model_obeys_bayes() -> None:
    truth = LinearGaussian(torch.tensor([[1.0, 0.2], [0.5, -1.0], [0.0, 2.0]]).double(), torch.ones(3).double(), 0.3)
    x, z = truth.sample(6, stream(0)), torch.zeros(2).double()
    mean, covariance = truth.posterior(x)
    log_joint = (
        torch.distributions.Normal(truth.mean, 0.3).log_prob(x).sum(1)
        + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
    )
    log_posterior = torch.distributions.MultivariateNormal(mean, covariance).log_prob(z)
    torch.testing.assert_close(truth.log_prob(x), log_joint - log_posterior)


def test_all_states_are_all_and_in_their_place() -> None:
    domain = Grid(2, (1, 3), 3)
    states = all_states(domain)
    assert states.shape == (3**6, 2, 1, 3)
    assert len(states.unique(dim=0)) == 3**6
    assert torch.equal(state_index(states, domain), torch.arange(3**6))
    with pytest.raises(ValueError, match="at most"):
        all_states(Grid(1, (28, 28), 2), largest=math.comb(10, 5))
