"""Bits back against sums and closed forms; and mutants that must fail."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genus import registry
from genus.compress import bits_back
from genus.compress.archive import codable
from genus.compress.bits_back import FINE, decode, encode, most_in_block, pop_bin, push_bin, share_below, sizes
from genus.compress.stack import Stack
from genus.contract import Batch, GenerativeModel, HasConditionals, HasPosterior, IsConditional
from genus.errors import CapabilityError, DataFormatError
from genus.kinds import Domain, Grid, Label, Tokens, Vectors
from genus.models.latent.vae import VAE
from genus.prob import noise
from genus.prob.posterior import Certain

LABELS = Label(("a", "b", "c"))
PICTURES = Grid(1, (6, 6), 2)


def model_of(name: str, domain: Domain, condition: Label | None = None, seed: int = 0) -> GenerativeModel:
    """A tiny model away from its starting point."""
    model = registry.get(name).tiny(domain, condition)
    generator = noise.stream("bits back", seed)
    for parameter in model.parameters():
        parameter.data += 0.3 * noise.normal(tuple(parameter.shape), generator)
    return model.requires_grad_(False).eval()


def takes(name: str, domain: Domain, condition: Label | None = None) -> bool:
    """Whether a model codes such data by bits back."""
    kind = registry.get(name)
    if not issubclass(kind, HasPosterior) or issubclass(kind, HasConditionals) or kind.refuses(domain):
        return False
    if condition is not None and not issubclass(kind, IsConditional):
        return False
    try:
        codable(model_of(name, domain, condition))
    except CapabilityError:
        return False
    return True


SIGNERS = [name for name in registry.names() if takes(name, PICTURES)]


def data_of(domain: Domain, count: int, condition: Label | None, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    generator = noise.stream("data", seed)
    x = noise.integers(domain.levels or 0, (count, *domain.shape), generator).to(domain.dtype)
    return x, None if condition is None else noise.integers(condition.count, (count,), generator)


def net_bits(model: GenerativeModel, x: Tensor, block: int = 16) -> float:
    content, initial = encode(model, x, block=block)
    return 8 * len(content) - 32 * initial


def test_the_first_models_can() -> None:
    assert {"vae", "iwae"} <= set(SIGNERS)


# -- p(x|z) ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNERS)
@pytest.mark.parametrize("condition", [None, LABELS])
@pytest.mark.parametrize("domain", [Grid(2, (1, 3), 2), Grid(1, (2, 2), 17), Grid(3, (3, 5), 256)], ids=str)
def test_log_levels_are_log_given(name: str, domain: Domain, condition: Label | None) -> None:
    if not takes(name, domain, condition):
        pytest.skip(f"{name} does not take {domain} with {condition}")
    model = model_of(name, domain, condition).double()
    assert isinstance(model, HasPosterior)
    x, label = data_of(domain, 5, condition)
    z = noise.normal((5, *model.latent_domain.shape), noise.stream("z"), dtype=torch.float64)
    table = model.log_levels(z, label)
    torch.testing.assert_close(table.exp().sum(-1), torch.ones(5, domain.num_dims, dtype=torch.float64))
    chosen = table.gather(-1, x.flatten(1).long().unsqueeze(-1)).sum((1, 2))
    torch.testing.assert_close(chosen, model.log_likelihood(x, z, label))


# -- the cut --------------------------------------------------------------------------------


@given(st.floats(-9, 9), st.floats(-14, 3), st.integers(0, (1 << FINE) - 1))
@settings(max_examples=200, deadline=None)
def test_the_bin_that_is_found_owns_the_part_and_can_be_put_back(mean: float, log_std: float, part: int) -> None:
    stack, std = Stack([1, 2, 3], 1 << 70 | part, None), math.exp(log_std)
    found = pop_bin(stack, mean, std)
    assert share_below(found, mean, std) <= part < share_below(found + 1, mean, std)
    push_bin(stack, found, mean, std)
    assert (stack.words, stack.head) == ([1, 2, 3], 1 << 70 | part)


def test_shares_are_the_masses_of_a_normal_law() -> None:
    edges, middles = bits_back.bins_of_prior(bits_back.BITS)
    assert edges[0] == -math.inf and edges[-1] == math.inf and len(edges) == 65537
    assert edges[1 << 15] == 0 and abs(float(torch.special.ndtr(middles[9])) - 9.5 / 65536) < 1e-12
    for mean, std in ((0.0, 1.0), (-1.3, 0.2), (3.0, 0.01), (40.0, 1e-12), (0.0, 1e12)):
        assert share_below(0, mean, std) == 0 and share_below(65536, mean, std) == 1 << FINE
        for number in (1, 2000, 32768, 65000):
            mass = float(torch.special.ndtr(torch.tensor((edges[number] - mean) / std, dtype=torch.float64)))
            assert abs(share_below(number, mean, std) / (1 << FINE) - mass) < 2e-5


def cost(log_likelihood: Tensor, mean: float, std: float, bits: int) -> tuple[float, float]:
    """The nats of a datum, mean and variance, by sums over all bins of q (log q - log p(bin) - log p(x | middle))."""
    shares = torch.tensor([share_below(number, mean, std) for number in range((1 << bits) + 1)], dtype=torch.float64)
    q = shares.diff() / (1 << FINE)
    nats = q.log() + bits * math.log(2) - log_likelihood
    average = float((q * nats).sum())
    return average, float((q * (nats - average).square()).sum())


@pytest.mark.parametrize("spread", [1.0, 1.5, 0.5])
def test_what_the_cut_costs_a_linear_gaussian_model(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """z ~ N(0, 1), y ~ N(z, v): the bound of q = N(m, s^2) is a closed form, and so is, to the order of the
    squared width h = 2^-bits of the bins in u = Phi(z), what cutting adds:
    h^2/24 E_q[ (log r)' (f - log r)' ], with r = q/p the density of u and f = log p(y|z); 0 for the true q."""
    y, v = 0.4, 0.03
    mean, std = y / (1 + v), spread * math.sqrt(v / (1 + v))
    kl = 0.5 * (mean**2 + std**2 - 1) - math.log(std)
    bound = kl + 0.5 * math.log(2 * math.pi * v) + ((y - mean) ** 2 + std**2) / (2 * v)
    z = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    density, prior = (
        torch.exp(torch.distributions.Normal(*distribution).log_prob(z)) for distribution in ((mean, std), (0.0, 1.0))
    )
    slope_r, slope_f = z - (z - mean) / std**2, (y - z) / v
    order = float((density * slope_r * (slope_f - slope_r) / prior**2).sum() * (z[1] - z[0]) / 24)
    for bits in (8, 9, 16):
        monkeypatch.setattr(bits_back, "BITS", bits)
        log_likelihood = torch.distributions.Normal(bits_back.bins_of_prior(bits)[1], math.sqrt(v)).log_prob(
            torch.tensor(y)
        )
        excess = cost(log_likelihood, mean, std, bits)[0] - bound
        assert abs(excess - order * 4.0**-bits) < 0.02 * abs(order) * 4.0**-bits + 1e-7
    assert spread == 1 or abs(order) * 4.0**-8 > 1e-4  # the test can see it


@pytest.mark.parametrize("bits", [2, 4, 16])
def test_the_size_is_the_sum_over_bins(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model with one latent, what coding costs on average is a sum over the bins, datum by datum."""
    monkeypatch.setattr(bits_back, "BITS", bits)
    model = VAE(Grid(1, (3, 3), 2), latent_features=1, hidden=(8,)).requires_grad_(False)
    for parameter in model.parameters():
        parameter.data += noise.normal(tuple(parameter.shape), noise.stream("one latent"))
    x, precise = model.sample(6, generator=noise.stream("own")), model.double()
    q, middles = precise.posterior(x), bits_back.bins_of_prior(bits)[1].unsqueeze(1)
    costs = [
        cost(
            precise.log_likelihood(datum.expand(len(middles), *datum.shape), middles), mean, math.exp(log_var / 2), bits
        )
        for datum, mean, log_var in zip(x, q.mean.flatten().tolist(), q.log_var.flatten().tolist(), strict=True)
    ]
    expected, variance = (sum(part) for part in zip(*costs, strict=True))
    found = net_bits(model, x.repeat(100, 1, 1, 1)) * math.log(2) / 100
    assert abs(found - expected) < 4 * math.sqrt(variance / 100) + 0.4


