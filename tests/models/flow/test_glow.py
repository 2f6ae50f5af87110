"""Glow: the determinant and the inverse of each layer, odd sizes, actnorm's start, temperature."""

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, Likelihood
from genus.kinds import Domain, Grid, Label, Vectors
from genus.models.flow._pictures import ActNorm, ChannelCoupling, InvertibleConv, NormedConv, SplitPrior, fold, unfold
from genus.models.flow.glow import Glow, Level, Levels
from genus.prob import noise

DIGIT = Label(tuple("0123456789"))
PICTURES = [
    Grid(1, (8, 8), 17),
    Grid(1, (28, 28), 256),
    Grid(1, (7, 7), 2),
    Grid(3, (6, 5), 256),
    Grid(2, (1, 1), 4),
    Grid(1, (1, 2), 4),
    Grid(1, (1, 9), 300),
    Grid(1, (2, 3), 5),
]


class Few:
    """A split that holds its data in memory."""

    def __init__(self, x: Tensor, label: Tensor | None = None):
        self.x, self.label = x, label

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index], None if self.label is None else self.label[index])


def data(domain: Domain, count: int, key: str = "data") -> Tensor:
    assert domain.levels is not None
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream(key)).to(domain.dtype)


def shaken(module: nn.Module, spread: float = 0.2) -> nn.Module:
    """The module with noise on every weight."""
    generator = noise.stream("shaken")
    with torch.no_grad():
        for p in module.parameters():
            p.add_(spread * noise.normal(tuple(p.shape), generator))
    return module


def awake(domain: Domain, condition: Domain | None = None, spread: float = 0.15) -> Glow:
    """A tiny model that is not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Glow.tiny(domain, condition)
    model.initialise(Few(data(domain, 64), torch.arange(64) % 10))
    shaken(model, spread)
    return model.eval()


def slogdet(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det| of the Jacobian of a map of one datum, by autograd."""
    jacobian = torch.autograd.functional.jacobian(function, x)
    return torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel())).logabsdet


LAYERS = {"actnorm": ActNorm, "1x1 convolution": InvertibleConv, "coupling": lambda c: ChannelCoupling(c, 8)}


