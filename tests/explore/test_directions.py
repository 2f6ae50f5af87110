"""Named directions, the range of the prior, the plane, and moves that add up."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from genus.contract import has_standard_prior
from genus.data import Source, TensorSplit
from genus.errors import DataFormatError, SettingsError
from genus.explore import (
    coordinates,
    difference,
    displacement,
    encode,
    named,
    plane,
    principal,
    quantiles,
    read_own,
    reconstruct,
    sides,
    sweep,
)
from genus.explore.moves import with_scale
from genus.kinds import Grid, Label, Points, Vectors
from genus.models.flow.realnvp import RealNVP
from genus.models.latent.vae import VAE
from genus.models.two_stage import TwoStage
from genus.prob import noise
from genus.testing.mutants import Affine


def draw(*shape: int, key: str = "z") -> Tensor:
    return noise.normal(shape, noise.stream("directions", key))


# -- names ------------------------------------------------------------------------------


def test_names_are_numbers_of_the_latents_and_principal_directions() -> None:
    z = draw(200, 4) @ draw(4, 4, key="mix")
    along = named(["latent-2", "pca-3"], z)
    assert along.names == ("latent-2", "pca-3")
    assert along.vectors[0].tolist() == [0, 0, 1, 0] and torch.isclose(along.deviations[0], z.double().std(0)[2])
    whole = principal(z, 3)
    assert torch.equal(along.vectors[1], whole.vectors[2]) and torch.equal(along.deviations[1], whole.deviations[2])
    assert not torch.allclose(along.vectors[1].abs(), whole.vectors[0].abs(), atol=0.1)  # control: another one


@pytest.mark.parametrize("shape", [(300, 5), (5, 300)])
def test_principal_directions_of_many_and_of_few_data(shape) -> None:
    z = draw(*shape).double() * 0.7 ** torch.arange(shape[1], dtype=torch.float64)
    along = principal(z, 3)
    _, values, right = torch.linalg.svd(z - z.mean(0), full_matrices=False)
    assert torch.allclose((along.vectors @ right[:3].T).abs(), torch.eye(3, dtype=torch.float64), atol=1e-7)
    assert torch.allclose(along.deviations, values[:3] / math.sqrt(len(z) - 1), rtol=1e-8)
    assert (along.vectors.gather(1, along.vectors.abs().argmax(1, keepdim=True)) > 0).all()


@pytest.mark.parametrize("name", ["latent-4", "pca-0", "pca-5", "latent", "pca--1", "latent-1.5", "Latent-1", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"latent-0\.\.3 or pca-1\.\.4"):
        named([name], draw(50, 4))


# -- the range of the prior -------------------------------------------------------------


class Identity(Affine):
    """Latents that are the data."""


def test_the_range_of_a_standard_normal_prior() -> None:
    along = named(["latent-0", "pca-1"], draw(50, 2))
    to, distribution = quantiles(VAE.tiny(Vectors(3)), draw(50, 2), along, 5)
    normal = torch.distributions.Normal(0.0, 1.0)
    assert distribution == "the prior" and torch.equal(to[0], to[1])
    assert torch.allclose(normal.cdf(to[0].float()), torch.tensor([0.01, 0.255, 0.5, 0.745, 0.99]), atol=1e-6)
    assert not torch.allclose(to[0].diff(), to[0].diff()[0].expand(4), atol=0.1)  # control: not even in value


def test_the_range_of_other_latents_is_that_of_the_data() -> None:
    z = draw(1001, 2) * torch.tensor([1.0, 7.0]) + 5
    along = coordinates(z, [1, 0])
    to, distribution = quantiles(Identity(Vectors(2)), z, along, 3)
    assert distribution == "the encoded data" and to.shape == (2, 3)
    ordered = z.double().sort(0).values
    assert torch.allclose(to, ordered[[10, 500, 990]].T.flip(0))


def test_a_prior_says_whether_it_is_standard() -> None:
    domain, labels = Grid(1, (3, 3), 2), Label(("a", "b"))
    assert has_standard_prior(VAE.tiny(domain)) and has_standard_prior(VAE.tiny(domain, labels))
    assert not has_standard_prior(VAE(domain, prior="flow"))
    assert not has_standard_prior(RealNVP.tiny(Grid(1, (4, 4), 16)))  # signs no prior of its own
    assert not has_standard_prior(TwoStage.tiny(domain))  # its prior is a flow


def test_a_sweep_sets_one_coordinate_and_leaves_the_others() -> None:
    z = draw(400, 3) @ draw(3, 3, key="mix")
    along, to = named(["latent-1", "pca-1"], z), torch.tensor([[-2.0, 0.5], [1.0, 3.0]]).double()
    rows = sweep(Identity(Vectors(3)), z[0], along, to).detach().double()
    assert rows.shape == (2, 2, 3)
    for row, (vector, values) in enumerate(zip(along.vectors, to, strict=True)):
        assert torch.allclose(rows[row] @ vector, values, atol=1e-5)
        across = torch.eye(3, dtype=torch.float64) - vector.outer(vector)
        assert torch.allclose(rows[row] @ across, (z[0].double() @ across).expand(2, 3), atol=1e-5)
    assert not torch.allclose(rows[1, 0], z[0].double(), atol=0.1)


def test_a_plane_runs_to_the_right_and_downwards() -> None:
    z, to = draw(3), torch.tensor([[-1.0, 0.0, 2.0], [5.0, 6.0, 7.0]]).double()
    sheet = plane(Identity(Vectors(3)), z, coordinates(draw(9, 3), [2, 0]), to).detach()
    assert sheet.shape == (3, 3, 3)
    assert torch.allclose(sheet[..., 2], to[0].float().expand(3, 3), atol=1e-6)
    assert torch.allclose(sheet[..., 0], to[1].float().view(3, 1).expand(3, 3), atol=1e-6)
    assert (sheet[..., 1] == z[1]).all()
    with pytest.raises(ValueError, match="at right angles"):
        plane(Identity(Vectors(3)), z, coordinates(draw(9, 3), [2, 2]), to)


def test_the_plane_of_a_vae_of_two_latents_is_its_whole_prior() -> None:
    """Decoded at the prior's own quantiles, so that a grid of pictures is a grid of equal shares of the prior."""
    torch.manual_seed(0)
    model = VAE.tiny(Grid(1, (4, 4), 2))
    along = coordinates(draw(9, 2), [0, 1])
    to, _ = quantiles(model, draw(9, 2), along, 4)
    sheet = plane(model, 100 * draw(2, key="anywhere"), along, to)
    z = torch.stack(torch.meshgrid(to[1], to[0], indexing="ij")[::-1], 2).float()
    assert torch.equal(sheet, model.decode(z.view(16, 2)).view(4, 4, 1, 4, 4))


