"""The picture of a chain: something for every chain, the graph of few states, the map of many."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from genus.chains import MarkovChain
from genus.report.chain import MOST_NODES, _graph, shown, transition_picture


def uniform(states: int) -> MarkovChain:
    return MarkovChain(torch.full((states, states), 1 / states, dtype=torch.float64))


@pytest.mark.parametrize("states", [1, 2, MOST_NODES, MOST_NODES + 1])
def test_every_chain_has_a_picture(states: int) -> None:
    picture = transition_picture(uniform(states))
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    assert 200 < pixels.shape[0] < 1200 and pixels.std() > 3


def test_the_picture_of_a_chain_is_a_function_of_it() -> None:
    assert transition_picture(uniform(2)) == transition_picture(uniform(2)) != transition_picture(uniform(3))


def test_the_arrows_are_the_transitions() -> None:
    chain = MarkovChain([[0.5, 0.5, 0], [0, 0.998, 0.002], [1, 0, 0]], ("a", "$b$", "c"))
    axis = _graph(chain).axes[0]
    said = [text.get_text() for text in axis.texts]
    assert sorted(text for text in said if text[:1].isdigit()) == ["0.50", "0.50", "1", "1"]  # 0.002 is too faint
    assert {"a", r"\$b\$", "c"} <= set(said)


def test_names_that_cannot_be_seen_are_spelled_out() -> None:
    assert [shown(name) for name in ("a", " ", "\n", "x" * 20)] == ["a", "' '", r"'\n'", "x" * 11 + "…"]