def check_log_det(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """A layer's log-det is that of autograd, and it undoes itself."""
    x = noise.normal((1, *shape), noise.stream("x"), dtype=torch.float64)
    z, log_det = layer(x)
    torch.testing.assert_close(log_det[0], slogdet(lambda v: layer(v)[0], x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(layer.inverse(z), x, rtol=1e-9, atol=1e-9)
    assert abs(log_det[0]) > 1e-3


@pytest.mark.parametrize("shape", [(2, 2, 2), (4, 1, 2), (3, 2, 1), (8, 1, 1)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_log_det_of_a_layer_is_that_of_the_jacobian(name: str, shape: tuple[int, int, int]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        check_log_det(shaken(LAYERS[name](shape[0]).double()), shape)


@pytest.mark.parametrize("factor", [-1.0, 0.25])
def test_another_log_det_of_the_convolution_is_noticed(factor: float) -> None:
    """-1: the wrong sign. 1/4: one W in place of the H * W = 4 of them."""

    class Wrong(InvertibleConv):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z, log_det = super().forward(x)
            return z, factor * log_det

    with pytest.raises(AssertionError, match="not close"):
        check_log_det(shaken(Wrong(2).double()), (2, 2, 2))


@pytest.mark.parametrize("channels", [2, 3, 48])
def test_the_convolution_starts_as_a_rotation_and_keeps_its_factors(channels: int) -> None:
    layer = InvertibleConv(channels).double()
    lower, upper = layer._factors()
    w = (lower @ upper)[layer.order]
    torch.testing.assert_close(w @ w.T, torch.eye(channels, dtype=torch.float64), rtol=0, atol=1e-5)
    assert abs(layer.log_s.sum()) < 1e-4
    assert torch.equal(lower.triu(1), torch.zeros_like(lower)) and torch.equal(upper.tril(-1), torch.zeros_like(upper))


def test_log_det_of_what_leaves_is_that_of_the_jacobian() -> None:
    stay, go = (noise.normal((1, 2, 2, 1), noise.stream(k), dtype=torch.float64) for k in ("stay", "go"))
    release = shaken(SplitPrior(nn.Conv2d(2, 4, 3, padding=1))).double()
    z, log_det = release(stay, go)
    torch.testing.assert_close(log_det[0], slogdet(lambda v: release(stay, v)[0], go))
    torch.testing.assert_close(release.inverse(stay, z), go)


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 2, 3), (2, 1, 3), (1, 3, 2), (2, 2, 2), (8, 1, 1)], ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_log_det_of_a_level_is_that_of_the_jacobian(shape: tuple[int, int, int], last: bool) -> None:
    level = shaken(Level(shape, last, steps=2, hidden=8)).double()

    def whole(x: Tensor) -> Tensor:
        stay, go, _ = level(x)
        return torch.cat([stay.flatten(1), go], dim=1)

    x = noise.normal((1, *shape), noise.stream("x"), dtype=torch.float64)
    stay, go, log_det = level(x)
    assert go.shape == (1, level.goes) and stay.shape[1:] == level.stay_shape
    torch.testing.assert_close(log_det[0], slogdet(whole, x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(level.inverse(stay, go), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("domain", [Grid(1, (2, 4)), Grid(2, (2, 2)), Grid(1, (2, 3)), Grid(1, (1, 7))], ids=str)
def test_log_det_of_the_flow_is_that_of_the_jacobian(domain: Grid) -> None:
    model = awake(domain, DIGIT, spread=0.3).double()
    flow, label = model.flow, model.read_condition(torch.tensor([3]))
    x = noise.normal((1, *domain.shape), noise.stream(0), dtype=torch.float64)
    z, log_det = flow(x, label)
    torch.testing.assert_close(log_det[0], slogdet(lambda v: flow(v, label)[0], x), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(flow.inverse(z, label), x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("by", [(2, 2), (1, 2), (2, 1), (1, 1)])
def test_fold_is_undone(by: tuple[int, int]) -> None:
    x = noise.normal((2, 3, 4, 6), noise.stream(0))
    folded = fold(x, by)
    assert folded.shape == (2, 3 * by[0] * by[1], 4 // by[0], 6 // by[1])
    assert torch.equal(unfold(folded, by), x)
    if by == (2, 2):
        assert torch.equal(folded, nn.functional.pixel_unshuffle(x, 2))


@pytest.mark.parametrize("domain", PICTURES, ids=str)
def test_pictures_of_any_size_come_back_bit_for_bit(domain: Grid) -> None:
    model, x = awake(domain, spread=0.05), data(domain, 8)
    z = model.encode(x)
    assert z.shape == (8, domain.num_dims)
    assert torch.equal(model.decode(z), x)
    domain.check(model.sample(3, generator=noise.stream(1)))
    with torch.no_grad():
        y, _ = model.continuous(x, noise.stream(2))
        assert (model.flow.inverse(model.flow(y, None)[0], None) - y).abs().max() < 1e-3


def test_an_odd_size_keeps_three_levels() -> None:
    flow = Levels((1, 28, 28), levels=3, steps=1, hidden=4)
    assert [level.stay_shape for level in flow.levels] == [(2, 14, 14), (4, 7, 7), (16, 3, 3)]
    assert [level.pixels for level in flow.levels] == [0, 0, 4 * 13]
    assert sum(flow.sizes) == 784


def test_probabilities_of_all_pictures_of_an_odd_size_are_those_of_the_flow() -> None:
    model = awake(Grid(1, (2, 3), 2), spread=0.1)
    states = torch.tensor(list(itertools.product((0, 1), repeat=6)), dtype=torch.uint8).view(-1, 1, 2, 3)
    draws = 1500
    with torch.no_grad():
        log_w = model.log_prob(states.repeat(draws, 1, 1, 1), generator=noise.stream("draws")).double().view(draws, 64)
        y = model.flow.inverse(noise.normal((20_000, 6), noise.stream("mass")), None)
    inside = log_w.exp().sum(1)
    v = (y.sigmoid() - model.dequantization.alpha) / (1 - 2 * model.dequantization.alpha)
    mass = ((v > 0) & (v < 1)).flatten(1).all(1).double().mean()  # what lies beyond the logit's ends is wasted
    assert abs(inside.mean() - mass) < 4 * (inside.std() / math.sqrt(draws) + 0.5 / math.sqrt(20_000))
    assert model.likelihood is Likelihood.BOUND
    assert log_w.mean(0).exp().sum() < inside.mean()


def fresh(seed: int = 0) -> Glow:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Glow.tiny(Grid(1, (8, 8), 17))


def test_the_actnorms_start_with_mean_zero_and_variance_one() -> None:
    model, split = fresh(), Few(data(Grid(1, (8, 8), 17), 256) // 2)
    model.initialise(split)
    seen: list[Tensor] = []
    layers = [layer for layer in model.modules() if isinstance(layer, ActNorm | NormedConv)]
    for layer in layers:
        layer.register_forward_hook(
            lambda layer, x, out: seen.append((out[0] if isinstance(out, tuple) else out).clone())
        )
    batch, generator = model.some(split, 256)
    with torch.no_grad():
        model.flow(model.continuous(batch.x, generator)[0], None)
    assert len(seen) == len(layers) == 2 * 2 * 3
    for out in seen:
        torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(out.shape[1]), atol=1e-3, rtol=0)
        torch.testing.assert_close(out.std((0, 2, 3)), torch.ones(out.shape[1]), atol=1e-2, rtol=0)


def loads_all_of_it(loaded: Glow, model: Glow) -> bool:
    """Whether a model loaded from another's file gives the same numbers."""
    file = safetensors.save({name: value.clone().contiguous() for name, value in model.state_dict().items()})
    loaded.load_state_dict(safetensors.load(file), strict=False)
    x = data(model.domain, 8)
    first, second = (m.log_prob(x, generator=noise.stream(0)) for m in (model, loaded))
    return torch.equal(first, second) and torch.equal(model.encode(x), loaded.encode(x))


def test_the_start_survives_a_checkpoint_and_a_mutant_that_forgets_does_not() -> None:
    model = fresh()
    model.initialise(Few(data(model.domain, 200) // 2))
    assert loads_all_of_it(fresh(seed=1), model)
    forgetful = fresh(seed=1)  # keeps its actnorms to itself
    for layer in forgetful.modules():
        if isinstance(layer, ActNorm):
            layer._load_from_state_dict = lambda *args: None  # type: ignore[method-assign]
    assert not loads_all_of_it(forgetful, model)


@pytest.mark.slow
def test_a_run_that_is_killed_ends_in_the_same_bits(tmp_path: Path) -> None:
    def start(out: Path) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "genus", "train", "glow", "--data", "digits", "--out", str(out), "--quiet",
                "--checkpoint-seconds", "0", "--steps", "40", "--batch-size", "12", "--limit", "200",
                "--steps-per-level", "2", "--hidden", "8", "--dequantization", "variational"]  # fmt: skip
        return subprocess.Popen(line, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)

    def weights(out: Path) -> dict[str, bytes]:
        newest = max((out / "checkpoints").iterdir(), key=lambda path: path.name)
        return {path.name: path.read_bytes() for path in newest.glob("*.safetensors")}

    assert start(tmp_path / "whole").wait(300) == 0
    process = start(tmp_path / "stopped")
    while not list((tmp_path / "stopped").glob("checkpoints/*1*/*.safetensors")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) != 0
    assert start(tmp_path / "stopped").wait(300) == 0
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def test_training_keeps_it_invertible_and_beats_independent_pixels() -> None:
    # checkerboards of either parity: one bit of entropy, where independent pixels have 16
    board = ((torch.arange(4)[:, None] + torch.arange(4)) % 2).to(torch.uint8)
    x = torch.stack([board, 1 - board])[:, None].repeat(200, 1, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Glow(Grid(1, (4, 4), 2), steps_per_level=2, levels=2, hidden=16, alpha=0.05)
    model.initialise(Few(x))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(120):
        batch = Batch(x[noise.integers(len(x), (64,), noise.stream("batch", step))])
        optimizer.zero_grad()
        model.losses(batch, noise.stream("noise", step))["loss"].mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 50)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        nats = -model.log_prob(x[:64], num_samples=8, generator=noise.stream("score")).mean()
        y, _ = model.continuous(x[:64], noise.stream("y"))
        z, _ = model.flow(y, None)
        assert (model.flow.inverse(z, None) - y).abs().max() < 1e-4
        assert model.symptoms(Batch(x[:16]), noise.stream("symptoms")) == []
    assert math.log(2) - 0.02 < nats < 8 * math.log(2)


def test_lost_invertibility_is_a_symptom() -> None:
    model = fresh()
    model.initialise(Few(data(model.domain, 64)))
    with torch.no_grad():
        model.flow.levels[0].steps[0].layers[0].log_scale[0, 0] = -60  # squeezes a channel flat
        model.flow.levels[0].steps[0].layers[0].shift[0, 0] = 1e30
        found = model.symptoms(Batch(data(model.domain, 4)), noise.stream(0))
    assert [symptom.name for symptom in found] == ["lost invertibility"]


def test_temperature_scales_the_noise() -> None:
    model = awake(Grid(1, (8, 8), 256), spread=0.05)
    cold = model.sample(4, temperature=0.0)
    assert torch.equal(cold, cold[:1].expand(4, -1, -1, -1))
    spread = [
        model.sample(200, generator=noise.stream(5), temperature=t).double().std(0).mean() for t in (0.1, 0.7, 1.0)
    ]
    assert spread[0] < spread[1] < spread[2]
    z = noise.normal((4, 64), noise.stream(6))
    assert torch.equal(model.sample(4, generator=noise.stream(6), temperature=0.7), model.decode(0.7 * z))
    with pytest.raises(ValueError, match="temperature"):
        model.sample(1, temperature=-0.1)


def test_the_label_chooses_the_top_prior() -> None:
    model = awake(Grid(1, (4, 4), 17), DIGIT)
    x, three, four = data(model.domain, 5), torch.full((5,), 3), torch.full((5,), 4)
    one, other = (model.log_prob(x, condition=c, generator=noise.stream(0)) for c in (three, four))
    assert (one - other).abs().min() > 1e-3
    assert torch.equal(model.decode(model.encode(x, condition=three), condition=three), x)
    z = [model.encode(x, condition=c)[:, : -math.prod(model.flow.top_shape)] for c in (three, four)]
    assert torch.equal(z[0], z[1])  # the noise of the finer levels does not know the label


def test_the_flow_keeps_its_precision_when_the_networks_lose_theirs() -> None:
    model = awake(Grid(1, (8, 8), 17), spread=0.05)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y, _ = model.continuous(data(model.domain, 4), noise.stream(0))
        z, log_det = model.flow(y, None)
        back = model.flow.inverse(z, None)
    assert z.dtype == log_det.dtype == torch.float32
    assert (back - y).abs().max() < 0.1


@pytest.mark.parametrize(
    ("domain", "says"),
    [(Grid(1, (1, 1)), "needs two entries"), (Grid(1, (4, 4, 4)), "not grids of 3"), (Vectors(3), "models grid")],
    ids=str,
)
def test_refuses_with_a_reason(domain: Domain, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Glow(domain)  # type: ignore[arg-type]


def test_bad_settings_are_named() -> None:
    model: type[GenerativeModel] = Glow
    for setting in ({"levels": 0}, {"steps_per_level": 0}, {"hidden": 0}, {"alpha": 0.7}, {"dequantization": "none"}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            model(Grid(1, (4, 4)), **setting)  # type: ignore[arg-type]
