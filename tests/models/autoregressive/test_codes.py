"""Raster models of codes, which have no order: what they read, that they are distributions, that a walk is the full
pass."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.contract import Batch
from genus.kinds import Grid, Label
from genus.models.autoregressive import _masked
from genus.models.autoregressive._masked import RasterModel
from genus.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from genus.models.autoregressive.pixelcnn import PixelCNN
from genus.models.autoregressive.pixelcnn_pp import PixelCNNPP
from genus.models.autoregressive.pixelrnn import PixelRNN
from genus.prob import chain, noise
from genus.testing import Subject, checks_for
from genus.testing.oracles import check_causal
from genus.testing.statistics import CheckError

LABEL = Label(("a", "b"))
MODELS = [GatedPixelCNN, PixelCNN, PixelRNN]
CODES, PAIRS = Grid(1, (4, 5), 40, ordered=False), Grid(2, (3, 3), 5, ordered=False)
TINY = Grid(1, (2, 2), 3, ordered=False)  # 81 states
Make = type[RasterModel]


def build(make: Make, domain: Grid, condition: Label | None = None) -> RasterModel:
    """A model with weights so large that what is read shows."""
    model = make.tiny(domain, condition).eval()
    for name, parameter in model.named_parameters():
        parameter.data = 0.3 * noise.normal(tuple(parameter.shape), noise.stream(name))
    return model


def data(domain: Grid, count: int = 3) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("x")).to(domain.dtype)


def assert_causal(model: RasterModel) -> None:
    """Bit for bit; data and logits are turned so that the model's order runs along the axes."""

    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.logits(x.permute(0, 3, 1, 2)).permute(0, 3, 4, 1, 2).flatten(1, 3)

    check_causal(function, data(model.domain).permute(0, 2, 3, 1).contiguous(), model.domain.levels)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("domain", [CODES, PAIRS], ids=str)
def test_an_entry_sees_only_those_before_it(make: Make, domain: Grid) -> None:
    assert_causal(build(make, domain))


