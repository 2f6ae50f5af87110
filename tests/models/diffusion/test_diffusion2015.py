"""The 2015 model: its two kernels, its learned rates, its bound on data whose entropy is known."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.data import open_source
from genus.kinds import Grid, Tokens, Vectors
from genus.models.diffusion._process import LearnedSteps
from genus.models.diffusion.diffusion2015 import Diffusion2015
from genus.prob import noise
from genus.testing.statistics import LARGEST_Z, z_of_mean


def test_learned_rates_begin_at_one_over_the_steps_that_are_left_and_stay_rates() -> None:
    q = LearnedSteps(40)
    kept = q.alpha_bar
    betas = 1 - kept[1:] / kept[:-1]
    torch.testing.assert_close(betas[1:], 1 / torch.linspace(40, 2, 40).double()[1:], rtol=1e-3, atol=1e-5)
    for size in (-50.0, 50.0):
        torch.nn.init.constant_(q.move, size)
        betas = 1 - q.alpha_bar[1:] / q.alpha_bar[:-1]
        assert float(betas.detach().min()) > 0
        assert float(betas.detach().max()) < 1
        assert float(betas[0].detach()) >= 1e-3 - 1e-12


def test_the_bound_moves_the_rates_as_its_difference_says() -> None:
    """Autograd through the process against a central difference, noise held fixed."""
    model = Diffusion2015.tiny(Vectors(2)).eval()
    assert model.process is not None
    for parameter in model.network.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3, generator=noise.stream("shake"))
    x, h = noise.normal((64, 2), noise.stream("x")), 1e-2

    def bound() -> Tensor:
        return model.losses(Batch(x), noise.stream("loss"))["loss"].double().mean()

    (gradient,) = torch.autograd.grad(bound(), model.process.move)
    for k in (0, 5, 9):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                model.process.move[k] += sign * h
                ends.append(float(bound()))
                model.process.move[k] -= sign * h
        assert abs((ends[0] - ends[1]) / (2 * h) - float(gradient[k])) < 2e-2 * float(gradient.abs().max())


def test_a_step_that_knows_nothing_is_that_of_standard_normal_data() -> None:
    """The network is zero before training, so the bound is that of data N(0, 1): exact for them but for a change in
    the last step."""
    model = Diffusion2015(Vectors(1), timesteps=200).eval()
    x = noise.normal((4000, 1), noise.stream("x"))
    gap = model.log_prob(x, generator=noise.stream("bound")) - torch.distributions.Normal(0.0, 1.0).log_prob(x)[:, 0]
    assert abs(float(gap.mean())) < 0.01


def test_the_loss_estimates_the_bound() -> None:
    for domain in (Vectors(2), Tokens(4, 2), Grid(1, (2, 2), 5)):
        model = Diffusion2015.tiny(domain).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.2, generator=noise.stream("shake"))
        x = model.sample(1, generator=noise.stream("x")).expand(4000, *domain.shape)
        loss = model.losses(Batch(x), noise.stream("loss"))["loss"].double() * domain.num_dims
        terms = model.bound_terms(x, generator=noise.stream("terms"))
        total = terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"]
        assert abs(z_of_mean(loss.detach() - total, 0.0)) < LARGEST_Z
        assert abs(z_of_mean(loss.detach() - total + terms["L_0"], 0.0)) > LARGEST_Z  # without the first step


def test_coins_are_bayes_rule_where_the_network_knows_the_odds() -> None:
    """One bit that is a one with probability 0.2: with the true odds before each step the model is exact."""
    model = Diffusion2015(Tokens(1, 2), timesteps=6, width=8, blocks=1)

    def odds(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        kept = model.flips.kept[(t * 6).round().long() - 1].view(-1, 1)
        p = kept * 0.2 + (1 - kept) / 2
        return torch.logit(p).unsqueeze(1)

    model.outputs_at = odds  # type: ignore[method-assign]
    x = torch.tensor([[0], [1]], dtype=torch.uint8).repeat(2000, 1)
    found = model.log_prob(x, generator=noise.stream("bound")).view(2000, 2)
    for value, p in ((0, 0.8), (1, 0.2)):
        assert abs(z_of_mean(found[:, value].double().exp(), p)) < LARGEST_Z
    drawn = model.sample(20_000, generator=noise.stream("draw")).double()
    assert abs(z_of_mean(drawn, 0.2)) < LARGEST_Z


def test_the_heartbeat_is_what_it_says() -> None:
    source = open_source("heartbeat")
    x = source.train.batch(torch.arange(len(source.train))).x
    source.domain.check(x)
    rows = x.unique(dim=0)
    assert len(rows) == 5
    assert (rows.sum(1) == 4).all()
    assert math.isclose(math.log2(5), 2.3219, abs_tol=1e-4)
    assert all(torch.equal(a, b) for a, b in itertools.pairwise(x[:1].view(4, 5)))


def test_what_it_cannot_model_is_refused() -> None:
    with pytest.raises(ValueError, match="d3pm"):
        Diffusion2015(Tokens(4, 3))
    with pytest.raises(ValueError, match="three axes"):
        Diffusion2015(Grid(1, (2, 2, 2, 2), 2))
    with pytest.raises(ValueError, match="timesteps"):
        Diffusion2015(Vectors(2), timesteps=1)
    with pytest.raises(ValueError, match="labels"):
        Diffusion2015(Vectors(2), Vectors(1))
