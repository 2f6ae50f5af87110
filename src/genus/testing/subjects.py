"""What a check looks at: a tiny model on a tiny domain, with toy data to match.

Subjects follow from what a model declares: the kinds of domain, the kinds of condition, and whether it is nothing
without one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.contract import Batch, FitsInClosedForm, GenerativeModel, IsConditional
from genus.kinds import Domain, Grid, Label, Parts, Points, Tokens, Vectors, Waveform, classes_of, grid_of, table
from genus.nn.per_item import allocate
from genus.prob import noise

LABELS = Label(("first", "second", "third"))
CLASSES = LABELS.count  # patterns in toy data, and conditions that differ

TINY_DOMAINS: tuple[Domain, ...] = tuple(domain for kind in table().values() for domain in kind.tiny())


def tiny_conditions(domain: Domain) -> tuple[Domain, ...]:
    """A condition of every kind for data of a domain: labels, numbers, words, a cloud, pictures of the same and of
    half the size, and two named parts at once."""
    pictures: tuple[Domain, ...] = (Grid(1, (4, 4), 3),)
    if grid := grid_of(domain):
        half = tuple(-(-side // 2) for side in grid.size)
        pictures = (
            Grid(2, grid.size, 3, axes=grid.axes),
            Grid(grid.channels, half, max(grid.levels, 3), axes=grid.axes),
        )
    parts = (("style", Vectors(2)), ("label", LABELS))
    return (LABELS, Vectors(3), Tokens(2, 7), *pictures, Points(6, 2), Waveform(16, 8000), Parts(parts))


class ToySplit:
    """``count`` data of any domain with structure to learn: one pattern a class, in odd units. A condition of whatever
    kind tells of the class."""

    def __init__(self, domain: Domain, condition: Domain | None = None, count: int = 192):
        self.count = count
        self.label = torch.arange(count) % (classes_of(condition) or CLASSES)
        self.x = toy_data(domain, self.label)
        self.condition = None if condition is None else toy_data(condition, self.label, "condition")

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The items ``index``; nothing is augmented."""
        return Batch(self.x[index], None if self.condition is None else self.condition[index], index)


def toy_data(domain: Domain, label: Tensor, name: str = "toy") -> Tensor:
    """One datum for each class in ``label``: ``(B, *domain.shape)``. Another name gives others of the same patterns."""
    return domain.toy(label, name)


@dataclass(frozen=True)
class Subject:
    """A model class on one domain, with or without a condition: what a check is given."""

    model_class: type[GenerativeModel]
    domain: Domain
    condition: Domain | None = None

    def __str__(self) -> str:
        if self.condition is None:
            return str(self.domain)
        return f"{self.domain}, {'labels' if classes_of(self.condition) else f'given {self.condition}'}"

    @property
    def split(self) -> ToySplit:
        """Training data."""
        return ToySplit(self.domain, self.condition)

    def batch(self, count: int = 32) -> Batch:
        """The first ``count`` training data."""
        return self.split.batch(torch.arange(count))

    def conditions(self, count: int, start: int = 0) -> Tensor | None:
        """``count`` conditions, of all classes in turn from ``start``; None without a condition."""
        if self.condition is None:
            return None
        return toy_data(self.condition, (torch.arange(count) + start) % CLASSES, "condition")

    def same_condition(self, count: int, start: int = 0) -> Tensor | None:
        """One condition, ``count`` times; another ``start`` is another one."""
        one = self.conditions(1, start)
        return None if one is None else one.expand(count, *one.shape[1:])

    def bare(self, seed: int = 0) -> GenerativeModel:
        """A fresh model, in eval mode; the seed decides its first weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.model_class.tiny(self.domain, self.condition)
            allocate(model, len(self.split))
            return model.eval()

    def make(self, seed: int = 0, shake: float = 0.1) -> GenerativeModel:
        """A model as training would meet it: initialised on data (or fitted), every weight shaken.

        Shaken (normal noise of that size), because networks that start at zero hide what they
        read: an ignored condition and one whose weights are still zero look the same.
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
    """The class on every tiny domain that it can model; and on one domain of each kind, every kind of condition."""
    fitting = [domain for domain in TINY_DOMAINS if model_class.refuses(domain) is None]
    if not model_class.needs_condition:
        yield from (Subject(model_class, domain) for domain in fitting)
    if issubclass(model_class, IsConditional):
        for kind in dict.fromkeys(type(domain) for domain in fitting):
            domain = next(d for d in fitting if type(d) is kind)
            for condition in tiny_conditions(domain):
                if model_class.refuses_condition(domain, condition) is None:
                    yield Subject(model_class, domain, condition)


def few(found: list[Subject], place: int) -> list[Subject]:
    """At most three of the subjects of a check: the first domain, another one and one with a condition. Which others
    depends on ``place``, so that over models and checks all come up."""
    alone = [subject for subject in found if subject.condition is None]
    given = [subject for subject in found if subject.condition is not None]
    chosen = alone[:1]
    if len(alone) > 1:
        chosen.append(alone[1 + place % (len(alone) - 1)])
    if given:
        chosen.append(given[place % len(given)])
    return chosen
