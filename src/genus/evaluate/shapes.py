"""Distances between point clouds, and between sets of them. Every number carries its protocol.

Conventions: Chamfer = the mean over each cloud of the (squared) distance to the nearest
point of the other, both means added. EMD = the mean unsquared distance of the best
one-to-one assignment. Coordinates are the data's own. Numbers of sets depend on how many
clouds there are, so sets of unequal size are refused; their errors are the spread over
halves of the pairs of clouds (`genus.evaluate.uncertainty`).
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from torch import Tensor

from genus.evaluate.score import Score
from genus.evaluate.uncertainty import LEAST, METHOD, halves, spread
from genus.geometry.clouds import chamfer_matrix, check_clouds, reduce_points
from genus.prob import noise

DIRECTION: dict[str, dict[str, Any]] = {
    "MMD": {"better": "lower"},
    "COV": {"better": "higher"},
    "1-NNA": {"ideal": 0.5},
}


def emd(a: Float[Tensor, "B N D"], b: Float[Tensor, "B N D"]) -> Float[Tensor, " B"]:
    """Earth mover's distance of each pair: exact assignment, unsquared, mean per point (float64)."""
    check_clouds(a, b, same_count=True)
    if len(a) != len(b):
        raise ValueError(f"expected as many clouds on both sides; got {len(a)} and {len(b)}. See emd_matrix.")
    return torch.tensor([_emd(x, y) for x, y in zip(_numpy(a), _numpy(b), strict=True)], dtype=torch.float64)


def emd_matrix(a: Float[Tensor, "S N D"], b: Float[Tensor, "R N D"]) -> Float[Tensor, "S R"]:
    """Earth mover's distance of every cloud of ``a`` to every cloud of ``b``; about 1 ms a pair
    at 128 points and 20 ms at 512, so reduce the clouds first."""
    check_clouds(a, b, same_count=True)
    others = _numpy(b)
    return torch.tensor([[_emd(x, y) for y in others] for x in _numpy(a)], dtype=torch.float64)


def _emd(x: np.ndarray, y: np.ndarray) -> float:
    cost = cdist(x, y)
    return float(cost[linear_sum_assignment(cost)].mean())


class SetMetrics:
    """MMD, COV and 1-NNA with Chamfer and EMD against one reference set
    (Yang et al. 2019, https://arxiv.org/abs/1906.12320, section 5.1).

    Clouds larger than ``points`` (Chamfer) and ``emd_points`` (EMD) are reduced to so many
    points by lot; the protocol says how many. Distances inside the reference are computed once.
    """

    def __init__(
        self,
        reference: Float[Tensor, "S M D"],
        *,
        squared: bool = True,
        points: int = 1024,
        emd_points: int = 128,
        seed: int = 0,
    ):
        check_clouds(reference, reference)
        self.reference, self.seed = reference, seed
        self.most = {"CD": points, "EMD": emd_points}
        self.told: dict[str, dict[str, Any]] = {
            "CD": {"distance": f"Chamfer, {'squared' if squared else 'unsquared'}, both means added"},
            "EMD": {"distance": "exact assignment, unsquared, mean per point"},
        }
        self.functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "CD": lambda a, b: chamfer_matrix(a, b, squared=squared),
            "EMD": emd_matrix,
        }
        self.inside: dict[tuple[str, int], Tensor] = {}

    def __call__(self, generated: Float[Tensor, "S N D"]) -> list[Score]:
        """The six numbers. Raises a ValueError for another number of clouds, NaN and infinity."""
        check_clouds(generated, self.reference)
        if len(generated) != len(self.reference) or len(self.reference) < 2:
            raise ValueError(
                f"expected two sets of one size (at least 2), as the numbers depend on it; "
                f"got {len(generated)} generated and {len(self.reference)} reference clouds."
            )
        scores = []
        for name, distance in self.functions.items():
            at = min(self.most[name], generated.shape[1], self.reference.shape[1])
            s, r = (reduce_points(x, at, self._stream(name)) for x in (generated, self.reference))
            if (name, at) not in self.inside:
                self.inside[name, at] = _symmetric(r, distance)
            matrices = _symmetric(s, distance), distance(s, r), self.inside[name, at]
            protocol = {"clouds": len(r), "points": at, **self.told[name], "coordinates": "as in the data"}
            protocol |= {"error": METHOD} if len(r) >= LEAST else {}
            for key, (value, error) in _with_errors(*matrices, seed=self.seed).items():
                perfect = {"perfect samples": round(perfect_1nna(len(r)), 4)} if key == "1-NNA" else {}
                told = {**protocol, **perfect, "seed": self.seed}
                scores.append(Score(f"{key}-{name}", value, error, **DIRECTION[key], protocol=told))
        return scores

    def _stream(self, name: str) -> torch.Generator:
        return noise.stream(self.seed, "points", name)


def set_metrics(generated: Float[Tensor, "S N D"], reference: Float[Tensor, "S M D"], **settings: Any) -> list[Score]:
    """`SetMetrics` of one pair of sets; it takes the settings."""
    return SetMetrics(reference, **settings)(generated)


