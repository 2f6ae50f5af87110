import pytest
import torch

from genus.contract import Batch
from genus.kinds import Grid, Pyramid
from genus.models.latent.vqvae2 import VQVAE2
from genus.prob import noise
from genus.prob.noise import stream
from genus.testing.subjects import ToySplit

SMALL = {"codes": 6, "code_features": 4, "hidden": 8, "residual": (4,), "downsample": 1}


def fresh(domain: Grid, **settings: object) -> VQVAE2:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VQVAE2(domain, **{**SMALL, **settings}).eval()  # type: ignore[arg-type]
    model.initialise(ToySplit(domain))
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):  # layers that start at zero say nothing yet
            parameter.add_(noise.normal(tuple(parameter.shape), stream("shake", k)), alpha=0.05)
    return model


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_latents_are_a_pyramid_the_coarsest_first(scales: int) -> None:
    model = fresh(Grid(3, (9, 14), 8), scales=scales)
    assert model.latent_domain == Pyramid((5, 7), scales, 6)
    x = ToySplit(model.domain).x[:4]
    z = model.encode(x)
    model.latent_domain.check(z)
    assert [tuple(grid.shape[1:]) for grid in model.grids(z)] == [(2, 2), (3, 4), (5, 7)][-scales:]
    assert torch.equal(model.join(model.grids(z)), z)
    assert model.decode(z).shape == x.shape
    terms = model.losses(Batch(x))
    torch.testing.assert_close(model.criterion(Batch(x)), terms["reconstruction"], rtol=1e-5, atol=1e-3)
    assert sum(name.startswith("perplexity") for name in terms) == scales


def test_the_top_is_chosen_first_and_what_is_below_depends_on_it() -> None:
    model = fresh(Grid(1, (8, 8), 8))
    x = ToySplit(model.domain).x
    with torch.no_grad():
        top, bottom = model.quantise(x)
        model.bottlenecks[1].shrink.bias += 1.0  # the bottom's own business
        assert torch.equal(model.quantise(x)[0].codes, top.codes)
        model.bottlenecks[1].shrink.bias -= 1.0
        model.codebooks[0].codes.neg_()  # another word from the top
        assert not torch.equal(model.quantise(x)[1].codes, bottom.codes)


def test_the_decoder_reads_every_scale() -> None:
    model = fresh(Grid(1, (16, 16), 8), scales=3)
    z = model.encode(ToySplit(model.domain).x[:2])
    said = model.parameters_given(z)
    for k in range(3):
        grids = [grid.clone() for grid in model.grids(z)]
        grids[k] = (grids[k] + 1) % 6
        assert not torch.equal(model.parameters_given(model.join(grids)), said), f"scale {k} is not read"


def test_every_codebook_learns_and_revives() -> None:
    model = fresh(Grid(1, (8, 8), 8), revive=0.5, codes=16).train()
    with torch.no_grad():
        for codebook in model.codebooks:
            codebook.codes[8:] = 1e3
            codebook.weight[8:] = 0
    model.losses(Batch(ToySplit(model.domain).x), stream("loss"))["loss"].mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.progress(0.1)
    assert all(codebook.codes.abs().max() < 100 for codebook in model.codebooks)


def test_only_pictures() -> None:
    assert "vqvae takes" in (VQVAE2.refuses(Grid(1, (4, 4, 4), 2)) or "")
    with pytest.raises(ValueError, match="scales"):
        VQVAE2(Grid(1, (8, 8)), scales=0)