@pytest.mark.parametrize("make", MODELS)
def test_planes_of_another_channel_are_noticed(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """A channel's planes lie side by side; taken in turn, a channel would read itself."""
    monkeypatch.setattr(_masked, "planes_groups", lambda channels, each: torch.arange(channels * each + 1) % channels)
    with pytest.raises(CheckError, match="moves the output"):
        assert_causal(build(make, PAIRS))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("check", [*checks_for(Subject(GatedPixelCNN, TINY))], ids=lambda check: check.__name__)
def test_the_contract_holds_for_codes(make: Make, check: Callable[[Subject], None]) -> None:
    check(Subject(make, TINY))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("size", [(2, 2), (1, 4)])
def test_probabilities_of_all_states_sum_to_one(every_state, make, size, dtype, tolerance) -> None:
    domain = Grid(1, size, 3, ordered=False)
    x, model, conditional = every_state(domain), build(make, domain).to(dtype), build(make, domain, LABEL).to(dtype)
    with torch.no_grad():
        distributions = [model.log_prob(x)] + [
            conditional.log_prob(x, condition=torch.full((len(x),), k)) for k in range(2)
        ]
    assert all(abs(distribution.double().exp().sum().item() - 1) < tolerance for distribution in distributions)
    assert (distributions[1].exp() - distributions[2].exp()).abs().sum() > 0.001


def stepwise_logits(model: RasterModel, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """The logits ``(B, D, levels)`` that a walk meets where the codes are ``x``, in the data's order."""
    stepwise: dict[int, Tensor] = {}

    def told(place: int, logits: Tensor) -> Tensor:
        stepwise[place] = logits
        return x.flatten(1)[:, place].long()

    chain.drive(model.chain_rule(len(x), condition=labels), told)
    return torch.stack([stepwise[place] for place in sorted(stepwise)], 1)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("domain", [CODES, PAIRS, Grid(1, (1, 3), 300, ordered=False)], ids=str)
@pytest.mark.parametrize("condition", [None, LABEL], ids=["", "labels"])
def test_a_walk_gives_the_logits_of_the_full_pass(make, domain, condition, dtype, tolerance) -> None:
    model, x = build(make, domain, condition).to(dtype), data(domain)
    labels = None if condition is None else torch.tensor([0, 1, 1])
    with torch.no_grad():
        full = model.logits(x, labels).movedim(2, -1).flatten(1, 3)
    torch.testing.assert_close(stepwise_logits(model, x, labels), full, rtol=tolerance, atol=tolerance)


def renamed(model: RasterModel, names: Tensor) -> RasterModel:
    """The model for codes that are called ``names[code]``, built by hand: rows of the tables in another order."""
    twin = build(type(model), model.domain).double()  # type: ignore[arg-type]
    with torch.no_grad():
        twin.vectors.weight[names] = model.vectors.weight
        twin.head[3].weight[names], twin.head[3].bias[names] = model.head[3].weight, model.head[3].bias
    return twin


@pytest.mark.parametrize("make", MODELS)
def test_the_names_of_codes_do_not_matter(make: Make) -> None:
    """Nothing is read from a code's number but its row; levels in order would fail this."""
    model, x, names = build(make, CODES).double(), data(CODES), noise.permutation(40, noise.stream("names"))
    with torch.no_grad():
        torch.testing.assert_close(renamed(model, names).log_prob(names[x.long()]), model.log_prob(x))
        assert (renamed(model, names).log_prob(x) - model.log_prob(x)).abs().min() > 0.01


@pytest.mark.parametrize("make", MODELS)
def test_the_border_is_told_from_every_code(make: Make) -> None:
    """A code whose vector is that of the outside still differs from it by the plane that marks the outside."""
    model = build(make, CODES)
    with torch.no_grad():
        model.vectors.weight[0] = _masked.OUTSIDE
    planes = model.planes(torch.zeros(1, *CODES.shape, dtype=torch.uint8))
    assert planes.shape[1] == 33 and (planes[:, :-1] == _masked.OUTSIDE).all() and (planes[:, -1] == 0).all()


def cost_of_a_table(ordered: bool) -> float:
    """What a short training leaves of three codes, of which each decides the next by a table without any order."""
    follows = noise.permutation(60, noise.stream("follows"))
    first = noise.integers(60, (128, 1, 1, 1), noise.stream("first"))
    x = torch.cat([first, follows[first], follows[follows[first]]], 3).to(torch.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GatedPixelCNN(Grid(1, (1, 3), 60, ordered=ordered), features=32, dilations=(1,), first=3)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model.losses(Batch(x))["loss"].mean().backward()
        optimizer.step()
    with torch.no_grad():
        return -model.log_prob(x).mean().item()


def test_learns_what_follows_a_code() -> None:
    """The first code is all that is not known; a plane of grey levels can hardly tell 60 of them."""
    assert cost_of_a_table(ordered=False) < math.log(60) + 0.3
    assert cost_of_a_table(ordered=True) > math.log(60) + 1


@pytest.mark.parametrize("make", MODELS)
def test_grids_in_order_are_read_as_before(make: Make) -> None:
    ordered = make.tiny(Grid(2, (3, 3), 5))
    assert not any("vectors" in name for name in ordered.state_dict())
    planes = ordered.planes(torch.tensor([0, 4]).view(1, 2, 1, 1))
    assert planes.flatten().tolist() == [-1, 1, 0]


def test_a_mixture_of_logistics_refuses_codes() -> None:
    with pytest.raises(ValueError, match=r"pixelcnn_pp takes neighbouring levels for alike.*got grid 1x4x5, 40 codes"):
        PixelCNNPP(CODES)
    assert PixelCNNPP.refuses(Grid(1, (4, 5), 40)) is None
