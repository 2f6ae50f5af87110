"""A small classifier that genus trains on a data set's own training split.

Its penultimate layer is the feature space of labelled grids (`genus.evaluate.features`), its classes
judge samples (`genus.evaluate.recognition`). Weights are a function of the data and the seed, kept in
the cache, and named by their hash.
"""

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genus.contract import Split
from genus.evaluate._items import DataSource, choose, gather
from genus.kinds import Domain, classes_of
from genus.prob import noise

VERSION = 1  # raised when the classifier or its training changes: old cached weights are then not used
WIDTH = 64
STEPS = 600, 1500  # least and most steps that train the classifier


def cache_folder() -> Path:
    """``$GENUS_CACHE``, or ``~/.cache/genus``."""
    return Path(os.environ.get("GENUS_CACHE") or Path.home() / ".cache" / "genus")


def digest(tensors: dict[str, Tensor]) -> str:
    """The first eight hexadecimal digits of the SHA-256 of named tensors."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(f"{name} {tuple(tensors[name].shape)}".encode() + tensors[name].contiguous().cpu().numpy().tobytes())
    return sha.hexdigest()[:8]


class Classifier(nn.Module):
    """Strided convolutions, then a hidden layer (the features), then the classes.

    A sound is read as a picture: decibels in bands of the mel scale, over time.
    """

    def __init__(self, domain: Domain, classes: int, generator: torch.Generator):
        super().__init__()
        self.domain = domain
        if domain.planes is None:
            raise ValueError(f"the feature classifier reads sound and grids of 1 to 3 dimensions; got {domain}.")
        channels, size = domain.planes
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(size) - 1]
        layers: list[nn.Module] = []
        for depth in range(max(1, round(math.log2(max(size) / 7)))):  # down to about 7 cells a side
            width = 32 if depth == 0 else 64
            layers += [nn.utils.skip_init(convolution, channels, width, 3, stride=2, padding=1), nn.ReLU()]
            channels, size = width, tuple((s + 1) // 2 for s in size)
        self.trunk = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.utils.skip_init(nn.Linear, channels * math.prod(size), WIDTH),
            nn.ReLU(),
        )
        self.head = nn.utils.skip_init(nn.Linear, WIDTH, classes)
        self.unit: Tensor
        self.register_buffer("unit", torch.ones(()))  # spread of the features over the training split
        for parameter in self.parameters():  # He's scale, drawn from the given generator alone
            scale = math.sqrt(2 / parameter[0].numel()) if parameter.ndim > 1 else 0.0
            parameter.data = scale * noise.normal(tuple(parameter.shape), generator)

    def features(self, x: Tensor) -> Tensor:
        """Raw data ``(B, *shape)`` to ``(B, WIDTH)``, of unit spread over the training split."""
        return self.trunk(self.domain.as_planes(x)) / self.unit

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)``."""
        return self.head(self.features(x) * self.unit)


@dataclass(frozen=True)
class Trained:
    """A classifier, the hash of its weights, and the share of the test split that it names rightly."""

    classifier: Classifier
    sha: str
    accuracy: float


def trained_classifier(source: DataSource, domain: Domain, labels: Domain, seed: int) -> Trained:
    """Read from the cache, or trained on the source's training split and kept there."""
    told = repr((VERSION, source.name, source.fingerprint, domain, labels, seed))
    path = cache_folder() / "features" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
    classifier = Classifier(domain, classes_of(labels), noise.stream(seed, "features"))
    stored = _read(path, classifier)
    if stored is None:
        train_classifier(classifier, source.train, seed)
        stored = {**classifier.state_dict(), "accuracy": torch.tensor(accuracy(classifier, source.test, seed))}
        _write(path, stored)
    classifier.eval()
    sha = digest({key: value for key, value in stored.items() if key != "accuracy"})
    return Trained(classifier, sha, round(float(stored["accuracy"]), 4))


def _read(path: Path, classifier: Classifier) -> dict[str, Tensor] | None:
    """The cached weights, loaded into the classifier; None where there are none, or none that fit."""
    try:
        stored = load_file(path)
        classifier.load_state_dict({key: value for key, value in stored.items() if key != "accuracy"})
    except (OSError, SafetensorError, RuntimeError):
        return None
    return stored if "accuracy" in stored and stored["accuracy"].numel() == 1 else None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """In one piece, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({key: value.contiguous() for key, value in tensors.items()}, partial)
    os.replace(partial, path)


def train_classifier(classifier: Classifier, train: Split, seed: int, *, batch_size: int = 128) -> None:
    """Adam on the cross-entropy for two epochs (within `STEPS`), the rate
    falling to zero; a function of the seed."""
    steps = min(max(STEPS[0], 2 * len(train) // batch_size), STEPS[1])
    optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
    order = torch.empty(0, dtype=torch.int64)
    with torch.enable_grad():
        for step in range(steps):
            if len(order) < batch_size:
                order = torch.cat([order, noise.permutation(len(train), noise.stream(seed, "features order", step))])
            index, order = order[:batch_size], order[batch_size:]
            batch = train.batch(index, noise.stream(seed, "features batch", step))
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * (1 - step / steps)
            if batch.condition is None:
                raise ValueError("the data source names labels but its training split gives none.")
            loss = nn.functional.cross_entropy(classifier(batch.x), batch.condition)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        features = classifier.features(gather(train, choose(len(train), 4096, seed), seed).x)
        classifier.unit.copy_(features.var(0).mean().sqrt())


@torch.no_grad()
def accuracy(classifier: Classifier, split: Split, seed: int) -> float:
    """Share of a split that the classifier names rightly."""
    right = 0
    for index in torch.arange(len(split)).split(512):
        batch = gather(split, index, seed)
        right += int((classifier(batch.x).argmax(-1) == batch.condition).sum())
    return right / len(split)
