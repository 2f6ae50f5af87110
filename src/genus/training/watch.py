"""Live warnings: what users discover too late, named while the run can still be stopped.

At each validation the model is looked at for symptoms: general ones here, those of a family in
`GenerativeModel.symptoms`. A symptom that stays becomes a warning, once a run; both are written
into metrics.jsonl, and what was seen before is read off these records. So a run that was killed
and resumed warns as an uninterrupted one would.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from genus import settings
from genus.contract import Batch, GenerativeModel, Symptom
from genus.prob import noise

SETTLED = 0.1  # part of training before which nothing is looked for: an untrained model has every symptom
EVERY = 150  # steps between two looks, at least: a look costs a step or two, so all of them one in a hundred
ITEMS = 256  # of a batch that families look at
ENTRIES = 1 << 14  # numbers on which units are looked at: 64 small data, or 8 large ones
DEAD = 0.98  # part of a layer's units: healthy point encoders do with a tenth of theirs
NOISES = 6.0  # standard deviations of the noise of validation
PATIENCE = 3  # validations since the best one
RECTIFIERS = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
SIZES = ("hidden", "width", "channels", "blocks")  # settings that make a model smaller


class Watch:
    """Looks at a model after a validation, and remembers what it saw.

    records: those of metrics.jsonl up to the step at which this sitting begins; not changed.
    """

    def __init__(self, records: Iterable[dict[str, Any]]):
        self.losses: dict[int, float] = {}
        self.looked = 0
        self.seen: set[str] = set()  # at the last look
        self.warned: set[str] = set()
        self.has_units = True  # until a look finds none, which spares the next looks a pass
        for record in records:
            self._remember(record)

    @torch.no_grad()
    def look(
        self,
        step: int,
        steps: int,
        model: GenerativeModel,
        batch: Batch | None,
        generator: torch.Generator,
        validation: float | None,
        train: dict[str, float],
    ) -> dict[str, Any]:
        """What to add to the record of this step: ``{}`` if it is too early to look (again), else
        ``"symptoms"``: what was seen, by name. A symptom seen at two looks in a row is raised, once
        a run: ``"warnings"`` holds the name, what was seen, and the cure.

        Args:
            step: Steps taken. steps: Steps of the whole run.
            model: What was validated, in evaluation mode.
            batch: Validation data; None where there are none.
            generator: Noise for the family's symptoms; the same at each look, or a function of the step.
            validation: Mean criterion of this step, or None.
            train: The averages in the record of this step, ``{"train/loss": 1.2, ...}``.
        """
        self._remember({"step": step} | ({} if validation is None else {"validation/loss": validation}))
        if step < SETTLED * steps or step - self.looked < EVERY:
            return {}
        found = worsening(self.losses, train.get("train/loss"), smaller(model))
        if batch is not None and len(batch.x):
            found += self._units(model, batch)
            found += model.symptoms(head(batch, ITEMS), generator)
        record: dict[str, Any] = {"symptoms": {s.name: s.seen for s in found}}
        raised = [asdict(s) for s in found if s.name in self.seen - self.warned]
        if raised:
            record["warnings"] = raised
        self._remember({"step": step} | record)
        return record

    def _remember(self, record: dict[str, Any]) -> None:
        """All that is ever known of the past comes through here, live or from the file."""
        if "validation/loss" in record:
            self.losses[record["step"]] = record["validation/loss"]
        if "symptoms" in record:
            self.looked, self.seen = record["step"], set(record["symptoms"])
        self.warned |= {warning["name"] for warning in record.get("warnings", [])}

    def _units(self, model: GenerativeModel, batch: Batch) -> list[Symptom]:
        """`dead_units`, without another pass where the model has no such units."""
        if not self.has_units:
            return []
        layers = silent(model, head(batch, min(64, max(8, ENTRIES // model.domain.num_dims))))
        self.has_units = bool(layers)
        return dead_units(layers)


# -- validation gets worse ------------------------------------------------------------------


def worsening(losses: dict[int, float], train: float | None, smaller: str = "a smaller model") -> list[Symptom]:
    """Validation that has thrown away what training had gained.

    A small model on little data may well overfit slightly while nothing is lost (the best weights
    are kept); so the loss must be back above the median of those before the best, by more than
    its own noise, some validations after the best. Medians do not depend on how bad the first
    weights were.

    Args:
        losses: criterion on validation data by step; lower is better.
        train: the loss on training data now, if it is comparable (one player).
        smaller: what would be a smaller model, for the cure.
    """
    steps = sorted(step for step, loss in losses.items() if math.isfinite(loss))
    values = [losses[step] for step in steps]
    if not values:
        return []
    now, best = values[-1], min(values)
    at = values.index(best)
    before = statistics.median(values[:at]) if at else best
    if len(values) - 1 - at < PATIENCE or now <= max(before, best + NOISES * spread(values)):
        return []
    seen = f"The loss on validation data was {best:.4g} at step {steps[at]} and is {now:.4g} now"
    if train is not None and train < best:
        seen += f", while that on training data is {train:.4g}: the model overfits."
        cure = f"Stop earlier (--steps {steps[at]}; the best weights are kept), or try --optimizer adamw with a "
        cure += f"--weight-decay of 0.1 to 1, {smaller} or more data."
    elif train is not None:
        seen += f"; that on training data is {train:.4g}: training is unstable."
        cure = "Try a lower --learning-rate, --warmup-steps or a --clip-norm."
    else:
        seen += "."
        cure = f"Stop earlier (--steps {steps[at]}; the best weights are kept), or try a lower --learning-rate."
    return [Symptom("validation getting worse", seen, cure)]


def spread(values: Sequence[float]) -> float:
    """The standard deviation of the noise of a smooth curve, from its second differences, which
    know no trend; the median, so that a few jumps do not count. 0 for fewer than three values."""
    bends = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return statistics.median(bends) / (math.sqrt(6) * 0.6745) if bends else 0.0


def smaller(model: GenerativeModel) -> str:
    """A smaller model, in the words of the model's own settings."""
    known = settings.schema(type(model)).model_fields
    flags = [f"--{name}" for name in SIZES if name in known]
    return f"a smaller model ({', '.join(flags)})" if flags else "a smaller model"


