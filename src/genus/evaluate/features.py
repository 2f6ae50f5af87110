"""A named feature space in which samples and real data are compared.

Labelled grids: the penultimate layer of a small classifier that genus trains on the data's
own training split. Everything else: principal components of what the kind says of its data
(`Domain.describe`): of sound its log-mel spectrogram, summed up over time, else the raw values. The name holds
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
from genus.kinds import Domain, classes_of

COMPONENTS = 32


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
    domain, labels = source.domain, source.condition
    if domain.compared_by == "distances":
        raise ValueError(f"{domain.plural} have no feature space here: compare them with genus.evaluate.shapes.")
    if domain.compared_by == "classifier" and labels is not None and classes_of(labels) > 1:
        return _classifier_features(source, domain, labels, seed)
    return _component_features(source, seed)


def _classifier_features(source: DataSource, domain: Domain, labels: Domain, seed: int) -> Features:
    trained = trained_classifier(source, domain, labels, seed)

    @torch.no_grad()
    def extract(x: Tensor) -> np.ndarray:
        domain.check(x)
        return torch.cat([trained.classifier.features(part.cpu()).double() for part in x.split(512)]).numpy()

    name = f"genus-classifier/{source.name} sha256:{trained.sha}, {WIDTH}-d"
    return Features(name, WIDTH, extract, {"features": name, "test accuracy": trained.accuracy})


def _component_features(source: DataSource, seed: int) -> Features:
    """Principal components of what `Domain.describe` says of up to 4000 training items. Numbers of different units are
    standardised one by one; those that share a unit, such as the entries of a grid, by one scale."""
    domain = source.domain
    x = domain.describe(gather(source.train, choose(len(source.train), 4000, seed), seed).x)
    mean, scale = domain.scale(x)
    axes = _principal_axes((x - mean) / scale, COMPONENTS)
    size = axes.shape[1]
    sha = digest({"mean": mean, "scale": scale, "axes": axes})

    def extract(x: Tensor) -> np.ndarray:
        domain.check(x)
        return (((domain.describe(x.cpu()) - mean) / scale) @ axes).numpy()

    name = f"{domain.features_name}pca-{size}/{source.name} sha256:{sha}"
    return Features(name, size, extract, {"features": name})


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
