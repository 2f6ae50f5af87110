"""A named feature space in which samples and real data are compared.

Labelled grids: the penultimate layer of a small classifier that genus trains on the data's
own training split. Sound: principal components of its log-mel spectrogram, summed up over
time. Everything else: principal components of the raw values. The name holds
a hash of the weights, so numbers from different feature spaces are never taken for
comparable, and none of them is called FID.
"""

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genus.contract import Split
from genus.domain import Grid, Label, Points, Waveform
from genus.evaluate._items import DataSource, choose, gather
from genus.prob import noise
from genus.prob.spectrum import mel_bands, spectrogram

VERSION = 1  # raised when the classifier or its training changes: old cached weights are then not used
WIDTH = 64
COMPONENTS = 32
BANDS, PARTS = 24, 4  # of a sound: bands of the mel scale, parts of the time
STEPS = 600, 1500  # least and most steps that train the classifier


@dataclass(frozen=True)
class Features:
    """A feature space. ``extract`` maps raw data ``(N, *shape)`` to float64 ``(N, size)``."""

    name: str
    size: int
    extract: Callable[[Tensor], np.ndarray]
    protocol: dict[str, Any] = field(default_factory=dict)


def features_of(source: DataSource, *, seed: int = 0) -> Features:
    """The feature space of a data source: trained (or read from the cache) where the data are
    labelled grids, principal components otherwise. Raises a ValueError for point clouds, which
    are compared by their own distances (`genus.evaluate.shapes`)."""
    if isinstance(source.domain, Points):
        raise ValueError("point clouds have no feature space here: compare them with genus.evaluate.shapes.")
    if isinstance(source.domain, Grid) and isinstance(source.condition, Label) and source.condition.count > 1:
        return _classifier_features(source, source.domain, source.condition, seed)
    if isinstance(source.domain, Waveform):
        return _sound_features(source, source.domain, seed)
    return _pca_features(source, seed)


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
    """Strided convolutions, then a hidden layer (the features), then the classes."""

    def __init__(self, domain: Grid, classes: int, generator: torch.Generator):
        super().__init__()
        self.levels = domain.levels
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}.get(len(domain.size))
        if convolution is None:
            raise ValueError(f"the feature classifier reads grids of 1 to 3 dimensions; got {domain}.")
        channels, size = domain.channels, domain.size
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
        """Raw integers ``(B, C, *size)`` to ``(B, WIDTH)``, of unit spread over the training split."""
        return self.trunk(x.float() / (self.levels - 1) * 2 - 1) / self.unit

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)``."""
        return self.head(self.features(x) * self.unit)


def _classifier_features(source: DataSource, domain: Grid, labels: Label, seed: int) -> Features:
    told = repr((VERSION, source.name, source.fingerprint, domain, labels, seed))
    path = cache_folder() / "features" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
    classifier = Classifier(domain, labels.count, noise.stream(seed, "features"))
    stored = _read(path, classifier)
    if stored is None:
        train_classifier(classifier, source.train, seed)
        stored = {**classifier.state_dict(), "accuracy": torch.tensor(accuracy(classifier, source.test, seed))}
        _write(path, stored)
    classifier.eval()
    sha = digest({key: value for key, value in stored.items() if key != "accuracy"})

    @torch.no_grad()
    def extract(x: Tensor) -> np.ndarray:
        domain.check(x)
        return torch.cat([classifier.features(part.cpu()).double() for part in x.split(512)]).numpy()

    name = f"genus-classifier/{source.name} sha256:{sha}, {WIDTH}-d"
    return Features(name, WIDTH, extract, {"features": name, "test accuracy": round(float(stored["accuracy"]), 4)})


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


def _pca_features(source: DataSource, seed: int) -> Features:
    """Principal components of up to 4000 training items. Features of a table are standardised one
    by one, as their units differ; the entries of a grid share one unit, so one scale."""
    domain = source.domain
    x = gather(source.train, choose(len(source.train), 4000, seed), seed).x.flatten(1).double()
    mean = x.mean(0)
    scale = x.std(0, correction=0) if domain.levels is None else (x - mean).pow(2).mean().sqrt().expand_as(mean)
    scale = torch.where(scale > 0, scale, 1.0)
    axes = _principal_axes((x - mean) / scale, COMPONENTS)
    size = axes.shape[1]
    sha = digest({"mean": mean, "scale": scale, "axes": axes})

    def extract(x: Tensor) -> np.ndarray:
        domain.check(x)
        return (((x.cpu().flatten(1).double() - mean) / scale) @ axes).numpy()

    name = f"pca-{size}/{source.name} sha256:{sha}"
    return Features(name, size, extract, {"features": name})


def _sound_features(source: DataSource, domain: Waveform, seed: int) -> Features:
    """Principal components of `heard` of up to 4000 training items, each number of it standardised."""
    x = heard(gather(source.train, choose(len(source.train), 4000, seed), seed).x, domain)
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 1e-9, scale, 1.0)
    axes = _principal_axes((x - mean) / scale, COMPONENTS)
    size = axes.shape[1]
    sha = digest({"mean": mean, "scale": scale, "axes": axes})

    def extract(x: Tensor) -> np.ndarray:
        domain.check(x)
        return (((heard(x.cpu(), domain) - mean) / scale) @ axes).numpy()

    name = f"log-mel-pca-{size}/{source.name} sha256:{sha}"
    return Features(name, size, extract, {"features": name})


def heard(x: Tensor, domain: Waveform) -> Tensor:
    """What a sound is like in float64: decibels in `BANDS` bands of the mel scale, their mean in each of
    `PARTS` parts of the time, and their deviation over the whole of it."""
    window = 2 ** min(max(round(math.log2(domain.rate * 0.03)), 4), 11)  # about 30 ms
    bands = mel_bands(BANDS, window, domain.rate)
    found = []
    for part in x.split(256):
        decibels = 10 * (bands @ spectrogram(domain.amplitudes(part), window) + 1e-8).log10()
        means = torch.nn.functional.adaptive_avg_pool1d(decibels, PARTS)
        found.append(torch.cat([means.flatten(1), decibels.std(-1, correction=0)], 1).double())
    return torch.cat(found)


def _principal_axes(x: Tensor, count: int) -> Tensor:
    """``(D, count)``: the directions of largest variance of centred rows, the largest entry positive."""
    rows, columns = x.shape
    if columns <= rows:
        axes = torch.linalg.eigh(x.T @ x).eigenvectors.flip(1)[:, :count]
    else:  # by way of the smaller matrix of inner products
        values, vectors = torch.linalg.eigh(x @ x.T)
        keep = values > 1e-10 * values[-1]
        axes = (x.T @ (vectors[:, keep] / values[keep].sqrt())).flip(1)[:, :count]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return axes * largest.sign()
