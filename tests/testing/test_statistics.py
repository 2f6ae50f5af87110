import math

import pytest
import torch

from genus.prob import noise
from genus.prob.noise import stream
from genus.testing.statistics import CheckError, constant_noise, require, z_of_counts, z_of_mean


def test_z_of_mean_is_standard_normal_for_the_truth_and_large_for_a_bias() -> None:
    x = noise.normal((500, 400), stream("z"), dtype=torch.float64)
    z = torch.tensor([z_of_mean(row, 0.0) for row in x])
    assert abs(float(z.mean())) < 0.2
    assert float(z.std()) == pytest.approx(1, abs=0.15)
    assert float(z.abs().max()) < 5
    assert z_of_mean(noise.normal((10_000,), stream("b")), 0.1) < -5


def test_z_of_mean_of_constant_values() -> None:
    assert z_of_mean(torch.ones(5), 1.0) == 0
    assert z_of_mean(torch.ones(5), 0.9) == math.inf


def test_z_of_counts_is_standard_normal_for_the_truth_and_large_for_a_bias() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = noise.categorical(p.log().expand(300, 2000, 4), stream("counts"))
    z = torch.tensor([z_of_counts(torch.bincount(row, minlength=4), p) for row in draws])
    assert abs(float(z.mean())) < 0.3
    assert float(z.std()) == pytest.approx(1, abs=0.2)
    assert z_of_counts(torch.tensor([1000, 600, 300, 200]), p) > 5
    assert z_of_counts(torch.tensor([1, 0]), torch.tensor([0.0, 1.0])) == math.inf


def test_constant_noise_is_constant_and_goes_away() -> None:
    before = noise.normal
    with constant_noise():
        assert len(noise.normal((3, 2), stream(0)).unique()) == 1
        assert len(noise.categorical(torch.zeros(6, 4), stream(0)).unique()) == 1
    assert noise.normal is before


def test_require_speaks() -> None:
    with pytest.raises(CheckError, match="a reason"):
        require(False, "a reason")
    require(True, "never seen")
