"""WaveNet: what it reads, that it is a distribution, that both walks are the full pass, and what edits keep."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.kinds import Domain, Grid, Label, Tokens, Waveform
from genus.models.autoregressive import _wavenet_numba as fast
from genus.models.autoregressive.wavenet import Layer, Walker, WaveNet
from genus.prob import noise
from genus.testing.checks._common import AlienDomain
from genus.testing.oracles import all_states, check_causal, state_index
from genus.testing.statistics import CheckError

LABEL, SLOW = Label(("a", "b")), Tokens(3, 4)
SOUND, WORDS = Waveform(11, 8000, 9), Tokens(11, 9)
SMALL: dict[str, Any] = {"cycles": 2, "dilations": (1, 2, 4), "residual": 5, "gated": 6, "skip": 7, "head": 9}
compiled = pytest.mark.skipif(not fast.available(), reason="needs numba")


def build(domain: Domain, condition: Domain | None = None, **settings: Any) -> WaveNet:
    """A model with weights so large that what is read shows."""
    model = WaveNet(domain, condition, **{**SMALL, **settings})  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        parameter.data = 0.5 * noise.normal(tuple(parameter.shape), noise.stream(name))
    return model.eval()


def data(domain: Domain, count: int = 3, key: str = "x") -> Tensor:
    return noise.integers(domain.levels or 2, (count, *domain.shape), noise.stream(key)).to(domain.dtype)


def given(condition: Domain | None, count: int = 3) -> Tensor | None:
    return None if condition is None else data(condition, count, "condition")


def full_pass(model: WaveNet) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.logits(x, given(model.condition, len(x)))

    return function


@pytest.mark.parametrize("condition", [None, LABEL, SLOW], ids=["", "label", "sequence"])
def test_an_entry_sees_only_those_before_it(condition: Domain | None) -> None:
    check_causal(full_pass(build(SOUND, condition)), data(SOUND), SOUND.levels)


def read_the_present(model: WaveNet) -> None:
    """The input not shifted: an entry is given to itself."""
    model.embed.weight.data[0] = 5.0
    model.logits = lambda x, condition=None: model.head(  # type: ignore[method-assign]
        torch.cat([layer(model.embed(x.long()), None)[1] for layer in model.layers], -1)
    )


def read_the_future(model: WaveNet) -> None:
    """Padded at the wrong end: layers read what comes a dilation later."""
    for layer in model.layers:

        def forward(h: Tensor, told: Tensor | None, layer: Any = layer) -> tuple[Tensor, Tensor]:
            then = torch.nn.functional.pad(h, (0, 0, 0, layer.dilation))[:, -h.shape[1] :]
            return layer.at(then, h, told)

        layer.forward = forward  # type: ignore[method-assign]


@pytest.mark.parametrize("break_it", [read_the_present, read_the_future])
def test_a_leak_is_noticed(break_it: Callable[[WaveNet], None]) -> None:
    model = build(SOUND)
    break_it(model)
    with pytest.raises(CheckError, match="moves the output"):
        check_causal(full_pass(model), data(SOUND), SOUND.levels)


def test_it_sees_as_far_back_as_it_says() -> None:
    """1 + cycles * sum of dilations samples: 1 + 2 * 3 = 7, and not one more."""
    model = build(SOUND, dilations=(1, 2))
    x = data(SOUND, 1)
    before = full_pass(model)(x)
    reach = []
    for place in range(SOUND.length - 1):
        changed = x.clone()
        changed[0, place] = (changed[0, place] + 1) % SOUND.levels
        moved = (full_pass(model)(changed) != before).any(2)[0]
        reach.append(int(moved.nonzero().max()) - place)
    assert max(reach) == 7


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [Waveform(3, 8000, 3), Tokens(6, 2)], ids=str)
@pytest.mark.parametrize("condition", [None, LABEL, Tokens(2, 2)], ids=["", "label", "sequence"])
def test_probabilities_of_all_states_sum_to_one(domain, condition, dtype, tolerance) -> None:
    model, states, distributions = build(domain, condition).to(dtype), all_states(domain), []
    for value in itertools.product(range(2), repeat=condition.num_dims if condition else 0):
        told = None if condition is None else torch.tensor(value).view(condition.shape).to(condition.dtype)
        with torch.no_grad():
            many = None if told is None else told.expand(len(states), *told.shape)
            distributions.append(model.log_prob(states, condition=many).double())
    assert all(abs(distribution.exp().sum().item() - 1) < tolerance for distribution in distributions)
    for one, other in itertools.combinations(distributions, 2):
        assert (one.exp() - other.exp()).abs().sum() > 0.01  # each condition has a distribution of its own


def stepwise_logits(model: WaveNet, x: Tensor, condition: Tensor | None) -> Tensor:
    """The logits that the chain rule gives where the data are ``x``."""
    walk, found = model.chain_rule(len(x), condition=condition), []
    with torch.no_grad():
        place, logits = next(walk)
        while True:
            found.append(logits)
            try:
                place, logits = walk.send(x[:, place].long())
            except StopIteration:
                return torch.stack(found, 1)


def compiled_logits(model: WaveNet, x: Tensor, condition: Tensor | None) -> Tensor:
    """The same by the compiled walk."""
    found = np.empty((*x.shape, model.domain.levels), np.float32)
    with torch.no_grad():
        told, u = model.tell(condition, len(x)), torch.zeros(x.shape, dtype=torch.float64)
        assert torch.equal(
            fast.walk(model.weights(), model.place, told, x, torch.ones_like(x, dtype=torch.bool), u, found), x.long()
        )
    return torch.from_numpy(found)


CASES = [
    (SOUND, None, {}),
    (SOUND, LABEL, {}),
    (SOUND, SLOW, {}),  # 11 entries over 3 steps: no whole number each
    (WORDS, None, {"dilations": (1, 16)}),  # farther than the data are long
    (Waveform(40, 8000), LABEL, {"residual": 13, "gated": 3, "skip": 17, "head": 10}),  # no whole number of rows
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("domain", "condition", "settings"), CASES, ids=str)
def test_the_chain_rule_is_the_full_pass(domain, condition, settings, dtype, tolerance) -> None:
    model, x, told = build(domain, condition, **settings).to(dtype), data(domain), given(condition)
    with torch.no_grad():
        full = model.logits(x, told)
    assert full.dtype == dtype
    torch.testing.assert_close(stepwise_logits(model, x, told), full, rtol=tolerance, atol=tolerance)


@compiled
@pytest.mark.parametrize(("domain", "condition", "settings"), CASES, ids=str)
def test_the_compiled_walk_is_the_full_pass(domain, condition, settings) -> None:
    model, x, told = build(domain, condition, **settings), data(domain), given(condition)
    with torch.no_grad():
        full = model.logits(x, told)
    gap = (compiled_logits(model, x, told) - full).abs().max()
    assert full.std() > 0.5 and gap < 1e-4


def test_a_walk_with_a_wrong_queue_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build(SOUND), data(SOUND)
    start = Walker.__init__

    def shorter(self: Walker, *arguments: Any) -> None:
        start(self, *arguments)
        self.memory[1] = self.memory[1][:1]

    monkeypatch.setattr(Walker, "__init__", shorter)
    with torch.no_grad():
        assert (stepwise_logits(model, x, None) - model.logits(x)).abs().max() > 0.01


@compiled
def test_a_compiled_walk_with_a_wrong_queue_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build(SOUND), data(SOUND)
    weights = model.weights()
    monkeypatch.setattr(model, "weights", lambda: weights._replace(dilations=np.array([1, 2, 4, 1, 2, 3])))
    with torch.no_grad():
        assert (compiled_logits(model, x, None) - model.logits(x)).abs().max() > 0.01


@compiled
def test_the_polynomials_are_tanh_and_sigmoid() -> None:
    a = torch.linspace(-30, 30, 20_001)
    both, z = np.concatenate([a.numpy(), a.flip(0).numpy()]), np.empty(len(a), np.float32)
    fast._gated(z, both)  # the function as it is compiled, run by Python
    exact = a.double().tanh() * a.flip(0).double().sigmoid()
    assert (torch.from_numpy(z) - exact).abs().max() < 1e-6


@compiled
def test_both_walks_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Waveform(60, 8000, 32)
    model = build(domain, LABEL)
    told, keep = torch.arange(8) % 2, noise.uniform((8, 60), noise.stream("keep")) < 0.3
    x = data(domain, 8)

    def draws() -> tuple[Tensor, Tensor]:
        drawn = model.sample(8, condition=told, generator=noise.stream("same"))
        return drawn, model.edit(x, keep, condition=told, generator=noise.stream("same"))

    ours = draws()
    monkeypatch.setattr(fast, "available", lambda: False)
    for one, other in zip(ours, draws(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("with_numba", [pytest.param(True, marks=compiled), False], ids=["compiled", "torch"])
def test_samples_follow_log_prob(with_numba: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "available", lambda: with_numba)
    domain, count = Tokens(3, 3), 10_000
    model, states = build(domain, SLOW), all_states(domain)
    told = torch.tensor([[0, 3, 1]], dtype=torch.uint8).expand(count, 3)
    drawn = model.sample(count, condition=told, generator=noise.stream("draw"))
    with torch.no_grad():
        p = model.log_prob(states, condition=told[: len(states)]).double().exp()
    z = z_of(state_index(drawn, domain), p, count)
    assert len(z) > 3 and z.abs().max() < 4.5


def z_of(index: Tensor, p: Tensor, count: int) -> Tensor:
    """z-scores of how often each state came."""
    counts, likely = torch.bincount(index, minlength=len(p)).double(), count * p > 5
    return ((counts - count * p) / (count * p * (1 - p)).sqrt())[likely]


def test_a_completion_follows_the_decoder_distribution_the_beginning() -> None:
    domain, count = Waveform(4, 8000, 2), 10_000
    model, states = build(domain), all_states(domain)
    x = torch.tensor([1, 0, 0, 0], dtype=torch.uint8).expand(count, 4)
    keep = torch.tensor([True, True, False, False]).expand(count, 4)
    edited = model.edit(x, keep, generator=noise.stream("edit"))
    assert torch.equal(edited[keep], x[keep])
    with torch.no_grad():
        distribution = model.log_prob(states).double()
    possible = (states[:, :2] == torch.tensor([1, 0])).all(1)
    p = torch.where(possible, distribution, -torch.inf).softmax(0)
    z = z_of(state_index(edited, domain), p, count)
    assert len(z) == 4 and z.abs().max() < 4.5


def test_a_sequence_of_conditions_acts_where_it_belongs() -> None:
    """11 entries over 3 steps: the last step begins at entry 8 (8 * 3 // 11 = 2)."""
    model, x = build(SOUND, SLOW), data(SOUND, 1)
    one, other = torch.tensor([[0, 1, 2]], dtype=torch.uint8), torch.tensor([[0, 1, 3]], dtype=torch.uint8)
    with torch.no_grad():
        moved = (model.logits(x, one) != model.logits(x, other)).any(2)[0]
    assert moved.tolist() == [False] * 8 + [True] * 3


def test_chunks_of_a_large_batch_are_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from genus.models.autoregressive import wavenet

    model, x, told = build(SOUND, LABEL), data(SOUND, 7), torch.arange(7) % 2
    with torch.no_grad():
        whole = model.log_prob(x, condition=told)
        monkeypatch.setattr(wavenet, "POSITIONS", 25)
        torch.testing.assert_close(model.log_prob(x, condition=told), whole)


def test_it_starts_at_the_frequencies_of_the_data() -> None:
    from genus.data.source import TensorSplit

    x = torch.full((5, 11), 3, dtype=torch.uint8)
    model = WaveNet(SOUND, **SMALL)
    model.initialise(TensorSplit(x))
    assert math.isclose(model.head[-1].bias.exp()[3].item(), 56 / 64, rel_tol=1e-5)  # one is added to each count


def test_learns_a_rhythm_that_a_markov_chain_cannot() -> None:
    """Every entry repeats that of 4 steps ago: after the first 4 nothing is left to say."""
    domain = Tokens(16, 4)
    x = noise.integers(4, (64, 4), noise.stream("rhythm")).repeat(1, 4).to(torch.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WaveNet(domain, cycles=1, dilations=(1, 2, 4), residual=16, gated=16, skip=24, head=24)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(100):
        optimizer.zero_grad()
        model.losses(Batch(x))["loss"].mean().backward()
        optimizer.step()
    bits = -model.log_prob(x).mean().item() / math.log(2) / 16
    assert bits < 0.75  # 4 * 2 bits / 16 = 0.5; a chain of order 1 has 2


def test_the_published_size() -> None:
    model = WaveNet(Waveform(100, 16000))
    layers = [layer for layer in model.layers if isinstance(layer, Layer)]
    assert [layer.dilation for layer in layers] == [2**k for k in range(10)] * 3
    assert 530_000 < model.num_parameters < 545_000


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"waveform and tokens data"):
        WaveNet(Grid(1, (4, 4), 2))
    with pytest.raises(ValueError, match=r"dilations: expected .*got \(\)"):
        WaveNet(SOUND, dilations=())
    with pytest.raises(ValueError, match=r"skip: expected at least 1; got 0"):
        WaveNet(SOUND, skip=0)
    with pytest.raises(ValueError, match=r"is conditioned on labels"):
        WaveNet(SOUND, AlienDomain())
    with pytest.raises(ValueError, match=r"keep: expected booleans"):
        build(SOUND).edit(data(SOUND), data(SOUND))
    with pytest.raises(ValueError, match=r"give one"):
        build(SOUND, SLOW).sample(2)


def test_neighbouring_codes_start_alike() -> None:
    weight = WaveNet(Waveform(8, 8000)).embed.weight
    step, any_two = weight.diff(dim=0).square().mean(), 2 * weight.var(0).mean()
    assert step < 0.01 * any_two
