from typing import Any

import pytest
import torch

from genus.contract import Batch
from genus.kinds import Grid, Label, Vectors
from genus.models.diffusion.ddpm import DDPM
from genus.prob import noise
from genus.testing.statistics import LARGEST_Z, z_of_mean
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
    """Rows of a normal distribution, after a few seconds: the bound comes near its exact log-density, from below."""
    distribution = torch.distributions.Normal(torch.tensor([3.0, -1.0]), torch.tensor([0.5, 2.0]))
    split = ToySplit(Vectors(2))
    split.x, split.count = (
        distribution.mean + distribution.stddev * noise.normal((2000, 2), noise.stream("distribution")),
        2000,
    )
    torch.manual_seed(0)
    model = DDPM(Vectors(2), timesteps=30, width=32, multipliers=(1,), blocks=2, dropout=0.0)
    model.initialise(split)

    def gap() -> float:
        x = split.x[:500]
        return float(
            (distribution.log_prob(x).sum(1) - model.log_prob(x, num_samples=4, generator=noise.stream(0))).mean()
        )

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
    model = shaken(DDPM(Vectors(6), timesteps=20, noise_schedule="cosine", width=8, multipliers=(1, 1), blocks=1))
    kinds: list[dict[str, Any]] = [
        {}, {"steps": 4}, {"sampler": "ddim"}, {"sampler": "ddim", "eta": 0.5}, {"sampler": "ddim", "steps": 3},
        {"sampler": "heun", "steps": 5}, {"sampler": "dpm_solver", "steps": 5}, {"sampler": "runge_kutta", "steps": 5},
    ]  # fmt: skip
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


def learned(objective: str, **settings: Any) -> DDPM:
    return shaken(
        DDPM(
            Grid(1, (4, 4), 9), timesteps=10, objective=objective, variance="learned", width=8, multipliers=(1,),  # type: ignore[arg-type]
            blocks=1, attention=(), dropout=0.0, **settings,
        )
    )  # fmt: skip


def test_the_hybrid_loss_moves_the_mean_by_the_simple_loss_alone() -> None:
    """Nichol & Dhariwal (2021), section 3.1: a stop-gradient keeps the bound from the mean."""
    model = learned("hybrid")
    x = model.sample(16, generator=noise.stream(0))
    last = model.network.last[-1]

    def gradient(of: str, objective: str = "hybrid") -> torch.Tensor:
        model.objective = objective  # type: ignore[assignment]
        terms = model.losses(Batch(x), noise.stream("loss"))
        (found,) = torch.autograd.grad(terms[of].mean(), last.weight)
        return found

    assert not gradient("bound")[:1].any()  # the outputs for the mean
    assert gradient("bound")[1:].any()  # and for the variance
    assert not gradient("simple")[1:].any()
    assert gradient("loss", "bound")[:1].any()  # without the hybrid, the bound moves both


def test_the_bound_objective_is_the_bound() -> None:
    """T L_{t-1} / D at random steps averages to the sum of the terms, but for L_T, which nothing moves."""
    model = learned("bound")
    x = model.sample(1, generator=noise.stream(0)).expand(400, 1, 4, 4)
    per_entry = torch.stack([model.losses(Batch(x), noise.stream("loss", k))["bound"] for k in range(60)])
    terms = model.bound_terms(x, generator=noise.stream("terms"))
    exact = (terms["L_0"] + terms["L_t"].sum(1)) / 16
    gap = per_entry.detach().double().mean(0) - exact
    assert abs(z_of_mean(gap, 0.0)) < LARGEST_Z
    assert abs(z_of_mean(gap + terms["L_0"] / 16, 0.0)) > LARGEST_Z  # a loss without its first step would be seen


