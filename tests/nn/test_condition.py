"""Any condition as a vector and maps."""

import pytest
import torch

from genus.kinds import Domain, Grid, Label, Parts, Points, Pyramid, Tokens, Vectors, Waveform
from genus.nn.condition import ConditionEncoder
from genus.testing.subjects import toy_data

KINDS: list[Domain] = [
    Label(("a", "b", "c")), Vectors(3), Tokens(5, 7), Waveform(40, 8000), Grid(3, (8, 6), 256),
    Grid(1, (8, 6), 5, ordered=False), Grid(1, (4, 3), 256), Points(9, 3),
    Parts((("map", Grid(1, (8, 6), 4, ordered=False)), ("style", Vectors(2)))),
]  # fmt: skip


def data(domain: Domain, count: int = 6) -> torch.Tensor:
    which = torch.arange(count) % 3
    if isinstance(domain, Label):
        return which
    if isinstance(domain, Parts):
        return domain.join({name: toy_data(part, which) for name, part in domain.parts})
    return toy_data(domain, which)


@pytest.mark.parametrize("domain", KINDS, ids=str)
def test_a_condition_of_any_kind_is_read_and_may_be_dropped(domain: Domain) -> None:
    torch.manual_seed(0)
    encoder, x = ConditionEncoder(domain, 12, (8, 6), 4), data(domain)
    encoder.fit(x)
    torch.nn.init.normal_(encoder.null)
    read = encoder(x)
    assert read.vector.shape == (6, 12) and read.vector.isfinite().all()
    assert not torch.allclose(read.vector[0], read.vector[1])
    placed = isinstance(domain, Grid | Parts)
    assert (read.maps is not None) == placed and (not placed or read.maps.shape == (6, 4, 8, 6))
    dropped = torch.arange(6) % 2 == 0
    some, none = encoder(x, dropped), encoder.nothing(6)
    for told, untold, mixed in zip(read, none, some, strict=True):
        if told is not None:
            assert torch.equal(mixed[~dropped], told[~dropped]) and torch.equal(mixed[dropped], untold[dropped])


def test_a_label_alone_may_stay_as_it_is() -> None:
    encoder = ConditionEncoder(Label(("a", "b", "c")))
    assert torch.equal(encoder(torch.tensor([2, 0])).vector, torch.tensor([[0.0, 0, 1], [1, 0, 0]]))
    assert not list(encoder.parameters()) and not encoder.state_dict()
    assert not encoder.nothing(2).vector.any()


def test_numbers_of_any_scale_are_read_alike() -> None:
    torch.manual_seed(0)
    encoder, x = ConditionEncoder(Vectors(2), 8), toy_data(Vectors(2), torch.arange(30) % 3)
    encoder.fit(x)
    before = encoder(x).vector
    encoder.fit(1000 * x + 7)
    assert torch.allclose(encoder(1000 * x + 7).vector, before, atol=1e-4)


def test_the_order_of_points_carries_no_meaning() -> None:
    encoder, x = ConditionEncoder(Points(9, 3), 8), data(Points(9, 3))
    assert torch.allclose(encoder(x).vector, encoder(x.flip(1)).vector, atol=1e-6)


def test_other_kinds_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"labels, vectors, .*got codes on grids"):
        ConditionEncoder(Pyramid((2, 2), 2, 4))