# -- there and back -------------------------------------------------------------------------


@given(
    st.sampled_from(SIGNERS), st.integers(1, 3), st.integers(1, 3), st.integers(2, 3), st.sampled_from([2, 3, 17, 256]),
    st.integers(1, 25), st.integers(1, 9), st.sampled_from([None, Label(("one",)), LABELS]), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_whatever_the_data_they_come_back(
    name: str, channels: int, height: int, width: int, levels: int, count: int, block: int,
    condition: Label | None, seed: int,
) -> None:  # fmt: skip
    domain = Grid(channels, (height, width), levels)
    if takes(name, domain, condition):
        model = model_of(name, domain, condition, seed)
        x, label = data_of(domain, count, condition, seed)
        content, initial = encode(model, x, label, block=block)
        back, back_label = decode(model, content, count, block=block, initial=initial)
        assert back.dtype == x.dtype and torch.equal(back, x)
        assert (back_label is None) if label is None else torch.equal(back_label, label)


def test_sequences_and_extreme_posteriors_come_back() -> None:
    words = Tokens(5, 7)
    if registry.get("vae").refuses(words) is None:
        model, (x, _) = model_of("vae", words), data_of(words, 20, None)
        content, initial = encode(model, x, block=4)
        assert torch.equal(decode(model, content, 20, block=4, initial=initial)[0], x)
    model, (x, _) = model_of("vae", PICTURES), data_of(PICTURES, 20, None)
    last = [module for module in model.encoder.modules() if isinstance(module, torch.nn.Linear)][-1]
    for mean, log_var in ((30.0, -60.0), (-1e6, 40.0), (0.0, -1e4), (0.0, 1e4)):
        last.weight.data.zero_()
        last.bias.data[:2], last.bias.data[2:] = mean, log_var
        content, initial = encode(model, x, block=4)
        assert torch.equal(decode(model, content, 20, block=4, initial=initial)[0], x)
    last.bias.data.fill_(math.nan)
    with pytest.raises(ValueError, match="NaN or infinity"):
        encode(model, x, block=4)


@given(st.integers(0, 3000), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_blocks_grow_with_what_is_coded_before(count: int, block: int) -> None:
    cuts, left = list(sizes(count, block)), count
    assert sum(cuts) == count and cuts == sorted(cuts, reverse=True)
    for size in cuts:
        left -= size
        assert 1 <= size <= min(block, 1 + left // 8)
    assert next(iter(sizes(1 << 32, block))) == block  # no list of all


def test_the_initial_bits_are_those_of_one_datum_whatever_the_block() -> None:
    model = model_of("vae", Grid(1, (4, 4), 17))
    x, _ = data_of(model.domain, 150, None)
    for block in (1, 64):
        initial = encode(model, x, block=block)[1]
        assert 32 * initial <= 64 + 2 * bits_back.FINE


# -- the rate, and what must fail -----------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> tuple[VAE, Tensor]:
    """A VAE of stripes, near to its data, and data that it has not seen."""
    torch.manual_seed(0)
    model = VAE(PICTURES, latent_features=4, hidden=(32,))
    generator = noise.stream("stripes")
    x = stripes(2500, generator)
    moves = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(300):
        batch = Batch(x[500 + 100 * (step % 20) :][:100])
        moves.zero_grad()
        model.losses(batch, generator)["loss"].mean().backward()
        moves.step()
    return model.requires_grad_(False).eval(), x[:500]


def stripes(count: int, generator: torch.Generator) -> Tensor:
    """Rows and columns that are on, and noise: ``(count, 1, 6, 6)``."""
    on = noise.bernoulli(torch.full((count, 12), 0.3), generator).bool()
    flips = noise.bernoulli(torch.full((count, 6, 6), 0.05), generator).bool()
    return ((on[:, :6, None] | on[:, None, 6:]) ^ flips).unsqueeze(1).to(torch.uint8)


def gap(model: VAE, x: Tensor) -> float:
    """By how much of the negative ELBO the net bits miss it."""
    elbo = -float(model.log_weights(x, 32, generator=noise.stream("elbo")).mean(0).sum()) / math.log(2)
    return net_bits(model, x) / elbo - 1


def test_the_net_rate_is_the_bound(trained: tuple[VAE, Tensor]) -> None:
    model, x = trained
    kl = float(model.posterior(x).kl_to_standard().sum(1).mean())
    assert kl > 1  # the latents are in use, or there were no bits to get back
    assert abs(gap(model, x)) < 0.02


def from_the_prior(stack: Stack, mean: float, std: float) -> int:
    """A mutant: latents that know nothing of the datum."""
    return pop_bin(stack, 0.0, 1.0)


def without_the_bits(stack: Stack, mean: float, std: float) -> int:
    """A mutant: the draw is right, but the stack is not popped for it."""
    return pop_bin(Stack(list(stack.words), stack.head, 2), mean, std)


@pytest.mark.parametrize("mutant", [from_the_prior, without_the_bits])
def test_a_coder_without_bits_back_misses_the_bound(
    trained: tuple[VAE, Tensor], mutant: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bits_back, "pop_bin", mutant)
    assert gap(*trained) > 0.1


def test_coarse_bins_miss_the_bound(trained: tuple[VAE, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits_back, "BITS", 1)
    assert gap(*trained) > 0.02


def test_a_decoder_that_keeps_the_bits_fails(trained: tuple[VAE, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = trained
    content, initial = encode(model, x, block=16)
    monkeypatch.setattr(bits_back, "push_bin", lambda *_: None)
    with pytest.raises(DataFormatError):
        decode(model, content, len(x), block=16, initial=initial)


def test_payloads_that_claim_more_or_less_than_they_hold(trained: tuple[VAE, Tensor]) -> None:
    model, x = trained
    content, initial = encode(model, x[:100], block=8)
    for count, start, sentence in (
        (1 << 31, initial, "used up before"),  # ends soon: nothing is allocated for the claim
        (99, initial, "more than the data"), (100, initial + 1, "more than the data"), (100, 1 << 28, "more than"),
    ):  # fmt: skip
        with pytest.raises(DataFormatError, match=sentence):
            decode(model, content, count, block=8, initial=start)
    with pytest.raises(DataFormatError, match="words of 4 bytes"):
        decode(model, content[:-1], 100, block=8, initial=initial)


def test_who_cannot_is_told_why() -> None:
    class Sure(VAE):
        def posterior(self, x: Tensor, condition: Tensor | None = None) -> Certain:  # type: ignore[override]
            return Certain(x.flatten(1)[:, :2].float())

    class Elsewhere(VAE):
        standard_prior = False

        def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
            return super().log_prior(z - 0.1, condition)

    for model, sentence in (
        (VAE(Grid(1, (3, 3)), decoder="grey_bce"), "no probabilities"),
        (VAE.tiny(Vectors(3)), "65,536 levels"),
        (VAE.tiny(Grid(3, (100, 100), 65536)), "more than 67,108,864 probabilities"),
        (Sure.tiny(PICTURES), "no bits to get back"),
        (Elsewhere.tiny(PICTURES), "standard normal prior"),
    ):
        with pytest.raises(CapabilityError, match=sentence):
            codable(model)


def test_blocks_are_bounded_by_the_table() -> None:
    assert most_in_block(VAE.tiny(Grid(1, (2, 2), 2))) == 4096
    assert most_in_block(VAE.tiny(Grid(3, (32, 32), 256))) == 21
