import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, GenerativeModel, HasLogProb, Likelihood
from genus.data.source import TensorSplit
from genus.errors import CapabilityError
from genus.evaluate.floors import Gaussian, Uniform
from genus.evaluate.likelihood import log_likelihood
from genus.kinds import Grid, Points, Vectors
from genus.models.flow.realnvp import RealNVP
from genus.prob import noise


class Noisy(GenerativeModel, HasLogProb):
    """log p = -(mean over num_samples of uniform draws): shows seeds, K, modes and gradients."""

    paper = "a test"
    domains = (Grid,)

    def __init__(self, domain: Grid):
        super().__init__(domain)
        self.inner = torch.nn.Dropout()
        self.inner.eval()
        self.seen: list[tuple[int, bool, bool]] = []

    tiny = classmethod(lambda cls, domain, condition=None: cls(domain))
    likelihood = property(lambda self: Likelihood.BOUND)

    def losses(self, batch: Batch, generator=None) -> dict:
        return {"loss": batch.x.float().sum((1, 2, 3))}

    def _sample(self, count, condition, generator) -> Tensor:
        raise NotImplementedError

    def _log_prob(self, x, condition, num_samples, generator) -> Tensor:
        self.seen.append((num_samples, self.training, torch.is_grad_enabled()))
        assert condition is None  # the model has none, whatever the data bring
        return -noise.uniform((num_samples, len(x)), generator).mean(0)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_uniform_scores_log2_of_the_levels(levels: int) -> None:
    x = noise.integers(levels, (37, 1, 5, 7), noise.stream("x")).to(torch.uint8)
    scores = {s.unit: s for s in log_likelihood(Uniform(Grid(1, (5, 7), levels)), TensorSplit(x), batch_size=10)}
    assert scores["bits/dim"].value == pytest.approx(math.log2(levels), abs=1e-12)
    assert scores["bits/dim"].kind is Likelihood.EXACT
    assert ("nats" in scores) == (levels == 2)
    if levels == 2:
        assert scores["nats"].value == pytest.approx(35 * math.log(2), rel=1e-12)


def test_gaussian_floor_is_the_density_of_its_moments() -> None:
    root = torch.tensor([[2.0, 0.0], [1.5, 0.5]])
    x = noise.normal((4000, 2), noise.stream("g")) @ root.T + torch.tensor([100.0, -3.0])
    model = Gaussian(Vectors(2))
    model.fit(TensorSplit(x))
    (score,) = log_likelihood(model, TensorSplit(x))
    # at the maximum of the likelihood: D/2 log(2 pi e) + log det / 2
    entropy = math.log(2 * math.pi * math.e) + 0.5 * math.log(torch.cov(x.double().T, correction=0).det().item())
    assert score.value == pytest.approx(entropy, abs=1e-5)
    reference = torch.distributions.MultivariateNormal(model.mean, scale_tril=model.root)
    assert torch.allclose(model.log_prob(x[:9]), reference.log_prob(x[:9].double()))
    assert score.unit == "nats"
    sample = model.sample(20_000, generator=noise.stream("s"))
    assert torch.allclose(sample.T.cov(), x.T.cov(), rtol=0.05)


def test_gaussian_floor_survives_repeated_and_constant_features() -> None:
    x = noise.normal((500, 1), noise.stream("g")) * torch.tensor([[1.0, 2.0, 0.0]])
    model = Gaussian(Vectors(3))
    model.fit(TensorSplit(x))
    assert torch.isfinite(model.log_prob(x)).all()


def test_draws_follow_the_seed_and_modes_are_put_back() -> None:
    model = Noisy(Grid(1, (2, 2), 3)).train()
    model.inner.eval()
    labelled = TensorSplit(torch.zeros(25, 1, 2, 2, dtype=torch.uint8), torch.zeros(25, dtype=torch.int64))
    first, again, other = (log_likelihood(model, labelled, batch_size=10, seed=s, num_samples=4) for s in (0, 0, 1))
    assert first == again != other
    assert first[0].kind is Likelihood.BOUND
    assert first[0].protocol["num_samples"] == 4
    assert set(model.seen) == {(4, False, False)}
    assert model.training and not model.inner.training


def test_standard_error_and_limit() -> None:
    model = Noisy(Grid(1, (1, 1), 4))
    split = TensorSplit(torch.zeros(4000, 1, 1, 1, dtype=torch.uint8))
    (score,) = log_likelihood(model, split)
    scale = math.log(2)
    assert score.stderr == pytest.approx(math.sqrt(1 / 12 / 4000) / scale, rel=0.05)
    assert abs(score.value - 0.5 / scale) < 4 * score.stderr
    assert log_likelihood(model, split, limit=30)[0].protocol["items"] == 30


def test_models_without_a_likelihood_are_refused() -> None:
    class Silent(Noisy):
        likelihood = property(lambda self: Likelihood.NONE)

    class Cloud(GenerativeModel):
        paper, domains = "a test", (Points,)
        tiny = classmethod(lambda cls, domain, condition=None: cls(domain))
        losses = _sample = Noisy.losses

    split = TensorSplit(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    for model in (Silent(Grid(1, (2, 2), 3)), Cloud(Points(4))):
        with pytest.raises(CapabilityError, match="cannot give a likelihood"):
            log_likelihood(model, split)


@pytest.mark.parametrize("kind", ["uniform", "variational"])
def test_a_score_names_the_dequantization(kind: str) -> None:
    grid = Grid(1, (4, 4), 5)
    x = noise.integers(5, (8, 1, 4, 4), noise.stream("x")).to(torch.uint8)
    model = RealNVP(grid, couplings=2, hidden=4, scales=1, dequantization=kind)
    (score,) = log_likelihood(model, TensorSplit(x))
    assert score.protocol["dequantization"] == kind
    (exact,) = log_likelihood(Uniform(grid), TensorSplit(x))
    assert "dequantization" not in exact.protocol