# -- reconstruction ---------------------------------------------------------------------


def test_codes_are_reconstructed_though_there_is_nothing_between_them() -> None:
    class Rounds(Affine):
        def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
            return x.round().long()

        def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
            return z.float()

    x = 3 * draw(70, 2)
    assert torch.equal(reconstruct(Rounds(Vectors(2)), x), x.round())
    with pytest.raises(ValueError, match="genus reconstruct"):
        encode(Rounds(Vectors(2)), x)


# -- moves ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source() -> Source:
    """Three groups around known means, and a mood with a hyphen in it."""
    label = torch.arange(60) % 3
    x = torch.tensor([[0.0, 0, 0, 0], [5, 0, 0, 0], [0, 2, 0, 0]])[label] + 0.1 * draw(60, 4)
    split = TensorSplit(x, label, attributes={"mood": (torch.arange(60) >= 30).long(), "turn": torch.arange(60.0)})
    return Source("toy", Vectors(4), split, split, split, Label(("a", "b", "c-d")),
                  attributes={"mood": ("so-so", "good"), "turn": ()})  # fmt: skip


def of(source: Source, label: int) -> Tensor:
    return source.train.x[source.train.condition == label]


@pytest.mark.parametrize(
    ("words", "plus", "minus"),
    [
        ("label=a", lambda n: n % 3 == 0, lambda n: n % 3 != 0),
        ("label=b-a", lambda n: n % 3 == 1, lambda n: n % 3 == 0),
        ("label=c-d", lambda n: n % 3 == 2, lambda n: n % 3 != 2),
        ("label=c-d-b", lambda n: n % 3 == 2, lambda n: n % 3 == 1),
        ("mood=good-so-so", lambda n: n >= 30, lambda n: n < 30),
        ("turn>40", lambda n: n > 40, lambda n: n <= 40),
        ("label=a,mood=good", lambda n: n % 3 == 0 and n >= 30, lambda n: n % 3 != 0 or n < 30),
    ],
)
def test_a_group_against_another_or_against_all_others(source, words, plus, minus) -> None:
    found = sides(words, source, source.train)
    assert [part.tolist() for part in found] == [[n for n in range(60) if side(n)] for side in (plus, minus)]


