"""What ranks the checkpoints of models without a loss that does: the Fréchet distance of their samples."""

from collections.abc import Callable

import torch

from genus import hardware
from genus.contract import GenerativeModel
from genus.data import Source
from genus.errors import SettingsError
from genus.evaluate._items import choose, gather
from genus.evaluate.features import features_of
from genus.evaluate.fidelity import frechet
from genus.prob import noise
from genus.runs.config import RunConfig

ITEMS = 512  # samples, and validation items that they are compared with
AT_ONCE = 128

Ranking = Callable[[GenerativeModel], float]


def ranking_of(config: RunConfig, source: Source) -> tuple[Ranking | None, str]:
    """What `RunConfig.criterion` asks for beside the model's own criterion, and a sentence on it.

    frechet: squared Fréchet distance (Heusel et al. 2017, https://arxiv.org/abs/1706.08500, equation 6) of so many
    samples, drawn with the same noise each time and given the conditions of the items for a conditional model, to
    validation items in the feature space of `features_of`. Lower is better. Raises a `SettingsError` for data without
    validation items and for clouds of points, which have no feature space.
    """
    if config.criterion == "loss":
        return None, ""
    count = min(ITEMS, len(source.validation))
    if count < 2:
        raise SettingsError(f"{source.name} has {count} validation items; --criterion frechet needs 2 and more.")
    try:
        features = features_of(source)
    except ValueError as error:
        raise SettingsError(f"--criterion frechet: {error}") from None
    real = gather(source.validation, choose(len(source.validation), count, 0), 0)
    seen = features.extract(real.x)

    def rank(model: GenerativeModel) -> float:
        drawn = []
        for number, index in enumerate(torch.arange(count).split(AT_ONCE)):
            condition = real.condition[index] if config.conditional and real.condition is not None else None
            with torch.no_grad(), hardware.arithmetic(config.recipe.precision, model.device):
                generator = noise.stream(config.seed, "criterion", number)
                drawn.append(model.sample(len(index), condition=condition, generator=generator).cpu())
        return frechet(seen, features.extract(torch.cat(drawn)))

    return rank, f"checkpoints are ranked by the Fréchet distance of {count} samples in {features.name}"
