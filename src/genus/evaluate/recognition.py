"""Which classes a classifier of real data sees in samples, and how surely.

Samples of a good model are recognised as surely as real data are, in the same proportions, and those of a
conditional model as what was asked for. A classifier is easily fooled: what is recognised need not look
real, so these numbers stand beside those that compare with real data, and beside the same numbers of
real data.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genus.evaluate._items import DataSource
from genus.evaluate.classifier import Classifier, trained_classifier
from genus.evaluate.score import Score
from genus.kinds import Label


@dataclass(frozen=True)
class Judge:
    """A classifier trained on a source's training split. protocol: its name, hash and accuracy on real test data."""

    classifier: Classifier
    labels: Label
    protocol: dict[str, Any]

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Of each class, ``(N, classes)`` float64, for raw data ``(N, *shape)``."""
        return torch.cat([self.classifier(part.cpu()).double().softmax(1) for part in x.split(512)])

    def __call__(self, x: Tensor, real: Tensor, asked: Tensor | None = None) -> list[Score]:
        """How samples are recognised, beside as many real items; ``asked``: the labels that samples were drawn for."""
        seen, expected = self.probabilities(x), self.probabilities(real).argmax(1)
        surely, found = seen.max(1)
        count, protocol = len(x), {"items": len(x), **self.protocol}
        balance, told = homogeneity(*(named.bincount(minlength=self.labels.count) for named in (found, expected)))
        scores = [
            Score("recognition", float(surely.mean()), error(surely), better="higher", protocol=protocol),
            Score("class balance", balance, ideal=1.0, protocol=protocol | {"chi-square": told}),
        ]
        if asked is not None:
            right = (found == asked.cpu()).double()
            given = protocol | {"asked for": "the labels of held-out items"}
            scores.append(Score("as asked", float(right.mean()), error(right), better="higher", protocol=given))
        return scores if count > 1 else []


def judge_of(source: DataSource, *, seed: int = 0) -> Judge | None:
    """The judge of labelled pictures, volumes and sounds; None for other data."""
    domain, labels = source.domain, source.condition
    if domain.planes is None or not isinstance(labels, Label) or labels.count < 2:
        return None
    trained = trained_classifier(source, domain, labels, seed)
    name = f"genus-classifier/{source.name} sha256:{trained.sha}"
    return Judge(trained.classifier, labels, {"classifier": name, "test accuracy": trained.accuracy})


def error(values: Tensor) -> float:
    """The standard error of a mean."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan


def homogeneity(a: Tensor, b: Tensor) -> tuple[float, str]:
    """Pearson's chi-square that counts ``a`` and ``b`` of the same classes are of one distribution, divided by its
    degrees of freedom, and a sentence with the p-value."""
    a, b = a.double(), b.double()
    present = (a + b) > 0
    freedom = int(present.sum()) - 1
    missing = int(((a == 0) & (b > 0)).sum())
    if freedom < 1:
        return 1.0, "one class only"
    ratio = (b.sum() / a.sum()).sqrt()
    chi = float(((a * ratio - b / ratio).square() / (a + b).clamp(min=1))[present].sum())
    p = float(torch.special.gammaincc(torch.tensor(freedom / 2).double(), torch.tensor(chi / 2).double()))
    gone = (
        f"{missing} of {int((b > 0).sum())} classes missing" if missing else f"all {int((b > 0).sum())} classes there"
    )
    return chi / freedom, f"chi-square {chi:.1f} with {freedom} degrees of freedom, p = {p:.2g}; {gone}"
