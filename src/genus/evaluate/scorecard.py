"""All numbers of one model on one data source, with the rows that give them meaning."""

from typing import Any, Literal

import torch
from torch import Tensor

from genus.contract import GenerativeModel, HasLogProb, IsConditional, Likelihood, name_of
from genus.domain import Domain, Points
from genus.evaluate import fidelity, shapes
from genus.evaluate._items import DataSource, choose, gather
from genus.evaluate.features import Features, features_of
from genus.evaluate.floors import floors
from genus.evaluate.likelihood import evaluating, held_out_loss, log_likelihood
from genus.evaluate.memorisation import copying_ratio, nearest
from genus.evaluate.score import Row, Score, Scorecard
from genus.evaluate.speed import parameter_count, peak_memory, sampling_speed
from genus.prob import noise

CLOUDS, ITEMS = 100, 1000  # how many are compared, unless told otherwise
CLOUD_POINTS = 512


def evaluate(
    model: GenerativeModel,
    source: DataSource,
    *,
    split: Literal["validation", "test"] = "test",
    samples: Tensor | None = None,
    count: int | None = None,
    num_samples: int = 1,
    limit: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    references: bool = True,
    name: str | None = None,
) -> Scorecard:
    """Score a model on held-out data.

    Args:
        model: the model, trained. A conditional one is given the conditions of the items
            that it is compared with.
        source: the data; its train split fits the floors and the feature space.
        split: what to score on. Choose settings on validation; score test once.
        samples: ``(N, *shape)``, to be used instead of drawing new ones.
        count: how many samples and real items are compared; by default all of the split but
            no more than 1000 (100 point clouds).
        num_samples: draws per item for the likelihood.
        limit: score the likelihood of so many items only.
        batch_size: of likelihoods and samples.
        seed: the scorecard is a function of it (apart from speed and memory).
        options: keyword options for the model's ``sample``.
        references: also score the floors and real data.
        name: of the model's row; the registry name by default.

    Raises a ValueError where model and source differ in domain, or samples do not fit.
    """
    if model.domain != source.domain:
        raise ValueError(f"the model was built for {model.domain}; {source.name} gives {source.domain}.")
    held_out = {"validation": source.validation, "test": source.test}[split]
    ceiling = CLOUDS if isinstance(source.domain, Points) else ITEMS
    wanted = count or (len(samples) if samples is not None else min(len(held_out), ceiling))
    wanted = min(wanted, len(held_out), len(source.train))
    if samples is not None and len(samples) < wanted:
        raise ValueError(f"expected at least {wanted} samples to compare with as many items; got {len(samples)}.")
    real = gather(held_out, choose(len(held_out), wanted, seed), seed)
    compare = _Comparison(source, real.x, seed)
    likelihood = {"num_samples": num_samples, "batch_size": batch_size, "seed": seed, "limit": limit}

    def scores(model: GenerativeModel, x: Tensor | None) -> list[Score]:
        if _scores_data(model):
            found = log_likelihood(model, held_out, **likelihood)  # type: ignore[arg-type]
        else:
            found = held_out_loss(model, held_out, batch_size=batch_size, seed=seed, limit=limit)
        return found + compare(draw(model, wanted, real.condition, seed, batch_size, options) if x is None else x)

    own = scores(model, None if samples is None else samples[:wanted])
    condition = real.condition[:16] if model.condition is not None and real.condition is not None else None
    own.append(sampling_speed(model, min(16, wanted), condition=condition, seed=seed, options=options))
    own.append(parameter_count(model))
    memory = peak_memory()
    rows = [Row(name or name_of(model), "model", (*own, *([memory] if memory else [])))]
    if references:
        options = None  # they are the model's, not the floors'
        train = gather(source.train, choose(len(source.train), wanted, seed), seed).x
        rows.append(Row("training items", "real", tuple(compare(train))))
        if len(source.validation) and split == "test":
            unseen = gather(source.validation, choose(len(source.validation), wanted, seed), seed).x
            rows.append(Row("validation items", "real", (compare.copying(unseen),)))
        rows += [Row(name, "floor", tuple(scores(floor, None))) for name, floor in floors(source)]
    return Scorecard(source.name, split, tuple(rows))


def draw(
    model: GenerativeModel,
    count: int,
    condition: Tensor | None,
    seed: int,
    batch_size: int = 128,
    options: dict[str, Any] | None = None,
) -> Tensor:
    """``count`` samples in batches, each batch a function of the seed, for the given conditions
    (ignored by models without one), on the CPU."""
    parts = []
    with evaluating(model):
        for n, index in enumerate(torch.arange(count).split(batch_size)):
            given = None
            if model.condition is not None and isinstance(model, IsConditional):
                if condition is None:
                    raise ValueError(f"{name_of(model)} was built for a condition; the data source gives none.")
                given = condition[index].to(model.device)
            generator = noise.stream(seed, "sample", n)
            parts.append(model.sample(len(index), condition=given, generator=generator, **(options or {})).cpu())
    return torch.cat(parts)


def _scores_data(model: GenerativeModel) -> bool:
    return isinstance(model, HasLogProb) and model.likelihood is not Likelihood.NONE


class _Comparison:
    """Sample metrics against one set of real held-out items."""

    def __init__(self, source: DataSource, real: Tensor, seed: int):
        self.source, self.real, self.seed = source, real, seed
        self.domain: Domain = source.domain
        self.unseen = nearest(real, source.train, self.domain, k=1, seed=seed)
        self.features: Features | None = None
        if not isinstance(self.domain, Points):
            self.features = features_of(source, seed=seed)
            self.real_features = self.features.extract(real)

    def __call__(self, x: Tensor) -> list[Score]:
        self.domain.check(x, "samples")
        if self.features is None:
            return [
                *shapes.set_metrics(x, self.real, points=CLOUD_POINTS, seed=self.seed),
                shapes.jsd(x, self.real),
                self.copying(x),
            ]
        return [
            *feature_scores(self.real_features, self.features.extract(x), self.features, self.seed),
            self.copying(x),
        ]

    def copying(self, x: Tensor) -> Score:
        """Samples against the training split, and the held-out items for the scale."""
        found = nearest(x, self.source.train, self.domain, k=1, seed=self.seed)
        return copying_ratio(found, self.unseen, len(self.source.train))


def feature_scores(real: Any, fake: Any, features: Features, seed: int) -> list[Score]:
    """The fidelity numbers of two feature arrays, with their protocol; none where there are too few items."""
    if len(real) < 6:
        return []
    protocol: dict[str, Any] = {"items": len(real), **features.protocol}
    kernel, error = fidelity.kernel_distance(real, fake, seed=seed)
    precision, recall = fidelity.precision_recall(real, fake)
    density, coverage = fidelity.density_coverage(real, fake)
    few = {"note": "fewer items than features: the covariance is singular"} if len(real) <= features.size else {}
    return [
        Score("Fréchet distance", fidelity.frechet(real, fake), better="lower", protocol={**protocol, **few}),
        Score(
            "kernel distance",
            kernel,
            error,
            better="lower",
            protocol={**protocol, "kernel": "(x·y/F + 1)^3, unbiased", "seed": seed},
        ),
        Score("precision", precision, better="higher", protocol={**protocol, "k": 3}),
        Score("recall", recall, better="higher", protocol={**protocol, "k": 3}),
        Score("density", density, better="higher", protocol={**protocol, "k": 5}),
        Score("coverage", coverage, better="higher", protocol={**protocol, "k": 5}),
    ]
