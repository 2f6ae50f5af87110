"""What a check looks at: a tiny model on a tiny domain, with toy data to match."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.contract import Batch, FitsInClosedForm, GenerativeModel, IsConditional
from genus.kinds import Discrete, Domain, Grid, Label, Points, Pyramid, Tokens, Vectors, Waveform
from genus.prob import noise

LABELS = Label(("first", "second", "third"))

TINY_DOMAINS: tuple[Domain, ...] = (
    Grid(1, (2, 2), 2),  # 16 states: small enough for sums over all of them
    Grid(1, (1, 2), 5),  # 25 states
    Grid(1, (8, 8), 256),
    Grid(3, (5, 7), 4),  # channels and odd sizes
    Tokens(4, 3),  # 81 states
    Tokens(12, 300),  # more symbols than a byte holds
    Waveform(2, 8000, 6),  # 36 states
    Waveform(40, 8000),
    Pyramid((2, 2), 2, 2),  # 32 states
    Vectors(2),
    Points(16, 3),
)


class ToySplit:
    """``count`` data of any domain with structure to learn: one pattern a class, in odd units."""

    def __init__(self, domain: Domain, condition: Label | None = None, count: int = 192):
        self.count, self.conditional = count, condition is not None
        self.label = torch.arange(count) % (condition.count if condition is not None else 3)
        self.x = toy_data(domain, self.label)

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The items ``index``; nothing is augmented."""
        return Batch(self.x[index], self.label[index] if self.conditional else None, index)


def toy_data(domain: Domain, label: Tensor) -> Tensor:
    """One datum for each label: ``(B, *domain.shape)``."""
    generator, count = noise.stream("toy", str(domain)), len(label)
    wide = label.view(-1, *[1] * len(domain.shape))
    if isinstance(domain, Discrete):
        place = torch.arange(domain.num_dims).view(domain.shape)
        pattern = (place * (wide + 1) + wide) % domain.levels
        anything = noise.integers(domain.levels, (count, *domain.shape), generator)
        keep = noise.uniform((count, *domain.shape), generator) < 0.7
        return torch.where(keep, pattern, anything).to(domain.dtype)
    if isinstance(domain, Vectors):
        unit = 3.0 / (1 + torch.arange(domain.features))
        return 5 + unit * (wide + 0.3 * noise.normal((count, domain.features), generator))
    if isinstance(domain, Points):
        directions = torch.nn.functional.normalize(noise.normal((count, domain.count, domain.dim), generator), dim=-1)
        return 2 + (1 + 0.5 * wide) * directions
    raise ValueError(f"there are no toy data for {domain}; give the split's data yourself.")


@dataclass(frozen=True)
class Subject:
    """A model class on one domain, with or without a condition: what a check is given."""

    model_class: type[GenerativeModel]
    domain: Domain
    condition: Label | None = None

    def __str__(self) -> str:
        return f"{self.domain}{', labels' if self.condition else ''}"

    @property
    def split(self) -> ToySplit:
        """Training data."""
        return ToySplit(self.domain, self.condition)

    def batch(self, count: int = 32) -> Batch:
        """The first ``count`` training data."""
        return self.split.batch(torch.arange(count))

    def labels(self, count: int, start: int = 0) -> Tensor | None:
        """``count`` labels, all classes in turn from ``start``; None without a condition."""
        return None if self.condition is None else (torch.arange(count) + start) % self.condition.count

    def bare(self, seed: int = 0) -> GenerativeModel:
        """A fresh model, in eval mode; the seed decides its first weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.model_class.tiny(self.domain, self.condition).eval()

    def make(self, seed: int = 0, shake: float = 0.1) -> GenerativeModel:
        """A model as training would meet it: initialised on data (or fitted), every weight shaken.

        Shaken (normal noise of that size), because networks that start at zero hide what they
        read: an ignored label and a label whose weights are still zero look the same.
        """
        model = self.bare(seed)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model.initialise(self.split)
            if isinstance(model, FitsInClosedForm):
                model.fit(self.split)
        generator = noise.stream("shake", seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(noise.normal(tuple(parameter.shape), generator, dtype=parameter.dtype), alpha=shake)
        return model


def subjects(model_class: type[GenerativeModel]) -> Iterator[Subject]:
    """The class on every tiny domain that it can model, and with labels where it can be conditioned."""
    fitting = [domain for domain in TINY_DOMAINS if model_class.refuses(domain) is None]
    for domain in fitting:
        yield Subject(model_class, domain)
    if issubclass(model_class, IsConditional):
        for kind in dict.fromkeys(type(domain) for domain in fitting):
            yield Subject(model_class, next(d for d in fitting if type(d) is kind), LABELS)
