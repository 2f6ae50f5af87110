"""The density of the probability flow against that of a mixture."""

import pytest
import torch
from worlds import PROCESSES, mixture, perfect

from genus.models.diffusion import _ode
from genus.prob import noise
from genus.testing.statistics import LARGEST_Z, z_of_mean


@pytest.mark.parametrize("name", PROCESSES)
def test_the_estimate_is_the_density_within_its_standard_error(name: str) -> None:
    q, distribution = PROCESSES[name], mixture()
    x = distribution.sample(8, noise.stream("x")).repeat(64, 1)  # as many draws of the signs
    found = _ode.log_density(q, perfect(q, distribution), x, steps=40, generator=noise.stream("signs")).view(64, 8)
    exact = distribution.log_prob(x[:8])
    assert all(abs(z_of_mean(found[:, i], float(exact[i]))) < LARGEST_Z for i in range(8))
    # signs of one entry alone have no error at all: the trace of one number is that number
    assert float(found.std(0).max()) > 0


def test_one_dimension_leaves_nothing_to_chance() -> None:
    q, distribution = PROCESSES["straight"], mixture()  # some others end with a trace of the data
    line = type(distribution)(distribution.weights, distribution.means[:, :1], distribution.scales)
    x = torch.linspace(-2, 2, 9).double().unsqueeze(1)
    found = _ode.log_density(q, perfect(q, line), x, steps=60, generator=noise.stream("signs"))
    torch.testing.assert_close(found, line.log_prob(x), rtol=0, atol=1e-3)
    wrong = _ode.log_density(q, lambda x, t: perfect(q, line)(x, t) + 0.3, x, steps=60, generator=noise.stream("signs"))
    assert float((wrong - line.log_prob(x)).abs().max()) > 0.1


def test_steps_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="steps"):
        _ode.path(1e-3, 1.5, 1)
