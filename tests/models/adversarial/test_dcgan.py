"""DCGAN: the value of the game by quadrature, and who moves what."""

import math

import pytest
import torch

from genus.contract import Batch
from genus.kinds import Grid
from genus.models.adversarial.dcgan import DCGAN, discriminator_loss, frozen, generator_loss
from genus.prob import noise

DIGIT = Grid(1, (8, 8), 17)


def batch(domain: Grid, count: int = 16) -> Batch:
    return Batch(noise.integers(domain.levels, (count, *domain.shape), noise.stream("data")).to(domain.dtype))


@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
def test_the_perfect_discriminator_measures_the_jensen_shannon_divergence(shift: float) -> None:
    x = torch.linspace(-14, 14, 40_001, dtype=torch.float64)
    data = torch.distributions.Normal(torch.zeros(()).double(), 1.0)
    model = torch.distributions.Normal(torch.tensor(shift).double(), 1.5)
    log_p, log_q = data.log_prob(x), model.log_prob(x)
    p, q = log_p.exp(), log_q.exp()
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    jsd = 0.5 * torch.trapezoid(p * (log_p - log_m) + q * (log_q - log_m), x)
    none = torch.full_like(x, -torch.inf)

    def value(logit: torch.Tensor) -> torch.Tensor:
        real = discriminator_loss(logit, none)  # softplus(-inf) = 0: one side of the loss at a time
        fake = discriminator_loss(-none, logit)
        return -torch.trapezoid(p * real + q * fake, x)

    perfect = log_p - log_q
    assert math.isclose(float(value(perfect)), float(-math.log(4) + 2 * jsd), abs_tol=1e-8)
    for worse in (0.9 * perfect, perfect + 0.1, torch.zeros_like(x)):
        assert value(worse) < value(perfect)
    if shift:
        # what the minimax generator minimises is its side of the same value
        minimax = torch.trapezoid(q * generator_loss(perfect, "minimax"), x)
        real_side = -torch.trapezoid(p * discriminator_loss(perfect, none), x)
        assert math.isclose(float(minimax + real_side), float(-math.log(4) + 2 * jsd), abs_tol=1e-8)


def test_both_generator_losses_pull_the_same_way_and_only_minimax_saturates() -> None:
    for logit in (-8.0, 0.0, 3.0):
        x = torch.tensor(logit, requires_grad=True)
        slope = {}
        for kind in ("non_saturating", "minimax"):
            (slope[kind],) = torch.autograd.grad(generator_loss(x, kind), x)
            assert slope[kind] < 0
        assert torch.isclose(slope["minimax"] / slope["non_saturating"], x.exp())


def test_a_turn_gives_no_gradient_to_the_other_player() -> None:
    model = DCGAN.tiny(DIGIT).train()
    discriminator, generator = model.players()
    generator.losses(batch(DIGIT), noise.stream(0))["loss"].mean().backward()
    assert all(p.grad is None for p in discriminator.parameters)
    assert all(p.grad is not None and p.grad.any() for p in generator.parameters)
    model.zero_grad()
    discriminator.losses(batch(DIGIT), noise.stream(0))["loss"].mean().backward()
    assert all(p.grad is None for p in generator.parameters)
    assert all(p.grad is not None and p.grad.any() for p in discriminator.parameters)
    owned = [id(p) for player in model.players() for p in player.parameters]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def test_the_sum_of_losses_plays_both_turns_at_once() -> None:
    model = DCGAN.tiny(DIGIT).eval()
    generator = noise.stream(0)
    model.losses(batch(DIGIT), generator)["loss"].mean().backward()
    together = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    generator = noise.stream(0)
    for player in model.players():
        player.losses(batch(DIGIT), generator)["loss"].mean().backward()
    for a, b in zip(together, [p.grad for p in model.parameters()], strict=True):
        assert b is not None
        torch.testing.assert_close(a, b)


def test_frozen_passes_gradients_to_its_input_only() -> None:
    layer, x = torch.nn.Linear(3, 1), torch.ones(2, 3, requires_grad=True)
    out = frozen(layer, x)
    torch.testing.assert_close(out, layer(x))
    out.sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None and x.grad.any()


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (28, 28), (31, 17), (2, 2), (3, 5), (64, 48)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size: tuple[int, int], channels: int) -> None:
    domain = Grid(channels, size, 256)
    model = DCGAN.tiny(domain)
    x = model.sample(3, generator=noise.stream(0))
    assert x.shape == (3, channels, *size)
    assert x.dtype == torch.uint8
    assert model.discriminator(model.fakes(3)).shape == (3,)


def test_the_paper_starts_64_pixels_at_1024_channels_of_four() -> None:
    with torch.device("meta"):
        model = DCGAN(Grid(3, (64, 64), 256))
    assert model.generator.start == (4, 4)
    assert model.generator.project.out_features == 1024 * 16
    assert [m.out_channels for m in model.generator.modules() if isinstance(m, torch.nn.ConvTranspose2d)] == [
        512, 256, 128, 3,
    ]  # fmt: skip
    last = [m for m in model.discriminator.modules() if isinstance(m, torch.nn.Linear)]
    assert last[0].in_features == 1024 * 16


def test_first_weights_are_the_papers() -> None:
    torch.manual_seed(0)
    model = DCGAN(Grid(1, (28, 28), 256), width=16)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear):
            count = module.weight.numel()
            assert abs(float(module.weight.detach().std()) / 0.02 - 1) < 5 / math.sqrt(2 * count)


def test_no_criterion_and_grids_of_other_axes_are_refused() -> None:
    assert DCGAN.tiny(DIGIT).criterion(batch(DIGIT)) is None
    for domain in (Grid(1, (8,), 2), Grid(1, (8, 8, 8), 2), Grid(1, (1, 8), 2)):
        with pytest.raises(ValueError, match="dcgan models pictures"):
            DCGAN(domain)
