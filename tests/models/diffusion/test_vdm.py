"""vdm: its bound in continuous time against closed forms, and what steadies its training."""

import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.kinds import Grid, Vectors
from genus.models.diffusion import _bound
from genus.models.diffusion.vdm import VDM
from genus.prob import noise
from genus.testing.statistics import LARGEST_Z, z_of_mean

COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
LAW = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
STATES = torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]]).double()


class Knowing(VDM):
    """A perfect network, given E[x_0 | x_t] as ``mean(x_t, alpha, sigma)``."""

    def mean(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        raise NotImplementedError

    def outputs_at(self, x: Tensor, t: Tensor, label: Tensor | None) -> tuple[Tensor, ...]:
        alpha, sigma = self.process.at(t, x)
        return (((x.double() - alpha * self.mean(x.double(), alpha, sigma)) / sigma).to(x),)


class KnowsNormal(Knowing):
    """Of two normal numbers with correlation 0.8."""

    def mean(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        total = alpha.square()[..., None] * COVARIANCE + sigma.square()[..., None] * torch.eye(2).double()
        return alpha * torch.linalg.solve(total, x_t) @ COVARIANCE


class KnowsBits(Knowing):
    """Of two binary pixels of known distribution."""

    def mean(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        x_t, alpha, sigma = x_t.flatten(1), alpha.flatten(1), sigma.flatten(1)
        distance = (x_t[:, None] - alpha[..., None] * STATES).square().sum(-1)
        return ((LAW.log() - 0.5 * distance / sigma.square()).softmax(1) @ STATES).view(-1, 1, 1, 2)


@pytest.mark.parametrize("point", [(0.0, 0.0), (1.0, 1.2), (-1.5, 0.5)])
def test_the_bound_of_a_perfect_network_is_the_density(point: tuple[float, float]) -> None:
    """Data begin with a hundredth of noise, too little to be seen; a missing term is."""
    model = KnowsNormal(Vectors(2), timesteps=20, width=8, multipliers=(1,), blocks=1)
    exact = float(torch.distributions.MultivariateNormal(torch.zeros(2).double(), COVARIANCE).log_prob(
        torch.tensor(point).double()
    ))  # fmt: skip
    terms = model.bound_terms(torch.tensor(point).expand(20_000, 2), generator=noise.stream("bound"))
    assert abs(z_of_mean(-_bound.total(terms), exact)) < LARGEST_Z
    assert terms["L_t"].shape == (20_000, 20)
    for missing in ("L_0", "L_t"):
        rest = sum(term if name != "L_t" else term.sum(1) for name, term in terms.items() if name != missing)
        assert abs(z_of_mean(-rest, exact)) > LARGEST_Z  # type: ignore[operator]
    without_a_part = -_bound.total(terms | {"L_t": terms["L_t"][:, 1:]})
    assert abs(z_of_mean(without_a_part, exact)) > LARGEST_Z


def test_what_is_left_at_the_end_is_a_thousandth() -> None:
    model = VDM.tiny(Grid(1, (4, 4), 256))
    terms = model.bound_terms(torch.randint(256, (8, 1, 4, 4), dtype=torch.uint8), generator=noise.stream(0))
    assert 0 < float(terms["L_T"].max()) / 16 < 1e-3
    assert 0 <= float(terms["L_0"].max()) / 16 < 1e-3  # nor does the step to the data cost anything


def test_the_bound_of_binary_pixels_is_their_probability() -> None:
    """With the perfect network nothing is lost but what the clipped estimate and L_0 and L_T cost: next to nothing."""
    model, draws = KnowsBits(Grid(1, (1, 2), 2), timesteps=50, width=8, multipliers=(1, 1), blocks=1), 2000
    x = (STATES > 0).to(torch.uint8).view(4, 1, 1, 2).repeat_interleave(draws, 0)
    nats = model.log_prob(x, generator=noise.stream("bits")).double().view(4, draws)
    for one, p in zip(nats, LAW.log().tolist(), strict=True):
        assert abs(float(one.mean()) - p) < LARGEST_Z * float(one.std()) / draws**0.5 + 1e-3
    assert abs(float(nats.mean(1).exp().sum()) - 1) < 0.02


def test_the_loss_is_the_bound_and_is_steadied() -> None:
    """In the mean the loss is the integral in nats an entry, before and after the levels are drawn by importance,
    and afterwards it varies less."""
    model = KnowsNormal(Vectors(2), timesteps=20, width=8, multipliers=(1,), blocks=1)
    x = torch.tensor([1.0, 1.2]).expand(20_000, 2)
    integral = float(model.bound_terms(x, generator=noise.stream("terms"))["L_t"].sum(1).mean()) / 2
    even = model.losses(Batch(x), noise.stream("even"))["loss"]
    model.train().losses(Batch(x), noise.stream("seen"))
    model.progress(0.5)
    drawn = model.eval().losses(Batch(x), noise.stream("drawn"))["loss"]
    for loss in (even, drawn):
        assert abs(z_of_mean(loss.double(), integral)) < LARGEST_Z
    assert float(drawn.std()) < 0.8 * float(even.std())


def test_the_network_is_told_where_a_number_lies_between_levels() -> None:
    domain = Grid(1, (1, 5), 5)
    model = VDM.tiny(domain)
    levels = model.scaling.encode(torch.arange(5, dtype=torch.uint8).view(1, 1, 1, 5))
    said = model.features(levels)
    assert said.shape == (1, 5, 1, 5)
    torch.testing.assert_close(said[0, 3:, 0], torch.tensor([[0.0] * 5, [1.0] * 5]), rtol=0, atol=1e-5)
    parity = said[0, 2, 0]
    torch.testing.assert_close(parity, parity[0] * torch.tensor([1.0, -1, 1, -1, 1]), rtol=0, atol=1e-5)
    between = model.features(levels + 0.25 * model.between)[0, 3:, 0]
    torch.testing.assert_close(between, torch.tensor([[1.0] * 5, [0.0] * 5]), rtol=0, atol=1e-5)
    rows = torch.zeros(2, 3)
    assert VDM.tiny(Vectors(3)).features(rows) is rows


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="timesteps"):
        VDM(Vectors(2), timesteps=1)
    with pytest.raises(ValueError, match="sampling steps"):
        VDM.tiny(Vectors(2)).sample(1, steps=0)
