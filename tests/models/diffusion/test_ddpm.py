import pytest
import torch

from genus.contract import Batch
from genus.domain import Grid, Label, Vectors
from genus.models.diffusion.ddpm import DDPM
from genus.prob import noise
from genus.testing.subjects import ToySplit


def shaken(model: DDPM) -> DDPM:
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.1, generator=noise.stream("shake"))
    return model.eval()


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 2), (9,), (4, 5, 3)])
def test_grids_of_any_size(size: tuple[int, ...]) -> None:
    domain = Grid(2, size, 5)
    model = shaken(DDPM.tiny(domain))
    x = model.sample(3, generator=noise.stream(0))
    domain.check(x)
    assert model.log_prob(x, generator=noise.stream(1)).shape == (3,)


def test_the_terms_add_up_to_log_prob() -> None:
    domain = Grid(1, (4, 4), 9)
    model = shaken(DDPM.tiny(domain))
    x = model.sample(5, generator=noise.stream(0))
    terms = model.bound_terms(x, generator=noise.stream(1))
    assert terms["L_t"].shape == (5, model.process.steps - 1)
    assert all((term >= 0).all() for term in terms.values())  # KLs, and minus the log of probabilities
    total = -(terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"])
    torch.testing.assert_close(model.log_prob(x, generator=noise.stream(1)).double(), total, rtol=1e-6, atol=0)


def test_density_of_vectors_is_in_their_own_units() -> None:
    """Data measured in millimetres and kilometres: the same model, other densities."""
    split, units = ToySplit(Vectors(2)), torch.tensor([1000.0, 1e-3])
    model = shaken(DDPM.tiny(Vectors(2)))
    model.initialise(split)
    here = model.log_prob(split.x[:8], generator=noise.stream(0))
    split.x = split.x * units
    model.initialise(split)
    there = model.log_prob(split.x[:8], generator=noise.stream(0))
    torch.testing.assert_close(there, here - units.log().sum(), rtol=1e-3, atol=1e-3)


def test_initialise_standardises_and_survives_a_constant_feature() -> None:
    split = ToySplit(Vectors(3))
    split.x[:, 1] = 7.0
    model = DDPM.tiny(Vectors(3))
    model.initialise(split)
    scaled = model.scaling.encode(split.x)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0, unbiased=False), torch.tensor([1.0, 0.0, 1.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.scaling.decode(scaled), split.x)


def test_a_trained_bound_is_near_the_truth() -> None:
    """Rows of a normal law, after a few seconds: the bound comes near its exact log-density, from below."""
    law = torch.distributions.Normal(torch.tensor([3.0, -1.0]), torch.tensor([0.5, 2.0]))
    split = ToySplit(Vectors(2))
    split.x, split.count = law.mean + law.stddev * noise.normal((2000, 2), noise.stream("law")), 2000
    torch.manual_seed(0)
    model = DDPM(Vectors(2), timesteps=30, width=32, multipliers=(1,), blocks=2, dropout=0.0)
    model.initialise(split)

    def gap() -> float:
        x = split.x[:500]
        return float((law.log_prob(x).sum(1) - model.log_prob(x, num_samples=4, generator=noise.stream(0))).mean())

    assert gap() > 2
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(300):
        batch = split.batch(noise.integers(2000, (256,), noise.stream("batch", step)))
        loss = model.losses(batch, noise.stream("noise", step))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 0 < gap() < 0.5


def test_samplers() -> None:
    model = shaken(
        DDPM(Grid(1, (4, 4), 256), timesteps=20, noise_schedule="cosine", width=8, multipliers=(1, 1), blocks=1)
    )
    kinds = [{}, {"steps": 4}, {"sampler": "ddim"}, {"sampler": "ddim", "eta": 0.5}, {"sampler": "ddim", "steps": 3}]
    drawn = [model.sample(4, generator=noise.stream(0), **options) for options in kinds]
    for i, x in enumerate(drawn):
        assert not any(torch.equal(x, other) for other in drawn[:i])
    with pytest.raises(ValueError, match="sampling steps"):
        model.sample(1, steps=21)
    with pytest.raises(ValueError, match="'euler'"):
        model.sample(1, sampler="euler")  # type: ignore[arg-type]


def test_what_it_cannot_model_is_refused() -> None:
    with pytest.raises(ValueError, match="three axes"):
        DDPM(Grid(1, (2, 2, 2, 2), 2))
    with pytest.raises(ValueError, match="labels"):
        DDPM(Vectors(2), Vectors(3))
    with pytest.raises(ValueError, match="timesteps"):
        DDPM(Vectors(2), timesteps=1)
    model = DDPM.tiny(Vectors(2), Label(("a", "b")))
    with pytest.raises(ValueError, match="condition"):
        model.losses(Batch(torch.zeros(3, 2)))


def test_dropout_acts_while_training_only() -> None:
    model = DDPM(Vectors(2), timesteps=4, width=8, blocks=1, dropout=0.5)
    torch.nn.init.normal_(model.network.last.weight, generator=noise.stream("last"))
    batch = Batch(torch.ones(64, 2))
    once, again = (model.train().losses(batch, noise.stream(0))["loss"] for _ in range(2))
    assert not torch.equal(once, again)
    once, again = (model.eval().losses(batch, noise.stream(0))["loss"] for _ in range(2))
    assert torch.equal(once, again)
