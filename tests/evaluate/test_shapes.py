import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.evaluate.shapes import emd, emd_matrix, jsd, set_metrics
from genus.geometry.clouds import chamfer, chamfer_matrix, reduce_points
from genus.prob import noise


def clouds(count: int, points: int, seed: int, dim: int = 3) -> Tensor:
    return noise.normal((count, points, dim), noise.stream("clouds", seed)) * 0.3


def brute_chamfer(x: Tensor, y: Tensor, squared: bool) -> float:
    def one_way(a: Tensor, b: Tensor) -> float:
        nearest = [min(float(((p - q).double() ** 2).sum()) for q in b) for p in a]
        return float(np.mean(nearest if squared else np.sqrt(nearest)))

    return one_way(x, y) + one_way(y, x)


@pytest.mark.parametrize("squared", [True, False])
def test_chamfer_equals_its_definition(squared: bool) -> None:
    a, b = clouds(3, 17, 0) + 100, clouds(4, 11, 1) + 100  # far from the origin: cancellation would show
    expected = torch.tensor([[brute_chamfer(x, y, squared) for y in b] for x in a])
    assert torch.allclose(chamfer_matrix(a, b, squared=squared), expected, atol=1e-5)
    assert torch.allclose(chamfer(a, b[:3], squared=squared), expected.diagonal(), atol=1e-5)
    assert torch.equal(chamfer(a, a, squared=squared), torch.zeros(3))


def test_chamfer_in_tiles_equals_chamfer_of_a_pair() -> None:
    a, b = clouds(2, 1500, 2), clouds(3, 1300, 3)  # more than one tile
    pairs = torch.stack([chamfer(a, b[[n, n]]) for n in range(3)], 1)
    assert torch.allclose(chamfer_matrix(a, b), pairs, atol=1e-7)


def test_emd_equals_the_best_of_all_permutations() -> None:
    a, b = clouds(2, 6, 4), clouds(2, 6, 5)
    orders = list(itertools.permutations(range(6)))
    expected = [[min(float((x.double() - y[list(o)]).norm(dim=1).mean()) for o in orders) for y in b] for x in a]
    assert torch.allclose(emd_matrix(a, b), torch.tensor(expected, dtype=torch.float64))
    assert torch.allclose(emd(a, b), torch.tensor(expected, dtype=torch.float64).diagonal())


def test_emd_of_a_shifted_cloud_is_the_shift() -> None:
    a = clouds(1, 50, 6)
    assert emd(a, a + torch.tensor([0.0, 0.03, 0.04])).item() == pytest.approx(0.05, rel=1e-5)


def test_identical_sets_have_known_values() -> None:
    a = clouds(8, 200, 7)
    scores = {s.name: s for s in set_metrics(a, a.clone(), points=100, emd_points=32)}
    for distance in ("CD", "EMD"):
        assert scores[f"MMD-{distance}"].value == pytest.approx(0, abs=1e-6)
        assert scores[f"COV-{distance}"].value == 1
        assert scores[f"1-NNA-{distance}"].value == 0  # every cloud sits on its copy in the other set
        assert scores[f"1-NNA-{distance}"].ideal == 0.5
    assert scores["MMD-CD"].protocol["points"] == 100
    assert scores["MMD-EMD"].protocol["points"] == 32
    assert "squared" in scores["MMD-CD"].protocol["distance"]


def test_set_metrics_of_sets_apart_and_of_one_shape() -> None:
    a, b = clouds(10, 40, 8), clouds(10, 40, 9)
    apart = {s.name: s.value for s in set_metrics(a + 5, b)}
    assert apart["1-NNA-CD"] == apart["1-NNA-EMD"] == 1
    one = {s.name: s.value for s in set_metrics(b[:1].expand(10, -1, -1), b)}
    assert one["COV-CD"] == 0.1  # ten times one shape covers one
    expected = float(chamfer_matrix(b[:1], b).mean())
    assert one["MMD-CD"] == pytest.approx(expected, abs=1e-6)


def test_two_draws_of_one_law_are_hard_to_tell_apart() -> None:
    sizes = 0.5 + noise.uniform((120, 1, 1), noise.stream("sizes"))
    shapes = clouds(120, 60, 10) * sizes
    scores = {s.name: s.value for s in set_metrics(shapes[:60], shapes[60:], emd_points=32)}
    deviation = 0.5 / 120**0.5
    assert abs(scores["1-NNA-CD"] - 0.5) < 4 * deviation
    assert abs(scores["1-NNA-EMD"] - 0.5) < 4 * deviation
    assert 0.3 < scores["COV-CD"] < 0.9


def test_jsd_limits_and_the_trap_of_unscaled_coordinates() -> None:
    inner, outer = clouds(5, 400, 11), clouds(5, 400, 12)
    inner, outer = (x / x.norm(dim=2, keepdim=True) for x in (inner, outer))
    assert jsd(inner, inner).value == 0
    left, right = inner.clone(), inner.clone()
    left[..., 0], right[..., 0] = -left[..., 0].abs() - 0.1, right[..., 0].abs() + 0.1
    assert jsd(torch.cat([left, right])[:5], right).value > 0.5
    # a small ball and a large sphere, in [-1, 1]: the released code heaps all beyond radius 1/2 on its rim
    small, large = 0.55 * inner, outer
    assert jsd(small, large, compat="luo2021").value < 0.5 < jsd(small, large).value == pytest.approx(1, abs=0.01)
    assert "luo2021" in jsd(small, large, compat="luo2021").protocol["coordinates"]


def test_jsd_counts_points_in_nearest_cells() -> None:
    """Two points against one of them: JSD of (½, ½) and (1, 0) in bits."""
    a, b = torch.tensor([[[0.5, 0, 0], [-0.5, 0, 0]]]), torch.tensor([[[0.5, 0.0, 0.0], [0.5, 0.0, 0.0]]])
    expected = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)) - 0.5
    assert jsd(a, b, compat="luo2021").value == pytest.approx(expected)


def test_reduce_points_keeps_equal_clouds_equal_and_takes_rows() -> None:
    a = clouds(2, 30, 13)
    small = reduce_points(torch.cat([a, a]), 7, noise.stream("r"))
    assert small.shape == (4, 7, 3)
    assert torch.equal(small[:2], small[2:])
    assert all((a[0] == point).all(1).any() for point in small[0])


def test_errors_teach() -> None:
    a = clouds(3, 10, 14)
    with pytest.raises(ValueError, match="one size"):
        set_metrics(a, a[:2])
    with pytest.raises(ValueError, match="one shape"):
        jsd(a, a[:2])
    with pytest.raises(ValueError, match="one shape"):
        jsd(a, a[:, :9])
    for metric in (set_metrics, jsd):
        with pytest.raises(ValueError, match="NaN"):
            metric(a, a * torch.nan)
    with pytest.raises(ValueError, match="chamfer_matrix"):
        chamfer(a, a[:2])
    with pytest.raises(ValueError, match="one to one"):
        emd(a, a[:, :9])
    with pytest.raises(ValueError, match="NaN"):
        chamfer_matrix(a, a * torch.nan)
    with pytest.raises(ValueError, match="one dimension"):
        chamfer(a, a[..., :2])
    with pytest.raises(ValueError, match="luo2021"):
        jsd(a, a, compat="pointflow")  # type: ignore[arg-type]
