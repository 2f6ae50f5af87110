import pytest
import torch

from genus.prob import discretized_gaussian


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 1.0, 30.0])
def test_bins_sum_to_one(levels: int, scale: float) -> None:
    mean = torch.tensor([-3.0, -1.0, -0.3, 0.0, 0.99, 1.7], dtype=torch.float64)[:, None]
    x = torch.arange(levels)
    total = discretized_gaussian.log_prob(x, mean, torch.tensor(scale), levels).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(6, dtype=torch.float64), rtol=1e-10, atol=0)


def test_bins_hold_what_the_normal_puts_there() -> None:
    levels, mean, scale = 9, 0.2, 0.4
    normal = torch.distributions.Normal(torch.tensor(mean).double(), scale)
    edges = (torch.arange(1, levels).double() - 0.5) * (2 / (levels - 1)) - 1
    cdf = torch.cat([torch.zeros(1), normal.cdf(edges), torch.ones(1)])
    ours = discretized_gaussian.log_prob(torch.arange(levels), torch.tensor(mean), torch.tensor(scale), levels)
    torch.testing.assert_close(ours.exp(), cdf.diff(), rtol=1e-6, atol=1e-9)


def test_far_tails_and_gradients_are_finite() -> None:
    mean = torch.tensor([-50.0, 0.0, 50.0], requires_grad=True)
    log_scale = torch.tensor(-6.0, requires_grad=True)
    log_p = discretized_gaussian.log_prob(torch.tensor([0, 128, 255])[:, None], mean, log_scale.exp(), 256)
    assert log_p.isfinite().all()
    assert (log_p <= 0).all()
    log_p.sum().backward()
    assert mean.grad is not None and mean.grad.isfinite().all()
    assert log_scale.grad is not None and log_scale.grad.isfinite()
