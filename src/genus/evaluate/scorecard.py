"""All numbers of one model on one data source, with the rows that give them meaning."""

from typing import Any, Literal

import torch
from torch import Tensor

from genus.contract import Batch, GenerativeModel, HasLogProb, IsConditional, Likelihood, Split, name_of
from genus.evaluate import fidelity, shapes
from genus.evaluate._items import DataSource, choose, gather
from genus.evaluate.features import Features, features_of
from genus.evaluate.floors import floors
from genus.evaluate.likelihood import evaluating, held_out_loss, log_likelihood
from genus.evaluate.memorisation import CopyTest, plant
from genus.evaluate.recognition import judge_of
from genus.evaluate.score import Row, Score, Scorecard
from genus.evaluate.speed import parameter_count, peak_memory, sampling_speed
from genus.kinds import Domain
from genus.prob import noise

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
    features: Features | None = None,
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
        options: keyword options for the model's ``sample``. With guidance the likelihood is left out, as it would
            not be that of the samples.
        references: also score the floors and real data.
        name: of the model's row; the registry name by default.
        features: where samples and real data are compared; by default `features_of` the source.

    Raises a ValueError where model and source differ in domain, or samples do not fit.
    """
    if model.domain != source.domain:
        raise ValueError(f"the model was built for {model.domain}; {source.name} gives {source.domain}.")
    held_out = {"validation": source.validation, "test": source.test}[split]
    most = source.domain.compared
    wanted = count or (len(samples) if samples is not None else min(len(held_out), most))
    wanted = min(wanted, len(held_out), len(source.train))
    if samples is not None and len(samples) < wanted:
        raise ValueError(f"expected at least {wanted} samples to compare with as many items; got {len(samples)}.")
    real = gather(held_out, choose(len(held_out), wanted, seed), seed)
    compare = Comparison(source, real.x, seed, features)
    likelihood = {"num_samples": num_samples, "batch_size": batch_size, "seed": seed, "limit": limit}

    def scores(model: GenerativeModel, x: Tensor | None) -> list[Score]:
        if (options or {}).get("guidance"):
            found: list[Score] = []  # guided samples are not draws from any distribution whose density is known
        elif _scores_data(model):
            found = log_likelihood(model, held_out, **likelihood)  # type: ignore[arg-type]
        else:
            found = held_out_loss(model, held_out, batch_size=batch_size, seed=seed, limit=limit)
        if x is not None:
            return found + compare(x)
        x = draw(model, wanted, real.condition, seed, batch_size, options)
        return found + compare(x, real.condition if model.condition is not None else None)

    own = scores(model, None if samples is None else samples[:wanted])
    condition = real.condition[:16] if model.condition is not None and real.condition is not None else None
    own.append(sampling_speed(model, min(16, wanted), condition=condition, seed=seed, options=options))
    own.append(parameter_count(model))
    memory = peak_memory()
    rows = [Row(name or name_of(model), "model", (*own, *([memory] if memory else [])))]
    if references:
        options = None  # they are the model's, not the floors'
        rows += real_rows(compare, validation=split == "test")
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


class Comparison:
    """Sample metrics against one set of real held-out items ``(N, *shape)``.

    features: where grids and vectors are compared; None for `features_of` the source.
    """

    def __init__(self, source: DataSource, real: Tensor, seed: int, features: Features | None = None):
        self.source, self.real, self.seed = source, real, seed
        self.domain: Domain = source.domain
        self.copies = CopyTest(real, source.train, self.domain, seed=seed)
        self.features: Features | None = None
        self.judge = judge_of(source, seed=seed)
        if self.domain.compared_by == "distances":
            self.sets = shapes.SetMetrics(real, points=CLOUD_POINTS, seed=seed) if len(real) > 1 else None
        else:
            self.features = features or features_of(source, seed=seed)
            self.real_features = self.features.extract(real)

    def __call__(self, x: Tensor, asked: Tensor | None = None) -> list[Score]:
        """All numbers of samples ``(N, *shape)``, as many as there are real items; asked: the labels that they
        were drawn for."""
        return self.fidelity(x, asked) + self.memorisation(x)

    def fidelity(self, x: Tensor, asked: Tensor | None = None) -> list[Score]:
        """How samples compare with the real items."""
        self.domain.check(x, "samples")
        if self.features is not None:
            found = feature_scores(self.real_features, self.features.extract(x), self.features, self.seed)
            return found + (self.judge(x, self.real, asked) if self.judge else [])
        return [*(self.sets(x) if self.sets else []), shapes.jsd(x, self.real)]

    def memorisation(self, x: Tensor) -> list[Score]:
        """How samples compare with the training split, beside the real items."""
        return self.copies(self.copies.search(x))


def real_rows(compare: Comparison, *, validation: bool = True) -> list[Row]:
    """What real data score, which gives the scale: training items (new to the held-out ones, but
    copies of themselves), planted copies (nine in ten are training items, the rest held-out ones)
    and, where the test split is scored, validation items, which no model was trained on."""
    source, count, seed = compare.source, len(compare.real), compare.seed

    def some(split: Split) -> Batch:
        return gather(split, choose(len(split), count, seed), seed)

    train = some(source.train)
    found = compare.copies.search(train.x)
    rows = [
        Row("training items", "real", (*compare.fidelity(train.x, train.condition), *compare.copies(found))),
        Row("planted copies", "real", tuple(compare.copies(plant(found, compare.copies.unseen)))),
    ]
    if validation and len(source.validation):
        rows.append(Row("validation items", "real", tuple(compare.memorisation(some(source.validation).x))))
    return rows


def feature_scores(real: Any, fake: Any, features: Features, seed: int) -> list[Score]:
    """The fidelity numbers of two feature arrays, with their protocol; none where there are too few items."""
    count = len(real)
    if count < 6:
        return []
    found = fidelity.compare(real, fake, seed=seed)
    singular = {"note": "fewer items than features: the covariance is singular"} if count <= features.size else {}
    perfect = round(fidelity.perfect_coverage(count), 4)
    told: dict[str, tuple[Literal["lower", "higher"], dict[str, Any]]] = {
        "Fréchet distance": ("lower", singular),
        "kernel distance": ("lower", {"kernel": "(x·y/F + 1)^3, unbiased", "perfect samples": 0, "seed": seed}),
        "precision": ("higher", {"k": fidelity.NEIGHBOURS}),
        "recall": ("higher", {"k": fidelity.NEIGHBOURS}),
        "density": ("higher", {"k": fidelity.REACH, "perfect samples": 1}),
        "coverage": ("higher", {"k": fidelity.REACH, "perfect samples": perfect}),
    }
    scores = []
    for name, (better, more) in told.items():
        value, error, method = found[name]
        protocol = {"items": count, **features.protocol, **more, **({"error": method} if method else {})}
        scores.append(Score(name, value, error, better=better, protocol=protocol))
    return scores
