import pytest
import torch
from torch import Tensor

from genus.data.source import TensorSplit
from genus.evaluate.memorisation import CLEAR, CLOSE, COPIES, CopyTest, copying, nearest, verdict
from genus.evaluate.score import Row, Score
from genus.geometry.clouds import chamfer_matrix
from genus.kinds import Domain, Grid, Points, Vectors
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
    train, unseen, new = draw(domain, 200, "train"), draw(domain, 150, "unseen"), draw(domain, 150, "new")
    test = CopyTest(unseen, TensorSplit(train), domain)

    def row(x: Tensor) -> tuple[Row, dict[str, Score]]:
        scores = test(test.search(x))
        return Row("x", "real", tuple(scores)), {score.name: score for score in scores}

    planted, found = row(torch.cat([train[:135], new[:15]]))  # nine in ten
    assert verdict(planted) == COPIES
    assert found["nearest-train ratio"].value == 0
    assert found["copied share"].value == pytest.approx(0.9, abs=0.03)
    assert found["authenticity"].value < 0.12
    assert found["C_T"].value < -5
    healthy, found = row(new)
    assert verdict(healthy) == CLEAR
    assert found["nearest-train ratio"].value == pytest.approx(1, abs=0.15)
    assert found["copied share"].value < 0.1
    assert abs(found["C_T"].value) < 3 * (found["C_T"].stderr or 0)
    _, again = row(unseen)
    assert found["authenticity"].value == pytest.approx(again["authenticity"].value, abs=0.15)
    few, _ = row(torch.cat([train[:30], new[:120]]))  # one in five, which no median sees
    assert verdict(few) == COPIES
    assert verdict(Row("x", "model", ())) is None


def test_near_copies_are_flagged_and_blur_is_told_apart() -> None:
    domain = DOMAINS[1]
    train, unseen = draw(domain, 2000, "train"), draw(domain, 300, "unseen")
    changed = train[:300] + 0.5 * noise.normal((300, 3), noise.stream("changed"))  # of a spread of 100
    blurred = train[:300] * 0.7  # towards the mean, where training items are dense
    said = [
        verdict(Row("x", "model", tuple(copying(x, unseen, TensorSplit(train), domain)))) for x in (changed, blurred)
    ]
    assert said == [COPIES, CLOSE]


def test_healthy_samples_are_rarely_flagged() -> None:
    """In a hundred fresh draws the verdict is at most twice wrong, and C_T is a standard normal of its error."""
    domain = Vectors(2)
    train = TensorSplit(draw(domain, 500, "train"))
    rows = []
    for n in range(100):
        test = CopyTest(draw(domain, 200, f"unseen {n}"), train, domain)
        rows.append(test(test.search(draw(domain, 200, f"new {n}"))))
    assert sum(verdict(Row("x", "model", tuple(row))) != CLEAR for row in rows) <= 2
    standard = torch.tensor([row[-1].value / (row[-1].stderr or 0) for row in rows])
    assert rows[0][-1].name == "C_T" and rows[0][-1].protocol["cells"] == 4
    assert abs(standard.mean()) < 0.4 and 0.75 < standard.std() < 1.25


def test_repeated_training_items_do_not_confuse_authenticity() -> None:
    """Of a repeated item the nearest other one is at distance 0, so what is near it is not authentic by it alone."""
    domain = DOMAINS[0]
    train = draw(domain, 30, "train").repeat(3, 1, 1, 1)
    test = CopyTest(draw(domain, 30, "unseen"), TensorSplit(train), domain)
    assert (test._own_distance(torch.arange(90)) == 0).all()


def test_what_cannot_be_judged_is_refused() -> None:
    train, unseen = draw(DOMAINS[1], 50, "train"), draw(DOMAINS[1], 30, "unseen")
    with pytest.raises(ValueError, match="at least two training items; got 1"):
        CopyTest(unseen, TensorSplit(train[:1]), DOMAINS[1])
    with pytest.raises(ValueError, match="NaN"):
        copying(unseen * torch.nan, unseen, TensorSplit(train), DOMAINS[1])


def test_a_cloud_with_its_points_shuffled_is_still_a_copy() -> None:
    """Clouds of more points than are compared are thinned: to the same points, in whatever order they come."""
    domain = Points(300, 3)
    train = draw(domain, 50, "train")
    shuffled = train[[17]][:, noise.permutation(300, noise.stream("shuffle"))]
    found = nearest(shuffled, TensorSplit(train), domain, k=1)
    assert found.index.item() == 17 and found.distance.item() == 0
