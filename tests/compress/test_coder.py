"""The coder against oracles of its own: integer arithmetic, log_prob, sums; and mutants that must fail."""

import math
from collections.abc import Callable

import constriction
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genus import registry
from genus.compress import coder
from genus.compress.coder import TOTAL, decode, encode, frequencies, most_in_block
from genus.contract import Batch, FitsInClosedForm, GenerativeModel, HasConditionals, HasLogProb, Walk
from genus.data.source import TensorSplit
from genus.errors import DataFormatError
from genus.kinds import Grid, Label
from genus.models.autoregressive.histogram import Histogram
from genus.models.autoregressive.nade import NADE
from genus.prob import chain, noise

SIGNERS = [  # that model pictures
    name
    for name in registry.names()
    if issubclass(registry.get(name), HasConditionals) and registry.get(name).refuses(Grid(1, (8, 8), 17)) is None
]
LABELS = Label(("a", "b", "c"))


def model_of(name: str, domain: Grid, condition: Label | None = None, seed: int = 0) -> GenerativeModel:
    """A tiny model away from its starting point."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = registry.get(name).tiny(domain, condition)
    generator = noise.stream("compress", seed)
    for parameter in model.parameters():
        parameter.data += noise.normal(tuple(parameter.shape), generator)
    if isinstance(model, FitsInClosedForm):
        model.fit(split_of(domain, 40, condition, seed + 1))
    return model.requires_grad_(False).eval()


def split_of(domain: Grid, count: int, condition: Label | None = None, seed: int = 0) -> TensorSplit:
    generator = noise.stream("data", seed)
    x = noise.integers(domain.levels, (count, *domain.shape), generator).to(domain.dtype)
    return TensorSplit(x, None if condition is None else noise.integers(condition.count, (count,), generator))


def batch_of(domain: Grid, count: int, condition: Label | None = None, seed: int = 0) -> Batch:
    return split_of(domain, count, condition, seed).batch(torch.arange(count))


# -- the role -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNERS)
@pytest.mark.parametrize("condition", [None, LABELS])
@pytest.mark.parametrize("domain", [Grid(1, (2, 3), 2), Grid(2, (1, 3), 3), Grid(3, (2, 2), 5)], ids=str)
def test_the_chain_of_conditionals_is_log_prob(name: str, domain: Grid, condition: Label | None) -> None:
    if refusal := registry.get(name).refuses(domain):
        pytest.skip(refusal)
    model = model_of(name, domain, condition).double()
    x, label, _ = batch_of(domain, 7, condition)
    assert isinstance(model, HasLogProb) and isinstance(model, HasConditionals)
    with torch.no_grad():
        walked = chain.score(model.chain_rule(7, condition=label), x.flatten(1)).double()
    torch.testing.assert_close(walked, model.log_prob(x, condition=label).double(), rtol=1e-9, atol=1e-9)


def test_the_first_models_have_signed() -> None:
    named = {"histogram", "markov", "nade", "made", "deep_nade", "conv_nade", "pixelcnn", "gated_pixelcnn", "pixelrnn"}
    assert named <= set(SIGNERS)


# -- whole numbers --------------------------------------------------------------------------


@given(st.integers(2, 300), st.floats(0, 60), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_frequencies_are_whole_positive_and_close(levels: int, spread: float, seed: int) -> None:
    logits = spread * noise.normal((5, levels), noise.stream(seed), dtype=torch.float64)
    whole = frequencies(logits)
    assert (whole.sum(-1) == TOTAL).all() and (whole >= 1).all()
    assert ((whole / TOTAL - logits.softmax(-1)).abs() <= levels / TOTAL).all()


def test_frequencies_of_extreme_laws() -> None:
    certain = frequencies(torch.tensor([[0.0, -math.inf, -1e9]]))
    assert certain.tolist() == [[TOTAL - 2, 1, 1]]
    many = frequencies(torch.zeros(1, 1 << 16))
    assert many.min() >= 1 and many.sum() == TOTAL
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="NaN or infinity"):
            frequencies(torch.tensor([[0.0, bad]]))


@given(st.lists(st.floats(-40, 10), min_size=2, max_size=20))
@settings(max_examples=60, deadline=None)
def test_the_range_coder_uses_exactly_our_frequencies(logits: list[float]) -> None:
    """A fresh decoder reads 24 bits and looks in which level's interval they lie: try both ends of each."""
    whole = frequencies(torch.tensor([logits]))
    ends = whole.cumsum(-1)[0]
    for level, (first, end) in enumerate(zip((ends - whole[0]).tolist(), ends.tolist(), strict=True)):
        for quantile in (first, end - 1):
            words = np.array([quantile << 8, 0], np.uint32)
            found = constriction.stream.queue.RangeDecoder(words).decode(coder.LAW, coder._weights(whole))
            assert int(found[0]) == level


# -- there and back -------------------------------------------------------------------------


@given(
    st.sampled_from(SIGNERS), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.sampled_from([2, 3, 17, 300]),
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, Label(("one",)), LABELS]), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_the_data_they_come_back(
    name: str, channels: int, height: int, width: int, levels: int, count: int, block: int,
    condition: Label | None, seed: int,
) -> None:  # fmt: skip
    domain = Grid(channels, (height, width), levels)
    if registry.get(name).refuses(domain):
        return
    model = model_of(name, domain, condition, seed)
    x, label, _ = batch_of(domain, count, condition, seed)
    back, back_label = decode(model, encode(model, x, label, block=block), count, block=block)
    assert back.dtype == x.dtype and torch.equal(back, x)
    assert (back_label is None) if label is None else torch.equal(back_label, label)


