"""PixelRNN: what it reads, that it is a distribution, that a walk is the full pass, and what edits keep."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.kinds import Grid, Label
from genus.models.autoregressive import _masked, pixelrnn
from genus.models.autoregressive.pixelrnn import Kind, PixelRNN
from genus.prob import noise
from genus.testing.checks._common import AlienDomain
from genus.testing.oracles import check_causal
from genus.testing.statistics import CheckError

LABEL = Label(("a", "b"))
GREY, RGB = Grid(1, (4, 5), 2), Grid(3, (3, 3), 3)
KINDS: tuple[Kind, ...] = ("row", "diagonal")


def build(
    domain: Grid, kind: Kind, condition: Label | None = None, features: int = 6, layers: int = 2, first: int = 5
) -> PixelRNN:
    """A model with weights so large that what is read shows."""
    model = PixelRNN(domain, condition, kind=kind, features=features, layers=layers, first=first)
    for name, parameter in model.named_parameters():
        parameter.data = 0.4 * noise.normal(tuple(parameter.shape), noise.stream(name))
    return model


def data(domain: Grid, count: int = 3) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("x")).to(domain.dtype)


def assert_causal(model: PixelRNN) -> None:
    """Bit for bit; data and logits are turned so that the model's order runs along the axes."""

    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.logits(x.permute(0, 3, 1, 2)).permute(0, 3, 4, 1, 2).flatten(1, 3)

    check_causal(function, data(model.domain).permute(0, 2, 3, 1).contiguous(), model.domain.levels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("domain", [GREY, RGB, Grid(2, (1, 4), 2), Grid(1, (4, 1), 5)], ids=str)
@pytest.mark.parametrize("features", [6, 7])  # 7: groups of unequal size
def test_an_entry_sees_only_those_before_it(kind: Kind, domain: Grid, features: int) -> None:
    assert_causal(build(domain, kind, features=features))


def leak_at_the_centre(model: PixelRNN) -> None:
    model.first.mask[:, :, -1, 2] = 1


def mix_the_groups(model: PixelRNN) -> None:
    """Outputs in blocks, inputs taken in turn: the mistake of many ports."""
    own = _masked.group_mask(torch.arange(12) % 3, _masked.groups_of(6, 3).repeat(4))
    model.layers[0].read.mask[:24, :, -1, -1] = own.float()


def gates_of_another_group(model: PixelRNN) -> None:
    """The groups of 4f gates laid out in one run, though they are four of f."""
    own = _masked.group_mask(_masked.groups_of(12, 3), _masked.groups_of(24, 3))
    model.layers[0].read.mask[:24, :, -1, -1] = own.float()


def open_the_way_out(model: PixelRNN) -> None:
    model.layers[1].out.mask.fill_(1)


def open_the_head(model: PixelRNN) -> None:
    model.head[1].mask.fill_(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "break_it", [leak_at_the_centre, mix_the_groups, gates_of_another_group, open_the_way_out, open_the_head]
)
def test_a_leak_is_noticed(kind: Kind, break_it: Callable[[PixelRNN], None]) -> None:
    model = build(RGB, kind)
    break_it(model)
    with pytest.raises(CheckError, match="moves the output"):
        assert_causal(model)


@pytest.mark.parametrize("domain", [GREY, RGB], ids=str)
def test_without_its_shift_the_right_to_left_lstm_sees_the_future(
    monkeypatch: pytest.MonkeyPatch, domain: Grid
) -> None:
    monkeypatch.setattr(pixelrnn, "one_row_down", lambda x: x)
    with pytest.raises(CheckError, match="moves the output"):
        assert_causal(build(domain, "diagonal"))


def test_a_row_that_reads_to_its_right_is_noticed() -> None:
    model = build(GREY, "row")
    model.layers[0].read.pad = (0, 1, 0, 0)
    with pytest.raises(CheckError, match="moves the output"):
        assert_causal(model)


def read_by(model: PixelRNN, row: int, column: int) -> Tensor:
    """Which pixels the logits of one depend on: ``(H, W)``."""
    planes = model.planes(data(model.domain, 1)).requires_grad_()
    model.full_pass(planes, None)[0, 0, row, column].backward()
    assert planes.grad is not None
    return planes.grad[0, 0] != 0


@pytest.mark.parametrize("layers", [1, 3])
def test_the_diagonals_see_all_that_comes_before_but_one(layers: int) -> None:
    """A first kernel of 3 does not reach far by itself; the last pixel of the row above is out of its reach."""
    model = build(Grid(1, (6, 7), 2), "diagonal", layers=layers, first=3).double()
    expected = torch.ones(6, 7, dtype=torch.bool)
    expected[5:, 3:] = False
    expected[4, 6] = False
    assert torch.equal(read_by(model, 5, 3), expected)
    expected[5:, 3:5] = expected[4, 6] = True
    assert torch.equal(read_by(model, 5, 5), expected)


def test_the_rows_see_a_triangle() -> None:
    """One layer: the input's reach (two to the left, one to the right) grows by one a row upwards."""
    model = build(Grid(1, (4, 9), 2), "row", layers=1, first=3).double()
    expected = torch.zeros(4, 9, dtype=torch.bool)
    for up in range(4):
        expected[3 - up, max(0, 5 - 2 - up) : 5 + up + (up > 0)] = True
    expected[3, 5:] = False
    assert torch.equal(read_by(model, 3, 5), expected)


@pytest.mark.parametrize("size", [(1, 4), (4, 1), (3, 5), (5, 3)])
def test_skewed_columns_are_diagonals(size: tuple[int, int]) -> None:
    rows, columns = size
    x = torch.arange(1, rows * columns + 1).view(1, rows, columns, 1)
    skewed = pixelrnn.skew(x)
    for row in range(rows):
        expected = [0] * row + x[0, row, :, 0].tolist() + [0] * (rows - 1 - row)
        assert skewed[0, row, :, 0].tolist() == expected
    assert torch.equal(pixelrnn.unskew(skewed), x)


def test_the_lstm_is_the_textbooks() -> None:
    """Against torch's own cell, whose gates come in another order (input, forget, content, output)."""
    gates, cell = noise.normal((5, 12), noise.stream("gates")), noise.normal((5, 3), noise.stream("cell"))
    reference = torch.nn.LSTMCell(12, 3, bias=False)
    i, f, o, g = torch.eye(12).chunk(4)
    with torch.no_grad():
        reference.weight_ih.copy_(torch.cat([i, f, g, o]))
        expected = reference(gates, (torch.zeros(5, 3), cell))
    torch.testing.assert_close(pixelrnn.lstm(gates, cell), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [Grid(1, (3, 3), 2), Grid(2, (2, 1), 3), Grid(1, (2, 3), 3)], ids=str)
def test_probabilities_of_all_states_sum_to_one(every_state, kind, domain, dtype, tolerance) -> None:
    x = every_state(domain)
    model, conditional = build(domain, kind).to(dtype), build(domain, kind, LABEL).to(dtype)
    with torch.no_grad():
        distributions = [model.log_prob(x)] + [
            conditional.log_prob(x, condition=torch.full((len(x),), k)) for k in range(2)
        ]
    assert all(abs(distribution.double().exp().sum().item() - 1) < tolerance for distribution in distributions)
    assert (distributions[1].exp() - distributions[2].exp()).abs().sum() > 0.001  # the label changes the distribution


def stepwise_logits(model: PixelRNN, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """The logits that a walk meets where the pictures are ``x``."""
    stepwise = torch.full((*x.shape[:2], model.width, *x.shape[2:]), torch.nan, dtype=model.first.weight.dtype)

    def choose(logits: Tensor, channel: int, row: int, column: int) -> Tensor:
        stepwise[:, channel, :, row, column] = logits
        return x[:, channel, row, column]

    assert torch.equal(model.walk(len(x), labels, choose), x)
    return stepwise


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [Grid(1, (5, 7), 2), RGB, Grid(2, (1, 5), 4), Grid(1, (5, 1), 2)], ids=str)
@pytest.mark.parametrize("condition", [None, LABEL], ids=["", "labels"])
def test_a_walk_gives_the_logits_of_the_full_pass(kind, domain, condition, dtype, tolerance) -> None:
    """Not bit for bit: a matrix product of one position sums in another order than one of a line does."""
    model, x = build(domain, kind, condition).to(dtype), data(domain)
    labels = None if condition is None else torch.tensor([0, 1, 1])
    with torch.no_grad():
        full = model.logits(x, labels)
    torch.testing.assert_close(stepwise_logits(model, x, labels), full, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["Row", "Diagonal"])
def test_a_walk_that_forgets_the_row_above_is_noticed(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    model, x = build(GREY, "row" if kind == "Row" else "diagonal"), data(GREY)
    monkeypatch.setattr(getattr(pixelrnn, f"{kind}Memory"), "next_row", lambda _: None)
    with torch.no_grad():
        assert (stepwise_logits(model, x) - model.logits(x)).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("domain", [Grid(1, (2, 2), 2), Grid(2, (1, 2), 2)], ids=str)
def test_samples_follow_log_prob(every_state, z_scores, kind: Kind, domain: Grid) -> None:
    model, count, x = build(domain, kind, LABEL), 20_000, every_state(domain)
    for label in range(2):
        draws = model.sample(count, condition=torch.full((count,), label), generator=noise.stream("draw", label))
        with torch.no_grad():
            z = z_scores(domain, draws, model.log_prob(x, condition=torch.full((len(x),), label)))
        assert len(z) > 3 and z.abs().max() < 4.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("domain", [GREY, RGB], ids=str)
def test_an_edit_keeps_any_part(kind: Kind, domain: Grid) -> None:
    model, x = build(domain, kind), data(domain, 8)
    keep = noise.uniform(tuple(x.shape), noise.stream("keep")) < 0.5
    edited = model.edit(x, keep, generator=noise.stream("edit"))
    assert torch.equal(edited[keep], x[keep]) and not torch.equal(edited, x)
    sampled = model.sample(8, generator=noise.stream("same"))
    assert torch.equal(model.edit(x, torch.zeros_like(keep), generator=noise.stream("same")), sampled)


def test_refusals_teach() -> None:
    with pytest.raises(ValueError, match=r"grids of two axes"):
        PixelRNN(Grid(1, (4,), 2))
    with pytest.raises(ValueError, match=r"kind: expected 'row' or 'diagonal'; got 'column'"):
        PixelRNN(RGB, kind="column")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"features: .* at least 3; got 2"):
        PixelRNN(RGB, features=2)
    with pytest.raises(ValueError, match=r"layers: expected at least 1"):
        PixelRNN(RGB, layers=0)
    with pytest.raises(ValueError, match=r"first: expected an odd size"):
        PixelRNN(RGB, first=4)
    with pytest.raises(ValueError, match="is conditioned on labels"):
        PixelRNN(RGB, AlienDomain())
