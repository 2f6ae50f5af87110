import pytest
import torch

from genus.prob import discretized_logistic, noise
from genus.prob.noise import stream


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_bins_sum_to_one_wherever_the_density_lies(levels: int) -> None:
    mean = torch.tensor([0.0, 0.9, -3.0, 7.0]).double()
    log_scale = torch.tensor([-7.0, -3.0, 0.0, 2.0]).double()
    x = torch.arange(levels).view(-1, 1, 1)
    total = discretized_logistic.log_prob(x, mean, log_scale.view(-1, 1), levels).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(4, 4).double(), atol=1e-12, rtol=0)


def test_far_bins_keep_a_finite_log_prob_and_gradient() -> None:
    """Where both edges round to the same sigmoid, a difference of sigmoids would be log 0."""
    mean = torch.full((256,), -1.0, requires_grad=True)
    log_scale = torch.full((256,), -7.0, requires_grad=True)
    nats = discretized_logistic.log_prob(torch.arange(256), mean, log_scale, 256)
    nats.sum().backward()
    assert nats.isfinite().all()
    assert mean.grad is not None and mean.grad.isfinite().all()
    assert log_scale.grad is not None and log_scale.grad.isfinite().all()
    assert nats[-1].item() < -1000


def test_log_prob_is_the_difference_of_the_distribution_function() -> None:
    x = noise.integers(7, (100,), stream("x"))
    mean, log_scale = (noise.normal((100,), stream(name)).double() for name in ("m", "s"))
    u, half = x.double() / 3 - 1, 1 / 6
    upper = torch.where(x == 6, 1.0, torch.sigmoid((u + half - mean) / log_scale.exp()))
    lower = torch.where(x == 0, 0.0, torch.sigmoid((u - half - mean) / log_scale.exp()))
    torch.testing.assert_close(discretized_logistic.log_prob(x, mean, log_scale, 7), (upper - lower).log())


def test_levels_and_unit_interval_are_inverse() -> None:
    x = torch.arange(256)
    assert torch.equal(discretized_logistic.to_level(discretized_logistic.to_unit(x, 256), 256).long(), x)
