import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.kinds import Domain, Grid, Vectors
from genus.models.latent._prior import FlowPrior, Moments, Vamp, log_mixture
from genus.models.latent.vae import VAE
from genus.prob import noise
from genus.prob.noise import stream
from genus.prob.posterior import DiagonalNormal
from genus.testing import Subject, checks
from genus.testing.statistics import z_of_mean
from genus.testing.subjects import LABELS, ToySplit

BINARY = Grid(1, (2, 2), 2)


def distributions(count: int, features: int) -> DiagonalNormal:
    mean, log_var = (noise.normal((count, features), stream(name), dtype=torch.float64) for name in ("m", "v"))
    return DiagonalNormal(2 * mean, log_var - 1)


def test_a_mixture_is_the_mean_of_its_parts() -> None:
    q, z = distributions(5, 3), noise.normal((40, 3), stream("z"), dtype=torch.float64)
    each = torch.distributions.Normal(q.mean, (0.5 * q.log_var).exp()).log_prob(z[:, None]).sum(-1)
    torch.testing.assert_close(log_mixture(z, q), each.logsumexp(1) - math.log(5))


def test_a_mixture_keeps_its_digits() -> None:
    """Narrow posteriors far from the origin: in float32, to 1e-5 of the truth."""
    q = DiagonalNormal(torch.full((3, 50), 5.0), torch.full((3, 50), -8.0))
    z = 5 + math.exp(-4) * noise.normal((20, 50), stream("z"))
    truth = torch.distributions.Normal(q.mean[0].double(), math.exp(-4)).log_prob(z.double()).sum(1)
    torch.testing.assert_close(log_mixture(z, q).double(), truth, atol=1e-5, rtol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(log_mixture(z, q).double(), truth, atol=1e-5, rtol=1e-6)


def integral(log_density: Tensor, cell: float) -> float:
    return float(log_density.double().exp().sum()) * cell


def test_a_prior_is_a_density_and_draws_from_it() -> None:
    """Its integral over a fine grid is one; the mean of a narrow distribution over it is one under its draws."""
    axis = torch.linspace(-16, 16, 129, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    flow = FlowPrior(2).double()
    moments = Moments(1, 2).double()
    moments.update(noise.normal((500, 2), stream("z")) @ torch.tensor([[1.0, 0.8], [0.0, 0.5]]) + 1, None, 1.0)

    def read(u: Tensor) -> DiagonalNormal:
        return DiagonalNormal(u[:, :2], u[:, 2:].clamp(-2, 1))

    vamp = Vamp(4, 4).double()
    with torch.no_grad():
        for log_p, draw in (
            (flow.log_prob(grid, read), flow.draw(5_000, read, stream("draw"))),
            (vamp.log_prob(grid, read), vamp.draw(5_000, read, stream("draw"))),
            (moments.log_prob(grid, None), moments.draw(5_000, None, stream("draw"))),
        ):
            assert integral(log_p, float(axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=2e-3)
            p = log_p.exp() / log_p.exp().sum()
            for statistic in (lambda z: z[:, 0], lambda z: z[:, 1].square(), lambda z: (z[:, 0] * z[:, 1]).tanh()):
                assert abs(z_of_mean(statistic(draw), float((p * statistic(grid)).sum()))) < 5


def test_moments_are_linear_in_the_batch_and_know_the_labels() -> None:
    z, label = noise.normal((60, 3), stream("z"), dtype=torch.float64), torch.arange(60) % 2
    z = z + 5 * label[:, None]
    whole, halves = Moments(2, 3).double(), [Moments(2, 3).double() for _ in range(2)]
    whole.update(z, label, 0.3)
    for k, half in enumerate(halves):
        half.update(z[30 * k : 30 * k + 30], label[30 * k : 30 * k + 30], 0.3)
    for name, buffer in whole.named_buffers():
        mean = sum(half.get_buffer(name) for half in halves) / 2
        torch.testing.assert_close(buffer, mean)
    whole.update(z, label, 1.0)
    mean, spread, axes = whole.distribution()
    for k in range(2):
        torch.testing.assert_close(mean[k], z[label == k].mean(0))
        covariance = torch.cov(z[label == k].T, correction=0)
        torch.testing.assert_close(axes[k] * spread[k].square() @ axes[k].T, covariance)
    never = Moments(2, 3)
    never.update(z, torch.zeros(60), 1.0)
    assert never.draw(4, torch.ones(4), stream("d")).isfinite().all()


class WithVamp(VAE):
    """With pseudo-inputs."""

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> "WithVamp":
        return cls(domain, condition, latent_features=2, hidden=(16,), prior="vamp", components=5)


class WithFlow(VAE):
    """With couplings."""

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> "WithFlow":
        return cls(domain, condition, latent_features=2, hidden=(16,), prior="flow")


@pytest.mark.parametrize("model_class", [WithVamp, WithFlow])
@pytest.mark.parametrize("condition", [None, LABELS], ids=["", "labels"])
def test_a_vae_with_a_prior_that_learns_keeps_its_promises(model_class: type[VAE], condition: None) -> None:
    for domain in (BINARY,) if condition else (BINARY, Vectors(2)):
        subject = Subject(model_class, domain, condition)
        for check in checks.checks_for(subject):
            if check not in (checks.check_card, checks.check_refusals):  # about the file
                check(subject)


def test_pseudo_inputs_start_at_data_and_tell_the_divergence() -> None:
    model = WithVamp.tiny(BINARY, LABELS)
    split = ToySplit(BINARY, LABELS, 3)  # fewer than pseudo-inputs
    model.initialise(split)
    known = model.inputs(split.x, split.label)
    gaps = torch.cdist(model.prior.pseudo.detach(), known).min(1).values
    assert float(gaps.max()) < 0.1
    assert float(torch.pdist(model.prior.pseudo.detach()).min()) > 0  # copies differ
    batch = Batch(split.x, split.label)
    many = Batch(split.x.repeat(5000, 1, 1, 1), split.label.repeat(5000))
    with torch.no_grad():
        kl = model.losses(many, stream("z"))["kl"].view(5000, 3)
        q = model.posterior(batch.x, batch.condition)
        z = q.sample(5000, stream("other"))
        expected = (q.log_prob(z) - model.log_prior(z.flatten(0, 1)).view(5000, 3)).mean(0)
    for column, mean in zip(kl.T, expected, strict=True):
        assert abs(z_of_mean(column, float(mean))) < 5 * math.sqrt(2)
