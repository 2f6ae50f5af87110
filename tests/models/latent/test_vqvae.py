import itertools
import math

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Likelihood
from genus.errors import CapabilityError
from genus.kinds import Domain, Grid, Label, Tokens, Waveform
from genus.models.latent._codes import CodeModel
from genus.models.latent.vqvae import VQVAE
from genus.models.latent.vqvae2 import VQVAE2
from genus.prob import noise
from genus.prob.noise import stream
from genus.prob.posterior import Certain
from genus.testing import Subject
from genus.testing.oracles import all_states
from genus.testing.statistics import z_of_counts
from genus.testing.subjects import ToySplit

SMALL = {"codes": 3, "code_features": 2, "hidden": 8, "residual": (4,), "downsample": 1}


def fresh(cls: type[CodeModel], domain: Domain, **settings: object) -> CodeModel:
    """A model of the toy data, initialised on them and shaken."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls(domain, **{**SMALL, **settings}).eval()  # type: ignore[call-arg, arg-type]
    model.initialise(ToySplit(domain))
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):  # layers that start at zero say nothing yet
            parameter.add_(noise.normal(tuple(parameter.shape), stream("shake", k)), alpha=0.05)
    return model


def all_codes(model: CodeModel) -> Tensor:
    """Every latent that there is."""
    domain = model.latent_domain
    every = itertools.product(range(domain.levels), repeat=domain.num_dims)
    return torch.tensor(list(every)).view(-1, *domain.shape).to(domain.dtype)


@torch.no_grad()
def exact_log_prob(model: CodeModel, x: Tensor) -> Tensor:
    """log sum_z p(z) p(x|z) over all codes."""
    codes = all_codes(model)
    nats = [model.log_likelihood(x, z.expand(len(x), *z.shape)) + model.log_prior(z[None]) for z in codes]
    return torch.stack(nats).double().logsumexp(0)


CASES = [
    (VQVAE, Grid(1, (3, 2), 2), "entry"),
    (VQVAE2, Grid(1, (3, 2), 2), "entry"),
    (VQVAE, Tokens(4, 2), "entry"),
    (VQVAE, Waveform(3, 8000, 4), "entry"),
    (VQVAE, Waveform(3, 8000, 4), "shared"),
]


@pytest.mark.parametrize(("cls", "domain", "scale"), CASES, ids=str)
def test_the_bound_lies_below_the_sum_over_all_codes_which_is_a_law(
    cls: type[CodeModel], domain: Domain, scale: str
) -> None:
    model = fresh(cls, domain, scale=scale)
    x = all_states(domain)
    exact, bound = exact_log_prob(model, x), model.log_prob(x).double()
    assert exact.exp().sum() == pytest.approx(1, abs=1e-5)
    assert (bound <= exact + 1e-6).all()
    assert (bound < exact - 1e-3).any()
    torch.testing.assert_close(
        model.log_prob(x), model.log_weight(x, model.encode(x)[None], model.posterior(x))[0], rtol=1e-5, atol=1e-5
    )


def test_samples_follow_the_sum_over_all_codes() -> None:
    model = fresh(VQVAE, Grid(1, (2, 2), 2))
    x, draws = all_states(model.domain), 4000
    drawn = model.sample(draws, generator=stream("draws")).flatten(1).long()
    index = (drawn * 2 ** torch.arange(3, -1, -1)).sum(1)
    states = (x.flatten(1).long() * 2 ** torch.arange(3, -1, -1)).sum(1)
    expected = torch.zeros(16, dtype=torch.float64)
    expected[states] = exact_log_prob(model, x).exp()
    assert z_of_counts(torch.bincount(index, minlength=16), expected) < 5


@pytest.mark.parametrize(
    ("domain", "latent"),
    [
        (Grid(1, (28, 28)), Grid(1, (7, 7), 3, ordered=False)),
        (Grid(3, (5, 9), 4), Grid(1, (2, 3), 3, ordered=False)),
        (Grid(1, (1, 2), 4), Grid(1, (1, 1), 3, ordered=False)),
        (Grid(1, (4, 5, 6), 2), Grid(1, (1, 2, 2), 3, ordered=False)),
        (Grid(2, (9,), 4), Tokens(3, 3)),
        (Tokens(7, 300), Tokens(2, 3)),
        (Waveform(130, 8000), Tokens(33, 3)),
    ],
    ids=str,
)
def test_codes_of_any_size(domain: Domain, latent: Domain) -> None:
    model = fresh(VQVAE, domain, downsample=2)
    x = ToySplit(domain).x[:5]
    assert model.latent_domain == latent
    z = model.encode(x)
    latent.check(z)
    assert z.dtype == latent.dtype
    assert torch.equal(model.posterior(x).mean, z)
    assert isinstance(model.posterior(x), Certain)
    assert model.decode(z).shape == x.shape
    domain.check(model.generate(z, generator=stream("x")))
    nats = math.log(3) * latent.num_dims
    torch.testing.assert_close(model.log_prior(z), torch.full((5,), -nats))
    terms = model.losses(Batch(x), stream("loss"))
    torch.testing.assert_close(-model.log_prob(x), terms["reconstruction"] + nats, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(model.criterion(Batch(x)), terms["reconstruction"], rtol=1e-5, atol=1e-3)


def test_the_loss_is_equation_3_with_means_weighed_by_the_entries() -> None:
    model = fresh(VQVAE, Grid(1, (8, 8)), codebook="gradient", commitment=0.5)
    x = ToySplit(model.domain).x[:6]
    terms = model.losses(Batch(x), stream("loss"))
    z = model.bottlenecks[0].shrink(model.encoder(model.distribution.normalise(x, torch.float32)))
    e = model.codebooks[0].look_up(model.encode(x)[:, 0])
    square = (z - e).square().flatten(1).mean(1)
    expected = -model.log_likelihood(x, model.encode(x)) + 64 * (0.5 + 1) * square
    torch.testing.assert_close(terms["loss"], expected)


def test_gradient_codebooks_get_a_gradient_and_running_means_are_no_parameters() -> None:
    for learning in ("ema", "gradient"):
        model = fresh(VQVAE, Grid(1, (8, 8)), codebook=learning).train()
        model.losses(Batch(ToySplit(model.domain).x), stream("loss"))["loss"].mean().backward()
        named = dict(model.named_parameters())
        assert ("bottlenecks.0.codebook.codes" in named) == (learning == "gradient")
        assert all(p.grad is not None and p.grad.any() for p in named.values())


@pytest.mark.parametrize("cls", [VQVAE, VQVAE2])
def test_codes_move_between_steps_and_only_in_training(cls: type[CodeModel]) -> None:
    model, x = fresh(cls, Grid(1, (8, 8)), codes=16), ToySplit(Grid(1, (8, 8))).x
    before = [codebook.codes.clone() for codebook in model.codebooks]

    def same() -> bool:
        return all(torch.equal(a, codebook.codes) for a, codebook in zip(before, model.codebooks, strict=True))

    model.losses(Batch(x), stream("loss"))
    model.progress(0.5)
    assert same()
    model.train().losses(Batch(x), stream("loss"))
    assert same()
    model.progress(0.5)
    assert not same()


def train(model: CodeModel, steps: int, rate: float = 3e-3) -> None:
    """A plain loop on all toy data."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    batch = Batch(ToySplit(model.domain).x)
    model.train()
    for step in range(steps):
        model.progress(step / steps)
        loss = model.losses(batch, stream("noise", step))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def test_a_collapsed_codebook_is_told_and_revival_is_the_cure() -> None:
    share = []
    for revive in (0.0, 0.1):
        model = fresh(VQVAE, Grid(1, (8, 8)), codes=64, revive=revive, decay=0.9)
        with torch.no_grad():
            model.codebooks[0].codes[1:] += 1e3  # planted: one code is near
            model.codebooks[0].total.copy_(model.codebooks[0].codes / 64)
            model.codebooks[0].usage.copy_(torch.eye(64)[0])
        batch = Batch(ToySplit(model.domain).x)
        assert [symptom.name for symptom in model.symptoms(batch)] == ["codebook collapse"]
        train(model, 30)
        share.append(len(model.encode(batch.x).unique()) / 64)
        assert bool(model.symptoms(batch)) == (revive == 0)
    assert share[0] < 0.1
    assert share[1] > 0.5


