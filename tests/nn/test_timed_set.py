"""The network for clouds: order and number of points."""

import pytest
import torch

from genus.nn.timed_set import TimedSet
from genus.prob import noise


def awake(**settings: int) -> TimedSet:
    """A network whose zero parameters are not zero any more."""
    network, generator = TimedSet(3, width=16, blocks=2, **settings), noise.stream("timed set")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * noise.normal(tuple(parameter.shape), generator))
    return network


def test_another_order_of_the_points_gives_the_answers_in_that_order() -> None:
    network, x = awake(outputs=2), noise.normal((4, 7, 3), noise.stream(0))
    t, order = torch.tensor([0.1, 0.4, 0.4, 1.0]), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    said = network(x, t)
    assert said.shape == (4, 2, 7, 3)
    torch.testing.assert_close(network(x[:, order], t), said[:, :, order], rtol=1e-4, atol=1e-4)
    moved = x.clone()
    moved[:, 0] += 1
    assert (network(moved, t) != said)[:, :, 1:].any()  # every point looks at every other one
    assert (network(x, t.flip(0)) != said)[0].any()  # and is told the time
    assert network(x[:, :5], t).shape == (4, 2, 5, 3)


def test_heads_must_share_the_width() -> None:
    assert not TimedSet(2, width=8)(torch.ones(1, 3, 2), torch.ones(1)).any()  # nothing before training
    with pytest.raises(ValueError, match="multiple of 4"):
        TimedSet(3, width=10)