def test_what_has_probability_zero_can_be_coded_too() -> None:
    domain = Grid(1, (2, 2), 3)
    model = Histogram(domain, smoothing=0.0)
    model.fit(TensorSplit(torch.zeros(5, 1, 2, 2, dtype=torch.uint8)))
    x = torch.full((4, 1, 2, 2), 2, dtype=torch.uint8)
    assert model.log_prob(x).isneginf().all()
    content = encode(model, x)
    assert torch.equal(decode(model, content, 4)[0], x)
    assert 8 * len(content) == pytest.approx(16 * 24, abs=64)


@pytest.mark.parametrize("name", SIGNERS)
@pytest.mark.parametrize("condition", [None, LABELS])
def test_the_size_is_the_information(name: str, condition: Label | None) -> None:
    domain = Grid(1, (6, 6), 4)
    if refusal := registry.get(name).refuses(domain):
        pytest.skip(refusal)
    model = model_of(name, domain, condition)
    _, label, _ = batch_of(domain, 300, condition, seed=5)
    x = model.sample(300, condition=label, generator=noise.stream("own"))  # its own: none below 2^-24
    bits = -float(model.log_prob(x, condition=label).double().sum()) / math.log(2) + (
        300 * math.log2(3) if condition else 0
    )
    assert abs(8 * len(encode(model, x, label)) - bits) <= 64 + 1e-4 * bits


def test_threads_are_put_back_also_after_an_error() -> None:
    domain = Grid(1, (2, 2), 2)
    model, x = model_of("nade", domain), batch_of(domain, 3).x
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        encode(model, x)
        assert torch.get_num_threads() == 2
        with pytest.raises(DataFormatError):
            decode(model, bytes(6), 3)
        model.b.data.fill_(math.nan)
        with pytest.raises(ValueError, match="NaN"):
            encode(model, x)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_model_is_left_as_it_was() -> None:
    model = model_of("nade", Grid(1, (2, 2), 2)).train()
    encode(model, batch_of(model.domain, 3).x)
    assert model.training and model.w.dtype == torch.float32


def test_the_decoder_computes_in_one_thread_whatever_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    rule = coder.frequencies
    monkeypatch.setattr(coder, "frequencies", lambda z: (seen.append((torch.get_num_threads(), z.dtype)), rule(z))[1])
    model = model_of("nade", Grid(1, (2, 2), 2))
    decode(model, encode(model, batch_of(model.domain, 3).x), 3)
    assert set(seen) == {(1, torch.float64)}


# -- what must fail -------------------------------------------------------------------------


def remainder_to_the_last(logits: Tensor) -> Tensor:
    """A mutant of `frequencies`: what is left over goes to the last level."""
    p = logits.double().softmax(-1)
    whole = 1 + (p * (TOTAL - p.shape[-1])).floor().long()
    whole[..., -1] += TOTAL - whole.sum(-1)
    return whole


def rounded_to_half(logits: Tensor) -> Tensor:
    """A mutant: probabilities from half precision."""
    return frequencies(logits.half())


@pytest.mark.parametrize("rule", [remainder_to_the_last, rounded_to_half])
def test_a_decoder_with_another_rule_fails(rule: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Grid(1, (8, 8), 17)
    model, x = model_of("nade", domain), batch_of(domain, 64).x
    content = encode(model, x)
    monkeypatch.setattr(coder, "frequencies", rule)
    try:
        back, _ = decode(model, content, len(x))
    except DataFormatError:
        return
    assert not torch.equal(back, x)


def test_a_weight_off_by_a_millionth_is_noticed() -> None:
    domain = Grid(1, (8, 8), 2)
    model, x = model_of("nade", domain), batch_of(domain, 200).x
    content = encode(model, x)
    model.c.data *= 1 + 1e-6
    try:
        back, _ = decode(model, content, len(x))
    except DataFormatError:
        return
    assert not torch.equal(back, x)


class Forgetful(NADE):
    """A mutant that leaves out its last entry."""

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walk = super().chain_rule(count, condition=condition)
        sent = next(walk)
        for _ in range(self.domain.num_dims - 1):
            sent = walk.send((yield sent))


def test_a_walk_that_misses_a_place_is_refused() -> None:
    model = Forgetful(Grid(1, (2, 2), 2), hidden=3).requires_grad_(False)
    with pytest.raises(ValueError, match=r"every place 0\.\.3 once"):
        encode(model, batch_of(model.domain, 2).x)


def test_payloads_that_claim_more_or_less_than_they_hold() -> None:
    domain = Grid(1, (4, 4), 2)
    model, x = model_of("histogram", domain), batch_of(domain, 100).x
    content = encode(model, x)
    with pytest.raises(DataFormatError, match="used up before"):
        decode(model, content, 1 << 31)  # ends soon: nothing is allocated for the claim
    with pytest.raises(DataFormatError, match="more than the data"):
        decode(model, content, 10, block=5)
    with pytest.raises(DataFormatError, match="words of 4 bytes"):
        decode(model, content[:-1], 100)


def test_blocks_are_bounded_by_the_size_of_the_data() -> None:
    assert most_in_block(Histogram(Grid(1, (2, 2), 2))) == 4096
    assert most_in_block(Histogram(Grid(3, (64, 64), 256))) == (1 << 24) // (3 * 64 * 64)
