import pytest
import torch

from genus.contract import Batch
from genus.kinds import Label, Points, Vectors
from genus.models.diffusion.point_diffusion import PointDiffusion
from genus.prob import noise
from genus.testing.subjects import ToySplit


def shaken(domain: Points, condition: Label | None = None) -> PointDiffusion:
    model = PointDiffusion.tiny(domain, condition)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3, generator=noise.stream("shake"))
    return model.eval()


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_any_dimension_and_number_of_points(dim: int) -> None:
    model = shaken(Points(6, dim))
    assert model.sample(3, generator=noise.stream(0)).shape == (3, 6, dim)
    assert model.sample(2, points=50, generator=noise.stream(0)).shape == (2, 50, dim)
    assert model.encode(torch.zeros(2, 11, dim)).shape == (2, model.latent_features)
    with pytest.raises(ValueError, match="points"):
        model.sample(1, points=0)


def test_the_order_of_points_does_not_matter() -> None:
    domain = Points(12, 3)
    model = shaken(domain)
    x = noise.normal((2, 12, 3), noise.stream(0))
    turned = noise.permutation(12, noise.stream(1))
    torch.testing.assert_close(model.encode(x[:, turned]), model.encode(x))
    network = model.predict_eps(model.encode(x), torch.empty(2, 0))
    t = torch.tensor([0.1, 0.9])
    torch.testing.assert_close(network(x[:, turned], t), network(x, t)[:, turned])
    alone = network(x[:, :1], t)  # given the shape, points do not see each other
    torch.testing.assert_close(alone, network(x, t)[:, :1])


@pytest.mark.parametrize("features", [2, 5])
def test_the_prior_is_a_flow(features: int) -> None:
    model = PointDiffusion(Points(4, 2), latent_features=features, width=4, couplings=3, flow_hidden=8)
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.4, generator=noise.stream("shake"))
    prior = model.prior.double()
    z, context = noise.normal((1, features), noise.stream(0), dtype=torch.float64), torch.empty(1, 0).double()

    def forward(z: torch.Tensor) -> torch.Tensor:
        for coupling in prior.couplings:
            z, _ = coupling(z, context)
        return z

    w = forward(z)
    torch.testing.assert_close(prior.inverse(w, context), z, rtol=1e-5, atol=1e-5)
    jacobian = torch.autograd.functional.jacobian(forward, z).reshape(features, features)
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(w).sum(1)
    torch.testing.assert_close(
        prior.log_prob(z, context), standard + torch.linalg.slogdet(jacobian)[1], rtol=1e-5, atol=1e-5
    )


def test_terms_of_the_loss() -> None:
    domain = Points(16, 3)
    model, batch = shaken(domain), ToySplit(domain).batch(torch.arange(8))
    terms = model.losses(batch, noise.stream(0))
    weighted = model.prior_weight * (terms["negative_entropy"] + terms["cross_entropy"])
    torch.testing.assert_close(terms["loss"], terms["points"] + weighted)
    mean, log_var = model.encoder(model.scaling.encode(batch.x))
    entropy = torch.distributions.Normal(mean, (0.5 * log_var).exp()).entropy().sum(1)
    torch.testing.assert_close(terms["negative_entropy"], -entropy)


def test_density_is_in_the_datas_own_units() -> None:
    domain = Points(16, 3)
    split, model = ToySplit(domain), shaken(domain)
    model.initialise(split)
    here = model.log_prob(split.x[:8], generator=noise.stream(0))
    split.x = split.x * 100 - 3
    model.initialise(split)
    there = model.log_prob(split.x[:8], generator=noise.stream(0))
    torch.testing.assert_close(there, here - 48 * torch.tensor(100.0).log(), rtol=1e-3, atol=1e-2)


def test_one_scale_for_all_axes() -> None:
    domain = Points(16, 3)
    split, model = ToySplit(domain), shaken(domain)
    split.x = split.x * torch.tensor([1.0, 5.0, 0.1])
    model.initialise(split)
    assert (model.scaling.scale == model.scaling.scale[0]).all()
    scaled = model.scaling.encode(split.x)
    torch.testing.assert_close(scaled.mean((0, 1)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.square().mean(), torch.tensor(1.0), atol=1e-5, rtol=0)


def test_decoding_is_deterministic_and_depends_on_the_shape() -> None:
    model = shaken(Points(16, 3))
    z = noise.normal((2, model.latent_features), noise.stream(0))
    state = torch.get_rng_state()
    first = model.decode(z)
    assert torch.equal(first, model.decode(z))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.allclose(model.decode(z + 1), first)


def test_what_it_cannot_model_is_refused() -> None:
    with pytest.raises(ValueError, match="points"):
        PointDiffusion(Vectors(3))
    with pytest.raises(ValueError, match="labels"):
        PointDiffusion(Points(4, 3), Points(4, 3))
    with pytest.raises(ValueError, match="latent_features"):
        PointDiffusion(Points(4, 3), latent_features=1)
    with pytest.raises(ValueError, match="condition"):
        PointDiffusion.tiny(Points(4, 3), Label(("a",))).losses(Batch(torch.zeros(1, 4, 3)))
