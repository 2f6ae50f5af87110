"""Any condition as a vector and maps."""

import pytest
import torch

from genus.kinds import Domain, Grid, Label, Parts, Points, Pyramid, Tokens, Vectors, Waveform
from genus.nn.condition import NOTHING, ConditionBias, Conditioned, ConditionEncoder, resized
from genus.testing.subjects import LABELS, toy_data

KINDS: list[Domain] = [
    Label(("a", "b", "c")), Vectors(3), Tokens(5, 7), Waveform(40, 8000), Grid(3, (8, 6), 256),
    Grid(1, (8, 6), 5, ordered=False), Grid(1, (4, 3), 256), Points(9, 3),
    Pyramid((8, 6), 3, 4),
    Parts((("map", Grid(1, (8, 6), 4, ordered=False)), ("style", Vectors(2)))),
]  # fmt: skip


def data(domain: Domain, count: int = 6) -> torch.Tensor:
    return toy_data(domain, torch.arange(count) % 3)


@pytest.mark.parametrize("domain", KINDS, ids=str)
def test_a_condition_of_any_kind_is_read_and_may_be_dropped(domain: Domain) -> None:
    torch.manual_seed(0)
    encoder, x = ConditionEncoder(domain, 12, (8, 6), 4), data(domain)
    encoder.fit(x)
    torch.nn.init.normal_(encoder.null)
    read = encoder(x)
    assert read.vector.shape == (6, 12) and read.vector.isfinite().all()
    assert not torch.allclose(read.vector[0], read.vector[1])
    placed = isinstance(domain, Grid | Pyramid | Parts)
    assert (read.maps is not None) == placed and (not placed or read.maps.shape == (6, 4, 8, 6))
    dropped = torch.arange(6) % 2 == 0
    some, none = encoder(x, dropped), encoder.nothing(6)
    for told, untold, mixed in zip(read, none, some, strict=True):
        if told is not None:
            assert torch.equal(mixed[~dropped], told[~dropped]) and torch.equal(mixed[dropped], untold[dropped])


def test_a_label_alone_may_stay_as_it_is() -> None:
    encoder = ConditionEncoder(LABELS)
    assert torch.equal(encoder(torch.tensor([2, 0])).vector, torch.tensor([[0.0, 0, 1], [1, 0, 0]]))
    assert not list(encoder.parameters()) and not encoder.state_dict()
    assert not encoder.nothing(2).vector.any()


def test_parts_may_have_any_name() -> None:
    domain = Parts((("type", Label(("a", "b"))), ("half", Vectors(2))))
    assert ConditionEncoder(domain)(domain.join({"type": torch.tensor([1]), "half": torch.ones(1, 2)})).vector.any()


@pytest.mark.parametrize("domain", KINDS, ids=str)
def test_every_weight_of_a_model_that_drops_nothing_learns(domain: Domain) -> None:
    torch.manual_seed(0)
    model, x = Conditioned(), data(domain)
    model.bias = ConditionBias(model.condition_on(domain, (8, 6)), 5)
    model.fit_condition(x)
    read = model.read_condition(x)
    assert model.read_condition(read) is read and model.read_condition(None) is None
    model.bias(torch.zeros(6, 5, 4, 3), read).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_a_bias_is_a_table_of_labels_and_sees_maps_in_their_place() -> None:
    torch.manual_seed(0)
    encoder = ConditionEncoder(LABELS)
    bias, labels = ConditionBias(encoder.context, 4), torch.tensor([2, 0])
    torch.manual_seed(0)
    table = torch.nn.Embedding(3, 4)
    assert torch.equal(bias.weight, table.weight)
    assert torch.equal(bias(torch.zeros(2, 4), encoder(labels)), table(labels))
    assert torch.equal(bias.double().vector(encoder.double()(labels)), table.double()(labels))
    h = torch.ones(2, 4)
    assert ConditionBias(NOTHING, 4)(h, None) is h
    encoder = ConditionEncoder(Grid(1, (8, 6), 2), size=(8, 6))
    bias, x = ConditionBias(encoder.context, 4), torch.zeros(2, 1, 8, 6, dtype=torch.uint8)
    x[1, :, 4:] = 1  # the lower half
    read = encoder(x)
    read = read._replace(vector=torch.zeros_like(read.vector))
    upper, lower = bias(torch.zeros(2, 4, 8, 6), read).split([3, 5], 2)  # convolutions of three look one row ahead
    assert torch.allclose(upper[0], upper[1]) and not torch.allclose(lower[0], lower[1])
    assert bias(torch.zeros(2, 4, 4, 3), read).shape == (2, 4, 4, 3)  # of another size


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


@pytest.mark.parametrize("domain", [d for d in KINDS if not isinstance(d, Parts)], ids=str)
def test_first_weights_let_what_differs_between_conditions_through(domain: Domain) -> None:
    torch.manual_seed(0)
    encoder, x = ConditionEncoder(domain, 64), data(domain, 60)
    encoder.fit(x)
    assert float(encoder(x).vector.detach().std(0).mean()) > 0.01  # with PyTorch's first weights a picture has 0.002


def test_the_place_in_a_picture_matters() -> None:
    torch.manual_seed(0)
    x = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    x[0, :, 16:24, 16:24] = x[1, :, 40:48, 40:48] = 255
    left, right = ConditionEncoder(Grid(1, (64, 64)), 64)(x).vector
    assert float((left - right).detach().abs().mean()) > 0.01


def test_a_thin_line_survives_a_smaller_size() -> None:
    outline = torch.zeros(1, 1, 32, 32)
    outline[..., 13] = 1
    for smooth in (True, False):
        assert float(resized(outline, (8, 8), smooth).mean()) == pytest.approx(float(outline.mean()))


def test_other_kinds_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"labels, vectors, .*got grid 1x2x2x2x2, 4 levels"):
        ConditionEncoder(Grid(1, (2, 2, 2, 2), 4))
