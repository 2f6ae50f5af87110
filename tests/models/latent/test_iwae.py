import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.kinds import Grid, Vectors
from genus.models.latent.iwae import IWAE
from genus.prob import noise
from genus.prob.noise import stream
from genus.testing.statistics import z_of_mean

DOMAIN = Grid(1, (3, 3), 2)


def model(estimator: str, samples: int, backward: int = 0) -> IWAE:
    torch.manual_seed(0)
    made = IWAE(
        DOMAIN, latent_features=2, hidden=(6,), importance_samples=samples,
        estimator=estimator, backward_samples=backward,  # type: ignore[arg-type]
    )  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)  # away from the prior: the estimators differ
    return made.double()


def data(count: int) -> Tensor:
    bits = noise.uniform((1, *DOMAIN.shape), stream("x")) < 0.5
    return bits.to(torch.uint8).expand(count, *DOMAIN.shape)


def gradient(of: IWAE, seed: int, part: str) -> Tensor:
    """Of the mean loss over 200 draws of one datum."""
    loss = of.losses(Batch(data(200)), stream("z", seed))["loss"].mean()
    wanted = [p for name, p in of.named_parameters() if name.startswith(part)]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, wanted)])


@pytest.mark.parametrize("samples", [1, 4])
def test_the_loss_is_the_bound_whatever_the_estimator(samples: int) -> None:
    losses = [model(e, samples).losses(Batch(data(9)), stream("z"))["loss"] for e in ("plain", "dreg", "stl")]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], losses[2])
    bound = model("plain", samples).log_prob(data(9), num_samples=samples, generator=stream("z"))
    torch.testing.assert_close(losses[0], -bound)


def difference(one: IWAE, other: IWAE, part: str) -> float:
    """The largest z-score of the difference between mean gradients, entry by entry, over 40 repeats."""
    a, b = (torch.stack([gradient(made, seed, part) for seed in range(40)]) for made in (one, other))
    return max(abs(z_of_mean(column, 0.0)) for column in (a - b).T if float(column.abs().max()) > 1e-12)


def largest_z(one: str, other: str, samples: int, part: str) -> float:
    return difference(model(one, samples), model(other, samples), part)


def test_dreg_is_unbiased_and_stl_is_not() -> None:
    assert largest_z("dreg", "plain", 4, "encoder") < 5
    assert largest_z("stl", "plain", 4, "encoder") > 10
    assert largest_z("stl", "plain", 1, "encoder") < 5  # one draw: both are the gradient of the ELBO


def test_the_decoder_has_one_gradient() -> None:
    gradients = [gradient(model(e, 4), 0, "decoder") for e in ("plain", "dreg", "stl")]
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], gradients[2])


@pytest.mark.parametrize("estimator", ["plain", "dreg", "stl"])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_few_draws_by_weight_give_the_gradient_of_all(estimator: str, part: str) -> None:
    assert difference(model(estimator, 8, backward=2), model(estimator, 8), part) < 5


def test_a_few_draws_without_regard_to_their_weight_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = noise.categorical
    monkeypatch.setattr(noise, "categorical", lambda logits, generator: flat(torch.zeros_like(logits), generator))
    assert difference(model("dreg", 8, backward=2), model("dreg", 8), "decoder") > 10


def test_the_loss_of_a_few_draws_is_the_bound_of_all() -> None:
    few, every = (model("dreg", 8, backward=k).losses(Batch(data(9)), stream("z")) for k in (2, 0))
    for name, value in every.items():
        torch.testing.assert_close(few[name], value)


def test_draws_and_the_weight_of_the_prior_rise_and_checkpoints_are_compared_at_the_end() -> None:
    made = IWAE(DOMAIN, latent_features=2, hidden=(6,), importance_samples=16, kl_warmup=0.5, samples_warmup=0.5)
    assert made.draws == 16  # outside of training
    seen = []
    for fraction in (0.0, 0.125, 0.25, 0.5, 1.0):
        made.progress(fraction)
        seen.append(made.draws)
        torch.testing.assert_close(
            made.criterion(Batch(data(3)), stream("z")),
            -made.log_prob(data(3), num_samples=16, generator=stream("z")),
        )
    assert seen == [1, 2, 4, 16, 16]


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="importance_samples"):
        IWAE(Vectors(2), importance_samples=0)
    with pytest.raises(ValueError, match="backward_samples"):
        IWAE(Vectors(2), backward_samples=-1)
    with pytest.raises(ValueError, match="samples_warmup"):
        IWAE(Vectors(2), samples_warmup=2.0)


def test_a_cure_names_settings_that_there_are() -> None:
    collapsed = IWAE(DOMAIN, latent_features=2, hidden=())
    with torch.no_grad():
        collapsed.encoder[-1].weight.zero_()
    found = collapsed.symptoms(Batch(data(8)))
    assert "--importance-samples" in found[0].cure
    assert "--beta" not in found[0].cure


@pytest.mark.parametrize("prior", ["vamp", "flow"])
def test_a_prior_that_learns_has_its_part_of_the_bound(prior: str) -> None:
    torch.manual_seed(0)
    made = IWAE(DOMAIN, latent_features=2, hidden=(6,), importance_samples=3, prior=prior, components=4).double()  # type: ignore[arg-type]
    loss = made.losses(Batch(data(9)), stream("z"))["loss"]
    torch.testing.assert_close(loss, -made.log_prob(data(9), num_samples=3, generator=stream("z")))
    gradients = torch.autograd.grad(loss.mean(), list(made.prior.parameters()), allow_unused=True)
    assert all(g is not None and bool(g.any()) for g in gradients)