@pytest.mark.parametrize(
    ("words", "sentence"), [("label=a-x", "one of a, b, c-d"), ("turn>-1", "nothing to set it against"), ("x=1", "x")]
)
def test_sides_that_are_not_there(source, words, sentence) -> None:
    with pytest.raises(SettingsError, match=sentence):
        sides(words, source, source.train)


def test_moves_are_differences_of_means_and_add_up(source) -> None:
    model, x = Identity(Vectors(4)), source.train.x
    one, said = displacement(("label=b",), model, source)
    others = x[source.train.condition != 1]
    assert torch.allclose(one, difference(others, of(source, 1)), atol=1e-5) and "20 and 40 training items" in said[0]
    two, _ = displacement(("label=b-a:-0.5",), model, source)
    assert torch.allclose(two, -0.5 * difference(of(source, 0), of(source, 1)), atol=1e-5)
    assert not torch.allclose(one, -2 * two, atol=0.1)  # control: all others are not one other
    along = named(["pca-1", "latent-3"], x)
    three, said = displacement(("pca-1:2", "latent-3:-3"), model, source)
    expected = 2 * along.deviations[0] * along.vectors[0] - 3 * along.deviations[1] * along.vectors[1]
    assert torch.allclose(three, expected, atol=1e-5) and said[1].startswith("latent-3: -3 standard deviations of 0.1")
    together, said = displacement(("label=b", "label=b-a:-0.5", "pca-1:2", "latent-3:-3"), model, source)
    assert torch.allclose(together, one + two + three, atol=1e-5) and len(said) == 4


@pytest.mark.parametrize(
    ("words", "expected"), [("label=a", ("label=a", 1.0)), ("a:b=c:-2.5", ("a:b=c", -2.5)), ("pca-1:2", ("pca-1", 2.0))]
)
def test_the_scale_stands_behind_the_last_colon(words, expected) -> None:
    assert with_scale(words) == expected


@pytest.mark.parametrize("words", ["pca-1:", "pca-1:much", "pca-1:nan", "pca-1:inf"])
def test_scales_that_are_no_numbers(words) -> None:
    with pytest.raises(SettingsError, match="finite number"):
        with_scale(words)


# -- own pictures -----------------------------------------------------------------------


def test_own_pictures_come_in_the_terms_of_the_run(tmp_path) -> None:
    ramp = np.tile(np.linspace(0, 255, 8).round().astype(np.uint8), (8, 1))
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([ramp, ramp, 0 * ramp], 2)).save(tmp_path / "colour.png")
    paths = (tmp_path / "grey.png", tmp_path / "colour.png")
    grey = read_own(paths, Grid(1, (8, 8)))
    assert grey.dtype == torch.uint8 and np.array_equal(grey[0, 0].numpy(), ramp)
    assert torch.allclose(grey[1].double(), 0.886 * grey[0].double(), atol=0.51)  # luma of yellow
    colour = read_own(paths, Grid(3, (8, 8)))
    assert np.array_equal(colour[1, 1].numpy(), ramp) and not colour[1, 2].any()
    assert np.array_equal(colour[0, 2].numpy(), ramp)
    binary = read_own(paths[:1], Grid(1, (8, 8), 2))
    assert np.array_equal(binary[0, 0].numpy(), ramp > 127)
    assert read_own(paths[:1], Grid(1, (8, 8), 17)).unique().tolist() == [0, 2, 5, 7, 9, 11, 14, 16]


@pytest.mark.parametrize(
    ("domain", "sentence"),
    [
        (Vectors(3), "in grey or colour"),
        (Points(9), "in grey or colour"),
        (Grid(1, (8, 8), 17, ordered=False), "in grey or colour"),
        (Grid(1, (8, 9)), "squares"),
        (Grid(1, (8, 8)), "no such file"),
    ],
)
def test_own_pictures_that_do_not_fit(tmp_path, domain, sentence) -> None:
    with pytest.raises(DataFormatError, match=sentence):
        read_own((tmp_path / "none.png",), domain)
    (tmp_path / "none.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    if domain == Grid(1, (8, 8)):
        with pytest.raises(DataFormatError, match="not a readable"):
            read_own((tmp_path / "none.png",), domain)
