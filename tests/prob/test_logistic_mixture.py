"""Mixtures of discretized logistics: sums over all pixels, and channels one after the other."""

import itertools

import pytest
import torch
from torch import Tensor

from genus.prob import discretized_logistic, noise
from genus.prob.logistic_mixture import LogisticMixture

SHAPES = [(1, 2), (1, 7), (2, 4), (3, 4), (4, 3)]


def mixture(channels: int, levels: int, spread: float = 1.0, components: int = 3) -> LogisticMixture:
    outputs = spread * noise.normal((5, LogisticMixture.rows(channels) * components), noise.stream("mixture"))
    return LogisticMixture.of(outputs.double(), channels, levels)


def every_pixel(channels: int, levels: int) -> Tensor:
    """``(levels^channels, 1, channels)``."""
    return torch.tensor(list(itertools.product(range(levels), repeat=channels))).unsqueeze(1)


def one_after_the_other(distribution: LogisticMixture, x: Tensor) -> Tensor:
    """log p of pixels by the chain rule, channel by channel."""
    logits = [
        distribution.channel(x, k).expand(*x.shape[:-1], distribution.levels) for k in range(distribution.channels)
    ]
    return torch.stack([part.gather(-1, x[..., k, None]).squeeze(-1) for k, part in enumerate(logits)]).sum(0)


@pytest.mark.parametrize(("channels", "levels"), SHAPES)
@pytest.mark.parametrize("spread", [0.1, 1.0, 8.0])
def test_all_pixels_sum_to_one(channels: int, levels: int, spread: float) -> None:
    total = mixture(channels, levels, spread).log_prob(every_pixel(channels, levels)).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "levels"), SHAPES)
def test_channels_one_after_the_other_are_the_whole_pixel(channels: int, levels: int) -> None:
    distribution, x = mixture(channels, levels, 3.0), every_pixel(channels, levels).expand(-1, 5, -1)
    torch.testing.assert_close(one_after_the_other(distribution, x), distribution.log_prob(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_is_what_a_sum_over_the_rest_says(channel: int) -> None:
    """p(x_j | x_<j) as a ratio of marginals of the table of all pixels."""
    distribution = mixture(3, 4, 3.0)
    table = distribution.log_prob(every_pixel(3, 4)).exp().view(4, 4, 4, 5)
    rest = table.flatten(channel + 1, -2).sum(-2) if channel < 2 else table  # p(x_<=j)
    expected = rest / rest.sum(channel, keepdim=True)
    for before in itertools.product(range(4), repeat=channel):
        x = torch.tensor([*before, *[0] * (3 - channel)]).expand(5, 3)
        torch.testing.assert_close(distribution.channel(x, channel).exp(), expected[before].T, rtol=0, atol=1e-12)


def test_the_weights_of_the_start_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: without the posterior of the components, the channels are another distribution."""
    distribution, x = mixture(3, 4, 3.0), every_pixel(3, 4).expand(-1, 5, -1)
    monkeypatch.setattr(LogisticMixture, "joint", lambda self, *_: self.log_weights)
    steps = one_after_the_other(distribution, x)
    monkeypatch.undo()
    assert abs(steps.exp().sum(0) - 1).max() < 1e-12  # a distribution,
    assert (steps - distribution.log_prob(x)).abs().max() > 0.1  # but not this one


def test_channels_summed_after_the_mixture_are_noticed() -> None:
    """The known misuse, a mixture of its own for each channel, loses what ties them together."""
    distribution, x = mixture(2, 4, 3.0), every_pixel(2, 4).expand(-1, 5, -1)
    parts = [
        (
            distribution.log_weights
            + discretized_logistic.log_prob(x[..., k, None], *distribution.distribution(x, k), 4)
        ).logsumexp(-1)
        for k in range(2)
    ]
    assert (sum(parts) - distribution.log_prob(x)).abs().max() > 0.1


def test_slopes_belong_to_their_channels() -> None:
    """One component: the mean of the third channel is m + c_31 x_1 + c_32 x_2, slopes in the order 21, 31, 32."""
    slopes = torch.tensor([[0.1], [0.2], [0.3]])
    means = torch.tensor([[0.0], [0.5], [-0.5]])
    distribution = LogisticMixture(torch.zeros(1), means, torch.zeros(3, 1), slopes, 3)
    x = torch.tensor([2, 0, 1])  # in units: 1, -1, 0
    assert distribution.distribution(x, 0)[0].item() == 0
    assert distribution.distribution(x, 1)[0].item() == pytest.approx(0.5 + 0.1 * 1)
    assert distribution.distribution(x, 2)[0].item() == pytest.approx(-0.5 + 0.2 * 1 + 0.3 * -1)


def test_sharp_components_keep_finite_numbers_and_gradients() -> None:
    """Scales at the floor and far beyond, means far off, in float32."""
    outputs = (50 * noise.normal((64, LogisticMixture.rows(3) * 2), noise.stream("sharp"))).requires_grad_()
    x = noise.integers(256, (64, 3), noise.stream("x"))
    distribution = LogisticMixture.of(outputs, 3, 256)
    distribution.log_prob(x).sum().backward()
    assert distribution.log_scales.min() == -7
    assert distribution.log_prob(x).isfinite().all() and outputs.grad is not None and outputs.grad.isfinite().all()