def test_the_mse_decoder_is_in_units_of_the_datas_variance_and_has_no_likelihood() -> None:
    model = fresh(VQVAE, Grid(3, (8, 8)), decoder="mse")
    x = ToySplit(model.domain).x
    u = model.distribution.normalise(x, torch.float32)
    assert float(model.distribution.variance) == pytest.approx(float(u.double().var(correction=0)), rel=1e-5)
    with torch.no_grad():
        mean = model.parameters_given(model.encode(x)).squeeze(1)
        expected = (u - mean).square().flatten(1).sum(1) / model.distribution.variance
        torch.testing.assert_close(model.losses(Batch(x))["reconstruction"], expected)
    assert model.likelihood is Likelihood.NONE
    with pytest.raises(CapabilityError, match="squared errors"):
        model.log_prob(x)
    model.domain.check(model.sample(2, generator=stream("x")))


def test_wrong_settings_are_refused() -> None:
    domain = Grid(1, (8, 8))
    for wrong in ({"codes": 1}, {"hidden": 0}, {"downsample": -1}, {"commitment": -1.0}, {"residual": (0,)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            VQVAE(domain, **wrong)  # type: ignore[arg-type]
    for decoder in ("mse", "categorical"):
        with pytest.raises(ValueError, match="scale"):
            VQVAE(domain, decoder=decoder, scale="shared")  # type: ignore[arg-type]
    VQVAE(domain, residual=[4])  # type: ignore[arg-type]  # as a run folder's JSON gives it
    with pytest.raises(CapabilityError, match="IsConditional"):
        VQVAE(domain, Label(("a", "b")))
    model = fresh(VQVAE, domain)
    with pytest.raises(ValueError, match="z: expected"):
        model.decode(model.encode(ToySplit(domain).x).long() + 3)


def test_gradients_reach_every_parameter_of_all_shapes_of_networks() -> None:
    for settings in ({"downsample": 0}, {"downsample": 3}, {"residual": ()}, {"codebook": "gradient"}):
        model = fresh(VQVAE, Grid(3, (5, 7), 4), **settings)
        model.train().losses(Subject(VQVAE, model.domain).batch(32), stream("loss"))["loss"].mean().backward()
        still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert not still
