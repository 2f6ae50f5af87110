import json

import pytest
import torch

from genus.domain import Domain, Grid, Pyramid, Tokens, Vectors, from_json
from genus.testing.subjects import TINY_DOMAINS


@pytest.mark.parametrize("domain", [*TINY_DOMAINS, Grid(1, (7, 7), 512, ordered=False)], ids=str)
def test_what_is_written_is_read(domain: Domain) -> None:
    assert from_json(json.loads(json.dumps(domain.to_json()))) == domain


def test_old_descriptions_of_grids_are_read() -> None:
    assert from_json({"kind": "grid", "channels": 1, "size": [8, 8], "levels": 17}) == Grid(1, (8, 8), 17)
    assert Grid(1, (8, 8), 17).to_json() == {"kind": "grid", "channels": 1, "size": (8, 8), "levels": 17}


def test_a_pyramid_is_its_grids() -> None:
    domain = Pyramid((5, 8), scales=3, levels=300)
    assert domain.sizes == ((2, 2), (3, 4), (5, 8))
    assert domain.shape == (4 + 12 + 40,) and domain.dtype == torch.int64
    x = torch.arange(2 * 56).view(2, 56)
    assert [tuple(grid.shape) for grid in domain.grids(x)] == [(2, 2, 2), (2, 3, 4), (2, 5, 8)]
    assert torch.equal(domain.join(domain.grids(x)), x)
    domain.check(x)


@pytest.mark.parametrize("make", [lambda: Pyramid((0, 2), 1), lambda: Pyramid((4, 4), 0), lambda: Pyramid((4,), 1, 1),
                                  lambda: Tokens(0), lambda: Vectors(0)])  # fmt: skip
def test_what_cannot_be(make) -> None:
    with pytest.raises(ValueError, match="need"):
        make()
