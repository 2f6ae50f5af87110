"""Fréchet distances of every sampler by network calls."""

import pytest
import torch

from genus.data import DataOptions, open_source
from genus.errors import CapabilityError
from genus.evaluate import evaluate
from genus.evaluate.samplers import SamplerCurves, densities, sampler_curves
from genus.models.diffusion.ddpm import DDPM
from genus.models.diffusion.edm import EDM
from genus.models.latent.vae import VAE
from genus.prob import noise


@pytest.mark.parametrize("model_class", [DDPM, EDM])
def test_calls_are_those_that_the_network_takes(model_class: type[DDPM | EDM]) -> None:
    source = open_source("moons")
    model, taken = model_class.tiny(source.domain), []
    model.initialise(source.train)
    model.network.register_forward_hook(lambda *_: taken.append(1))
    found = sampler_curves(model, source, source.test, calls=(3, 6), items=20, full=True)
    assert sum(point.calls for point in found.points) == len(taken)
    assert all(point.calls <= 8 for point in found.points)  # ddpm's steps, all of which --full takes
    again = sampler_curves(model, source, source.test, calls=(3, 6), items=20, full=True)
    assert [point.distance for point in again.points] == [point.distance for point in found.points]
    assert SamplerCurves.from_json(found.to_json()) == found


def test_the_flow_has_a_bound_beside_it_where_the_model_has_one() -> None:
    source = open_source("moons")
    for model_class in (DDPM, EDM):
        model = model_class.tiny(source.domain)
        model.initialise(source.train)
        for parameter in model.parameters():  # or the trace is zero, whatever its signs
            torch.nn.init.normal_(parameter, 0.0, 0.02, generator=noise.stream("shake"))
        told = densities(model, source.test, items=40, draws=4)
        assert told.unit == "nats" and told.items == 40
        assert (told.bound is None) == (model_class is EDM)
        assert told.noise is not None and told.flow.stderr is not None and 0 < told.noise < told.flow.stderr
        exact = -model.flow_log_prob(source.test.batch(torch.arange(len(source.test))).x, num_samples=4).mean()
        assert abs(told.flow.value - float(exact)) < 4 * (told.flow.stderr + told.noise)


def test_guided_samples_have_no_likelihood() -> None:
    source = open_source("digits")
    model = EDM.tiny(source.domain, source.condition).eval()
    for guidance, told in ((0.0, True), (2.0, False)):
        card = evaluate(model, source, count=20, limit=8, references=False, options={"guidance": guidance, "steps": 2})
        assert any(score.name == "negative log-likelihood" for score in card.model.scores) is told


def test_what_has_no_samplers_or_features_is_refused() -> None:
    moons, furniture = open_source("moons"), open_source("furniture", DataOptions(limit=10))
    with pytest.raises(CapabilityError, match="ddpm, edm, flow_matching or vdm"):
        sampler_curves(VAE.tiny(moons.domain), moons, moons.test)
    with pytest.raises(CapabilityError, match="no feature space"):
        sampler_curves(EDM.tiny(furniture.domain), furniture, furniture.test)
    with pytest.raises(ValueError, match="curves of samplers"):
        SamplerCurves.from_json({"items": 3, "points": [{}]})
    assert torch.is_grad_enabled()