# -- units that died ------------------------------------------------------------------------


def dead_units(shares: dict[str, tuple[int, int]]) -> list[Symptom]:
    """Layers (nearly) all of whose rectified units are zero for every datum: what lies before them
    gets no gradient any more. ``shares``: silent units and units by layer, as `silent` gives them."""
    bad = {layer: (dead, units) for layer, (dead, units) in shares.items() if dead > DEAD * units}
    if not bad:
        return []
    worst = max(bad, key=lambda layer: bad[layer][0] / bad[layer][1])
    seen = f"{bad[worst][0]} of {bad[worst][1]} units of {worst} are zero for every datum"
    seen += f", and so in {len(bad)} of {len(shares)} layers." if len(bad) > 1 else "."
    return [Symptom("dead units", seen, "Try a lower --learning-rate, --warmup-steps or a --clip-norm.")]


def silent(model: GenerativeModel, batch: Batch) -> dict[str, tuple[int, int]]:
    """Of every ReLU that a pass of the model's losses meets, ``nn.ReLU`` or a function: how many of
    its units are zero for all of the batch, and how many it has. A unit of a convolution is a channel."""
    watched = _Rectified()
    hooks = [
        hook
        for name, module in model.named_modules()
        for hook in (
            module.register_forward_pre_hook(partial(watched.enter, name)),
            module.register_forward_hook(watched.leave),
        )
    ]
    try:
        with watched:
            model.held_out_losses(batch, noise.stream("watch"))
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: (int((~alive).sum()), len(alive)) for layer, alive in watched.alive.items()}


class _Rectified(TorchFunctionMode):
    """Notes which units of every ReLU that runs inside are alive. A layer that runs several times
    (a discriminator on real and generated data) is one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[str, Tensor] = {}
        self.inside: list[tuple[str, Iterator[int]]] = [("the model", count(1))]  # what runs, and its ReLUs' numbers

    def enter(self, name: str, *_: Any) -> None:
        self.inside.append((name, count(1)))

    def leave(self, *_: Any) -> None:
        self.inside.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        h = func(*args, **(kwargs or {}))
        if func in RECTIFIERS and h.ndim > 1:
            name, numbers = self.inside[-1]
            number = next(numbers)
            axes = [axis for axis in range(h.ndim) if axis != (1 if h.ndim > 3 else h.ndim - 1)]
            alive, layer = h.detach().amax(axes) > 0, f"{name}, ReLU {number}" if number > 1 else name
            self.alive[layer] = self.alive.get(layer, torch.zeros_like(alive)) | alive
        return h


def head(batch: Batch, most: int) -> Batch:
    """The first ``most`` items of a batch."""
    return Batch(*(None if part is None else part[:most] for part in batch))  # type: ignore[arg-type]
