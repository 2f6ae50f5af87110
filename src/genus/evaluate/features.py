"""A named feature space in which samples and real data are compared.

Labelled grids: the penultimate layer of a small classifier that genus trains on the data's
own training split. Sound: principal components of its log-mel spectrogram, summed up over
time. Everything else: principal components of the raw values. The name holds
a hash of the weights, so numbers from different feature spaces are never taken for
comparable, and none of them is called FID.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genus.evaluate._items import DataSource, choose, gather
from genus.evaluate.classifier import WIDTH, digest, trained_classifier
from genus.kinds import Grid, Label, Points, Waveform
from genus.prob.spectrum import mel_decibels

COMPONENTS = 32
BANDS, PARTS = 24, 4  # of a sound: bands of the mel scale, parts of the time


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


def _classifier_features(source: DataSource, domain: Grid, labels: Label, seed: int) -> Features:
    trained = trained_classifier(source, domain, labels, seed)

    @torch.no_grad()
    def extract(x: Tensor) -> np.ndarray:
        domain.check(x)
        return torch.cat([trained.classifier.features(part.cpu()).double() for part in x.split(512)]).numpy()

    name = f"genus-classifier/{source.name} sha256:{trained.sha}, {WIDTH}-d"
    return Features(name, WIDTH, extract, {"features": name, "test accuracy": trained.accuracy})


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
    found = []
    for part in x.split(256):
        decibels = mel_decibels(domain.amplitudes(part), BANDS, domain.rate)
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
