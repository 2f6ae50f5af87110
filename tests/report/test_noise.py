"""Film strips and the terms of the bound in a run's report."""

import math

import pytest
import torch

from genus.contract import GenerativeModel
from genus.kinds import Domain, Grid, Tokens, Vectors
from genus.models.autoregressive.nade import NADE
from genus.models.diffusion.d3pm import D3PM
from genus.models.diffusion.ddpm import DDPM
from genus.models.diffusion.diffusion2015 import Diffusion2015
from genus.models.diffusion.edm import EDM
from genus.report.noise import DOTS, ITEMS, TIMES, film_elements, film_of
from genus.report.page import page
from genus.testing.subjects import ToySplit

GREY = Grid(1, (6, 6), 17)


@pytest.mark.parametrize("model_class", [DDPM, EDM])
def test_strips_begin_with_data_and_end_in_noise(model_class: type[GenerativeModel]) -> None:
    split = ToySplit(GREY)
    film = film_of(model_class.tiny(GREY), split)
    assert film is not None
    for strip in (film.forward, film.backward, film.guesses):
        assert strip is not None
        assert strip.shape == (ITEMS, len(TIMES), *GREY.shape)
        GREY.check(strip.flatten(0, 1))
    assert film.forward is not None
    rows = [bool((split.x == datum).flatten(1).all(1).any()) for datum in film.forward[:, 0]]
    assert all(rows)
    assert not (film.forward[:, -1] == film.forward[:, 0]).all()
    html = page("film", film_elements(film, GREY))
    assert html.count("data:image/png") == 3


@pytest.mark.parametrize("model_class", [EDM, Diffusion2015])
def test_rows_of_a_table_are_dots(model_class: type[GenerativeModel]) -> None:
    split, model = ToySplit(Vectors(2)), model_class.tiny(Vectors(2))
    model.initialise(split)
    film = film_of(model, split)
    assert film is not None and film.forward is not None and film.backward is not None
    count = min(DOTS, len(split))
    assert film.forward.shape == film.backward.shape == (count, len(TIMES), 2)
    assert (film.guesses is None) == (model_class is Diffusion2015)  # whose network gives steps, not data
    found = {tuple(row) for row in film.forward[:, 0].tolist()}
    assert len(found & {tuple(row) for row in split.x.tolist()}) > 0.9 * len(found)
    assert page("film", film_elements(film, Vectors(2))).count("data:image/png") == (
        3 if film.guesses is not None else 2
    )


@pytest.mark.parametrize(
    ("model_class", "domain"), [(DDPM, GREY), (D3PM, Tokens(4, 3)), (Diffusion2015, Vectors(2)), (Diffusion2015, GREY)]
)
def test_the_terms_are_those_of_the_bound(model_class: type[GenerativeModel], domain: Domain) -> None:
    split, model = ToySplit(domain), model_class.tiny(domain)
    model.initialise(split)
    film = film_of(model, split)
    assert film is not None
    assert len(film.terms) == 4 + 1  # T steps, and what is left
    nats = -model.log_prob(split.x, num_samples=8).double().mean()  # type: ignore[operator]
    assert math.isclose(sum(film.terms) * domain.num_dims * math.log(2), float(nats), rel_tol=0.3)
    assert "what is left at the end" in page("film", film_elements(film, domain))


def test_other_models_have_none() -> None:
    domain = Grid(1, (4, 4), 2)
    assert film_of(NADE.tiny(domain), ToySplit(domain)) is None
    assert film_elements(None, domain) == []
    assert torch.is_grad_enabled()
