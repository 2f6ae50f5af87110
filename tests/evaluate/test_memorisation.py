import pytest
import torch
from torch import Tensor

from genus.data.source import TensorSplit
from genus.domain import Domain, Grid, Points, Vectors
from genus.evaluate.memorisation import copying, nearest
from genus.evaluate.shapes import chamfer_matrix
from genus.prob import noise

DOMAINS = [Grid(1, (4, 5), 17), Vectors(3), Points(40, 3)]


def draw(domain: Domain, count: int, key: str) -> Tensor:
    shape = (count, *domain.shape)
    if domain.levels is None:
        return noise.normal(shape, noise.stream(key)) * (100 if isinstance(domain, Vectors) else 1)
    return noise.integers(domain.levels, shape, noise.stream(key)).to(domain.dtype)


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: d.kind)
def test_a_copy_finds_itself_at_distance_zero(domain: Domain) -> None:
    train = draw(domain, 5000, "train")  # more than one part
    found = nearest(train[[4321, 7]], TensorSplit(train), domain, k=3)
    assert found.index[:, 0].tolist() == [4321, 7]
    assert found.distance[:, 0].tolist() == [0, 0]
    assert torch.equal(found.items[:, 0], train[[4321, 7]])
    assert torch.equal(found.items, train[found.index])
    assert (found.distance.diff(dim=1) >= 0).all() and (found.distance[:, 1] > 0).all()


def test_neighbours_equal_brute_force() -> None:
    grid, points = DOMAINS[0], DOMAINS[2]
    train, x = draw(grid, 300, "train"), draw(grid, 5, "x")
    every = ((x[:, None].double() - train[None].double()) / 16).square().flatten(2).mean(-1).sqrt()
    found = nearest(x, TensorSplit(train), grid, k=4)
    assert torch.allclose(found.distance.double(), every.topk(4, largest=False).values, atol=1e-6)
    train, x = draw(points, 50, "train"), draw(points, 5, "x")
    found = nearest(x, TensorSplit(train), points, k=4)
    assert torch.equal(found.index, chamfer_matrix(x, train).topk(4, largest=False).indices)


def test_features_of_a_table_count_alike_whatever_their_units() -> None:
    x = draw(DOMAINS[1], 400, "x")
    scaled = x * torch.tensor([1.0, 1e4, 1e-4])
    a, b = (nearest(t[:20] * 0.9, TensorSplit(t), DOMAINS[1]).index for t in (x, scaled))
    assert torch.equal(a, b)


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: d.kind)
def test_planted_copies_are_flagged_and_unseen_data_are_not(domain: Domain) -> None:
    train, unseen, new = draw(domain, 400, "train"), draw(domain, 300, "unseen"), draw(domain, 300, "new")
    copies = torch.cat([train[:90], new[:10]])  # nine in ten
    assert copying(copies, unseen, TensorSplit(train), domain).value == 0
    assert copying(new, unseen, TensorSplit(train), domain).value == pytest.approx(1, abs=0.15)