def perfect_1nna(count: int) -> float:
    """The 1-NNA to expect where both sets hold ``count`` clouds of one distribution: of the 2 count - 1
    others, count - 1 are in a cloud's own set."""
    return (count - 1) / (2 * count - 1)


def _with_errors(inside: Tensor, across: Tensor, inside_reference: Tensor, seed: int) -> dict[str, Any]:
    """`_set_metrics` with standard errors, None where there are too few clouds."""
    found, count = _set_metrics(inside, across, inside_reference), len(across)
    if count < LEAST:
        return {key: (value, None) for key, value in found.items()}
    parts = [
        list(_set_metrics(*(x[half][:, half] for x in (inside, across, inside_reference))).values())
        for half in map(torch.from_numpy, halves(count, seed))
    ]
    return dict(zip(found, zip(found.values(), spread(parts, count).tolist(), strict=True), strict=True))


def _symmetric(x: Tensor, distance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """All distances inside a set: only the upper triangle is computed."""
    count = len(x)
    full = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count - 1):
        full[i, i + 1 :] = distance(x[i : i + 1], x[i + 1 :])[0].double()
    return full + full.T


def _set_metrics(inside: Tensor, across: Tensor, inside_reference: Tensor) -> dict[str, float]:
    """From the distances S-S, S-R and R-R. A generated cloud that equals a real one sits on it,
    so copies push 1-NNA below one half."""
    across = across.double()
    count = len(across)
    together = torch.cat([torch.cat([inside, across], 1), torch.cat([across.T, inside_reference], 1)])
    together.fill_diagonal_(torch.inf)  # leave one out
    generated = torch.arange(2 * count) < count
    agrees = generated[together.argmin(1)] == generated
    return {
        "MMD": float(across.min(0).values.mean()),
        "COV": across.min(1).indices.unique().numel() / count,
        "1-NNA": float(agrees.double().mean()),
    }


def jsd(
    generated: Float[Tensor, "S N D"],
    reference: Float[Tensor, "R M D"],
    *,
    resolution: int = 28,
    compat: Literal["luo2021"] | None = None,
) -> Score:
    """Jensen-Shannon divergence, in bits, of where the points of two sets of clouds lie
    (Achlioptas et al. 2018, https://arxiv.org/abs/1707.02392, section 3).

    Points are counted in the nearest of the cells of a ``resolution``³ grid over [-½, ½]³
    whose centres lie in the ball of radius ½. By default both sets are moved and scaled
    together so that the reference just fills that ball. ``compat="luo2021"`` takes the
    coordinates as they are, as the released code of Luo & Hu (2021) does: shapes in
    [-1, 1] then have their outer points heaped on the ball's surface. Few points leave cells
    empty by chance, which raises the number, so both sets must hold as many clouds and points.
    The standard error is that in this reference's frame, which all rows of a card share.
    """
    check_clouds(generated, reference)
    if generated.shape != reference.shape:
        raise ValueError(
            f"jsd: expected two sets of one shape, as the number depends on how many points there are; got "
            f"{tuple(generated.shape)} and {tuple(reference.shape)}. Draw as many clouds as there are real ones; "
            "reduce_points reduces their points."
        )
    if compat not in (None, "luo2021"):
        raise ValueError(f'compat: expected None or "luo2021"; got {compat!r}.')
    dim = reference.shape[-1]
    if dim not in (2, 3):
        raise ValueError(f"jsd counts points in a grid of 2 or 3 dimensions; got clouds in {dim}-D.")
    sets = [x.double().reshape(-1, dim).cpu().numpy() for x in (generated, reference)]
    if compat is None:
        low, high = sets[1].min(0), sets[1].max(0)
        centre = (low + high) / 2
        radius = np.linalg.norm(sets[1] - centre, axis=1).max()
        sets = [(x - centre) / (2 * radius if radius > 0 else 1) for x in sets]
    axis = np.linspace(-0.5, 0.5, resolution)
    cells = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), -1).reshape(-1, dim)
    tree = cKDTree(cells[np.linalg.norm(cells, axis=1) <= 0.5])
    count = len(reference)
    p, q = (tree.query(x)[1].reshape(count, -1) for x in sets)  # the cell of each point of each cloud
    error = None
    if count >= LEAST:
        error = float(spread([_divergence(p[half], q[half], tree.n) for half in halves(count, 0, "jsd")], count))
    protocol = {
        "clouds": count,
        "points": reference.shape[1],
        "grid": f"{resolution}^{dim} cells in a ball of radius 0.5",
        "coordinates": "as they are (luo2021)" if compat else "scaled so that the reference fills the ball",
        **({"error": METHOD} if error is not None else {}),
    }
    return Score("JSD", _divergence(p, q, tree.n), error, unit="bits", better="lower", protocol=protocol)


def _divergence(p: np.ndarray, q: np.ndarray, cells: int) -> float:
    """Jensen-Shannon divergence in bits of two sets of cell numbers."""
    p, q = (np.bincount(x.ravel(), minlength=cells) / x.size for x in (p, q))
    entropy = [-(x[x > 0] * np.log2(x[x > 0])).sum() for x in (p, q, (p + q) / 2)]
    return max(float(entropy[2] - (entropy[0] + entropy[1]) / 2), 0.0)


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()