def test_importance_remembers_while_it_trains_and_draws_by_what_it_saw() -> None:
    model = learned("bound", importance=True)
    x = model.sample(64, generator=noise.stream(0))
    assert model.moments is not None
    model.losses(Batch(x), noise.stream(0))
    assert not model.moments.new_counts.any()  # in evaluation nothing is kept
    model.train()
    for k in range(20):
        model.progress(k / 20)
        model.losses(Batch(x), noise.stream("loss", k))
    model.progress(1.0)
    p = model.moments.probabilities()
    assert float(p.max() / p.min()) > 2
    torch.testing.assert_close(float(p.sum()), 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variance": "learned"}, "objective simple"),
        ({"objective": "hybrid"}, "objective hybrid"),
        ({"importance": True}, "importance"),
        ({"label_dropout": 1.0}, "label_dropout"),
        ({"flow_steps": 1}, "flow_steps"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDPM(Vectors(2), **settings)


def test_guidance_goes_beyond_the_label() -> None:
    model = shaken(DDPM.tiny(Vectors(2), Label(("a", "b"))))
    x, t = noise.normal((6, 2), noise.stream(0)), torch.full((6,), 0.5, dtype=torch.float64)
    label = torch.tensor([0, 1]).repeat(3)
    with_label, without = model.outputs_at(x, t, label)[0], model.outputs_at(x, t, model.null_label(6))[0]
    torch.testing.assert_close(model.predict(label, 2.0)(x, t), 3 * with_label - 2 * without)
    assert torch.equal(model.predict(label)(x, t), with_label)
    drawn = [model.sample(6, condition=label, guidance=w, generator=noise.stream(1)) for w in (0.0, 3.0)]
    assert not torch.equal(*drawn)


def test_guidance_wants_labels_that_were_put_out() -> None:
    with pytest.raises(ValueError, match="--conditional"):
        DDPM.tiny(Vectors(2)).sample(1, guidance=1.0)
    sure = DDPM(Vectors(2), Label(("a", "b")), timesteps=4, width=8, blocks=1, label_dropout=0.0)
    with pytest.raises(ValueError, match="--label-dropout"):
        sure.sample(1, condition=torch.tensor([0]), guidance=1.0)


def test_labels_are_put_out_as_often_as_asked() -> None:
    model = DDPM.tiny(Vectors(2), Label(("a", "b")))
    out = model.dropped(torch.zeros(20_000, dtype=torch.int64), noise.stream(0)) == 2
    assert abs(z_of_mean(out.double(), 0.1)) < LARGEST_Z


def test_data_come_back_from_their_latents() -> None:
    """Along the flow to noise and back: the difference shrinks with the steps of the integration."""
    gaps = []
    for flow_steps in (8, 16):
        model = shaken(DDPM(Vectors(3), timesteps=50, width=8, blocks=1, dropout=0.0, flow_steps=flow_steps))
        x = noise.normal((32, 3), noise.stream("x"))
        z = model.encode(x)
        assert z.shape == x.shape
        gaps.append(float((model.decode(z) - x).abs().mean()))
    assert gaps[1] < 0.5 * gaps[0]


class Correlated(DDPM):
    """A perfect model of two normal numbers with correlation 0.8."""

    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])

    def outputs_at(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        alpha, sigma = (float(v) for v in self.process.alpha_sigma(t[:1]))
        precision = torch.linalg.inv(alpha**2 * self.covariance + sigma**2 * torch.eye(2))
        return (sigma * x @ precision,)  # eps = -sigma times the score


def test_completion_hears_what_is_kept() -> None:
    """Given x_0 = 1.5 the other is normal around 1.2 with variance 0.36; without going back up it would be less sure
    of it."""
    model, count = Correlated(Vectors(2), timesteps=200, width=8, blocks=1), 4000
    x, keep = torch.full((count, 2), 1.5), torch.tensor([[True, False]]).expand(count, 2)

    def miss(rounds: int) -> tuple[float, float]:
        other = model.edit(x, keep, generator=noise.stream("edit"), rounds=rounds)[:, 1]
        return abs(float(other.mean()) - 1.2), abs(float(other.var()) - 0.36)

    (mean, variance), (worse, _) = miss(8), miss(1)
    assert mean < 0.1
    assert variance < 0.1
    assert worse > 2 * mean
