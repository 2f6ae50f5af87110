"""What one diffusion model's samplers give for how many network calls, and its density by bound and by flow."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import Tensor

from genus.contract import GenerativeModel, Likelihood, Split
from genus.errors import CapabilityError
from genus.evaluate._items import DataSource, choose, gather
from genus.evaluate.features import features_of
from genus.evaluate.fidelity import Estimate, compare
from genus.evaluate.likelihood import evaluating, units_of
from genus.evaluate.scorecard import draw
from genus.models.diffusion._diffusion import GaussianDiffusion
from genus.models.diffusion._process import Steps
from genus.prob import noise


class Way(NamedTuple):
    """How to sample: network calls a step (the last step takes one), and the options of `sample`."""

    calls: int
    options: dict[str, Any]


WAYS = {
    "ancestral": Way(1, {"sampler": "ancestral"}),
    "ddim": Way(1, {"sampler": "ddim"}),
    "ddim, eta 1": Way(1, {"sampler": "ddim", "eta": 1.0}),
    "dpm_solver": Way(1, {"sampler": "dpm_solver"}),
    "dpm_solver, eta 1": Way(1, {"sampler": "dpm_solver", "eta": 1.0}),
    "heun": Way(2, {"sampler": "heun"}),
    "runge_kutta": Way(4, {"sampler": "runge_kutta"}),
}


class Point(NamedTuple):
    """What a sampler gave: network calls a sample, Fréchet distance with its error, seconds for all samples."""

    sampler: str
    calls: int
    distance: float
    stderr: float | None
    seconds: float


@dataclass(frozen=True)
class SamplerCurves:
    """Fréchet distances to the same held-out items.

    items: how many of each. features: where they are compared. floor, stderr: the distance of training items.
    points: by sampler, the fewest calls first.
    """

    items: int
    features: str
    floor: float
    stderr: float | None
    points: tuple[Point, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "points": [point._asdict() for point in self.points]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "SamplerCurves":
        """Read what `to_json` wrote; raises a ValueError that names what does not fit."""
        try:
            points = tuple(
                Point(
                    str(p["sampler"]), int(p["calls"]), float(p["distance"]), _error(p["stderr"]), float(p["seconds"])
                )
                for p in fields["points"]
            )
            return cls(int(fields["items"]), str(fields["features"]), float(fields["floor"]),
                       _error(fields["stderr"]), points)  # fmt: skip
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"expected the curves of samplers, as `genus diagnose` writes them ({error}).") from None


@dataclass(frozen=True)
class Densities:
    """-log p(x) of the same items, in nats for binary and continuous data, else in bits/dim.

    bound: of models that have one. flow: the estimate along the probability flow (for integers, of a bound).
    noise: the standard error that the flow's random traces and dequantization leave in its mean; its other error
    is that of the items.
    """

    items: int
    unit: str
    bound: Estimate | None
    flow: Estimate
    noise: float | None


def densities(model: GaussianDiffusion, split: Split, *, items: int = 64, draws: int = 2, seed: int = 0) -> Densities:
    """Both numbers over some items of a split, ``draws`` of the random signs for each."""
    batch = gather(split, choose(len(split), items, seed), seed).to(model.device)
    condition = batch.condition if model.condition is not None else None
    unit, scale = units_of(model.domain)[0]

    def mean(nats: Tensor) -> Estimate:
        nats = -nats.double().cpu() / scale
        return Estimate(float(nats.mean()), float(nats.std() / math.sqrt(len(nats))) if len(nats) > 1 else None)

    with evaluating(model):
        generator = noise.stream(seed, "densities")
        flow = model.flow_log_prob(batch.x, condition=condition, num_samples=draws, generator=generator)
        bound = None
        if model.likelihood is Likelihood.BOUND:
            bound = mean(model.log_prob(batch.x, condition=condition, generator=generator))
    spread = float(flow.var(0).mean().cpu() / (draws * flow.shape[1])) ** 0.5 / scale if draws > 1 else None
    return Densities(len(batch.x), unit, bound, mean(flow.mean(0)), spread)


def _error(value: Any) -> float | None:
    return None if value is None else float(value)


def sampler_curves(
    model: GenerativeModel,
    source: DataSource,
    split: Split,
    *,
    calls: Sequence[int] = (5, 10, 20, 50),
    full: bool = False,
    items: int = 500,
    seed: int = 0,
    batch_size: int = 128,
) -> SamplerCurves:
    """Draw as many samples as items of the split with every sampler and about so many network calls
    (no more), all from the same noise and for the same labels, and compare them with the items.

    full: also the ancestral sampler with every step that the model has. batch_size: samples drawn together. Raises
    `CapabilityError` for point clouds, which have no feature space here, and a ValueError for fewer than 6 items.
    """
    if not isinstance(model, GaussianDiffusion):
        raise CapabilityError("sampler curves want a model with samplers: ddpm, edm, flow_matching or vdm.")
    try:
        features = features_of(source, seed=seed)
    except ValueError as error:
        raise CapabilityError(str(error)) from None
    real = gather(split, choose(len(split), items, seed), seed)
    held_out = features.extract(real.x)

    def distance(x: Tensor) -> Estimate:
        return compare(held_out, features.extract(x), seed=seed)["Fréchet distance"]

    def point(name: str, steps: int) -> Point:
        way, began = WAYS[name], time.perf_counter()
        x = draw(model, len(real.x), real.condition, seed, batch_size, way.options | {"steps": steps})
        seconds = time.perf_counter() - began
        value, error, _ = distance(x)
        return Point(name, way.calls * (steps - 1) + 1, value, error, seconds)

    most = model.process.steps if isinstance(model.process, Steps) else max(calls)
    points = []
    for name, way in WAYS.items():
        chosen = {(wanted - 1) // way.calls + 1 for wanted in calls}
        chosen |= {most} if full and name == "ancestral" else set()
        points += [point(name, steps) for steps in sorted(chosen) if 2 <= steps <= most]
    floor = distance(gather(source.train, choose(len(source.train), len(real.x), seed), seed).x)
    return SamplerCurves(len(real.x), features.name, floor.value, floor.stderr, tuple(points))
