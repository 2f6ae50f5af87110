from typing import Any

import pytest
import torch

from genus.contract import Batch, HasLogProb, Likelihood
from genus.errors import CapabilityError
from genus.kinds import Domain, Grid, Tokens, Vectors, Waveform
from genus.models.latent.autoencoder import Autoencoder
from genus.prob import noise
from genus.prob.noise import stream
from genus.testing import Subject, checks
from genus.testing.statistics import z_of_mean
from genus.testing.subjects import LABELS, ToySplit


class Rows:
    """A split of the given data."""

    def __init__(self, x: torch.Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: torch.Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index])


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize(
    "domain", [Grid(1, (6,), 2), Grid(3, (5, 4), 256), Grid(1, (2, 3, 4), 2), Tokens(9, 5), Waveform(9, 8000)], ids=str
)
def test_all_domains(domain: Domain, network: Any) -> None:
    model = Autoencoder(domain, latent_features=2, network=network, hidden=(8,), channels=(3, 4), blocks=1).eval()
    model.initialise(ToySplit(domain))
    x = model.sample(3, generator=stream(0))
    domain.check(x)
    losses = model.losses(Batch(x))
    torch.testing.assert_close(losses["loss"], -model.log_likelihood(x, model.encode(x)))


@pytest.mark.parametrize("decoder", ["squared", "auto"])
@pytest.mark.parametrize("domain", [Grid(1, (3, 2), 256), Vectors(2)], ids=str)
def test_it_keeps_its_promises_with_either_loss(decoder: Any, domain: Domain) -> None:
    class Either(Autoencoder):
        @classmethod
        def tiny(cls, domain: Domain, condition: Domain | None = None) -> "Either":
            return cls(domain, condition, latent_features=2, hidden=(16,), decoder=decoder)

    for subject in (Subject(Either, domain), Subject(Either, domain, LABELS)):
        for check in checks.checks_for(subject):
            if check not in (checks.check_card, checks.check_refusals):
                check(subject)


def test_a_linear_autoencoder_finds_the_principal_plane() -> None:
    """Baldi & Hornik (1989): the best linear bottleneck loses what the discarded eigenvalues hold."""
    spread = torch.tensor([3.0, 2.0, 0.5, 0.2])
    rows = noise.normal((1000, 4), stream("rows")) * spread @ torch.linalg.qr(noise.normal((4, 4), stream("r")))[0]
    torch.manual_seed(0)
    model = Autoencoder(Vectors(4), latent_features=2, hidden=(), decoder="squared").train()
    model.initialise(Rows(rows))
    units = (rows - rows.mean(0)) / rows.std(0, correction=0)
    best = 0.5 * float(torch.linalg.eigvalsh(torch.cov(units.T, correction=0))[:2].sum())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(500):
        optimizer.zero_grad()
        loss = model.losses(Batch(rows))["loss"].mean()
        loss.backward()
        optimizer.step()
    assert best - 1e-4 < float(loss.detach()) < 1.01 * best + 1e-4
    codes, drawn = model.encode(rows).detach(), model.sample_prior(4000, None, stream("z"))
    for k in range(2):  # samples come from the codes' own normal distribution
        assert abs(z_of_mean(drawn[:, k], float(codes[:, k].mean()))) < 5
        torch.testing.assert_close(drawn[:, k].std(), codes[:, k].std(), rtol=0.1, atol=0.0)


def test_moments_move_in_training_only() -> None:
    model, x = Autoencoder.tiny(Vectors(3)), noise.normal((8, 3), stream("x"))
    before = model.codes.first.clone()
    model.eval().losses(Batch(x))
    torch.testing.assert_close(model.codes.first, before)
    model.train().losses(Batch(x))
    assert not torch.equal(model.codes.first, before)


def test_no_likelihood() -> None:
    model = Autoencoder(Grid(1, (2, 2), 2))
    assert not isinstance(model, HasLogProb)
    assert model.likelihood is model.decoder_likelihood is Likelihood.NONE
    with pytest.raises(CapabilityError, match="does not sign HasLogProb"):
        model.log_prob(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="ordered"):
        Autoencoder(Tokens(4, 3), decoder="squared")
    with pytest.raises(ValueError, match="one scale"):
        Autoencoder(Grid(1, (2, 2), 256), decoder="squared", scale="shared")
