"""Feature networks from a weights file that the user names: Inception, DINOv2 or any other.

Nothing is ever downloaded and no file is unpickled. The SHA-256 of the file is part of the
name of the feature space, so the numbers of two files never share a column. The distance
between two sets of features is called Fréchet distance whatever the network: FID is its name
for one set of Inception weights with one way of preparing pictures.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from genus.data.transforms import with_channels
from genus.errors import DataFormatError, SettingsError
from genus.evaluate._onnx import OnnxNetwork
from genus.evaluate.dinov2 import DinoV2
from genus.evaluate.features import Features
from genus.kinds import Domain, Grid, picture_of

LARGEST = 2 << 30  # bytes of a weights file
MOST_FEATURES = 8192  # their covariance has the square of it
PICTURES = 32  # at a time

Preset = Literal["inception", "imagenet", "dinov2", "raw"]


@dataclass(frozen=True)
class Preparation:
    """How pictures of values 0..1 become a network's input: the side they are brought to (None: as
    they are, or as the network's input says), what is taken off and divided by, how they are resized.
    """

    about: str
    size: int | None = None
    mean: tuple[float, ...] = (0.0,)
    spread: tuple[float, ...] = (1.0,)
    mode: str = "bilinear"


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPARATIONS: dict[Preset, Preparation] = {
    "inception": Preparation("299x299, bilinear with antialiasing, values -1..1", 299, (0.5,), (0.5,)),
    "imagenet": Preparation("224x224, bilinear with antialiasing, ImageNet's mean and spread", 224, *IMAGENET),
    "dinov2": Preparation("224x224, bicubic with antialiasing, ImageNet's mean and spread", 224, *IMAGENET, "bicubic"),
    "raw": Preparation("in the network's own size or their own, values 0..1"),
}


class Network(Protocol):
    """What extracts features from prepared pictures.

    channels, size, batch: what the input takes, None for any. kind: for the name of the feature
    space. about: for people.
    """

    batch: int | None
    channels: int | None
    size: tuple[int, int] | None
    kind: str
    about: str

    def __call__(self, pictures: Tensor) -> Tensor:
        """Prepared pictures ``(B, C, H, W)`` to features ``(B, F)``."""
        ...


@dataclass(frozen=True)
class NetworkFile:
    """A file of weights, and how to use it.

    path: ``.onnx`` (any network of pictures) or ``.safetensors`` (DINOv2 S, B or L). preset: how
    pictures are prepared; None takes the file's own (inception for an input of 299, imagenet
    for 224, else raw). sha256: refused unless the file has it. output: which one, where an ONNX
    network has several.
    """

    path: Path
    preset: Preset | None = None
    sha256: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class NetworkFeatures(Features):
    """Features with what a user is told about their network before the numbers."""

    about: str = ""


def network_features(file: NetworkFile, domain: Domain) -> NetworkFeatures:
    """The feature space of a weights file for pictures of a domain.

    The network runs in float32, features are float64. Grey pictures are repeated to the channels
    that the network takes. Raises a `SettingsError` where the domain is no picture, the hash is
    another, or settings do not fit the network; a `DataFormatError` for a file that is not one of
    the two kinds or is damaged.
    """
    grid = picture_of(domain, 1, 3)
    if grid is None:
        raise SettingsError(f"a feature network reads pictures of 1 or 3 channels; got {domain}.")
    content = _read(file.path)
    sha = hashlib.sha256(content).hexdigest()
    if file.sha256 is not None and file.sha256.strip().lower() != sha:
        raise SettingsError(f"{file.path}: expected the SHA-256 {file.sha256}; got {sha}: this is another file.")
    network = _open(content, file)
    preset = file.preset or _usual(network)
    extract = _extractor(network, PREPARATIONS[preset], grid, file.path)
    size = extract(torch.zeros(2, *domain.shape, dtype=domain.dtype)).shape[1]
    pictures = PREPARATIONS[preset].about
    name = f"{network.kind} sha256:{sha[:16]}, pictures as for {preset}, {size}-d"
    about = f"features: {file.path.name}: {network.about}\n  sha256: {sha}\n  pictures as for {preset}: {pictures}"
    return NetworkFeatures(name, size, extract, {"features": name, "weights sha256": sha, "pictures": pictures}, about)


def _read(path: Path) -> bytes:
    """The whole file, so that what is hashed is what is used."""
    ending = path.suffix.lower()
    if ending in (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".pt2"):
        raise SettingsError(
            f"{path}: opening this kind of file may run code, refused; convert it where you trust it, with "
            "torch.onnx.export(network.eval(), (torch.zeros(1, 3, 299, 299),), 'network.onnx', external_data=False), "
            "or take a DINOv2 as .safetensors."
        )
    if ending not in (".onnx", ".safetensors"):
        raise SettingsError(f"{path}: expected a network as .onnx, or a DINOv2 as .safetensors.")
    try:
        if path.stat().st_size > LARGEST:
            raise DataFormatError(f"{path}: larger than {LARGEST >> 30} GiB.")
        return path.read_bytes()
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error.strerror}).") from None


def _open(content: bytes, file: NetworkFile) -> Network:
    if file.path.suffix.lower() == ".onnx":
        return OnnxNetwork(content, file.path, file.output)
    if file.output is not None:
        raise SettingsError(f"{file.path}: --features-output fits ONNX files; a DINOv2 has one output.")
    return DinoV2(content, file.path)


def _usual(network: Network) -> Preset:
    """The preparation for a network whose user names none, by its kind and the size of its input."""
    if network.kind == "dinov2":
        return "dinov2"
    usual: dict[tuple[int, int] | None, Preset] = {(299, 299): "inception", (224, 224): "imagenet"}
    return usual.get(network.size, "raw")


def _extractor(network: Network, preparation: Preparation, domain: Grid, path: Path) -> Callable[[Tensor], np.ndarray]:
    channels = network.channels or max(3, domain.channels)
    wanted = (preparation.size, preparation.size) if preparation.size else network.size or domain.size
    if network.size and wanted != network.size:
        takes = "x".join(map(str, network.size))
        raise SettingsError(f"{path}: takes pictures of {takes} pixels; this preset makes {preparation.about}.")
    if channels not in (1, 3) or len(preparation.mean) not in (1, channels):
        raise SettingsError(f"{path}: takes pictures of {channels} channels; genus can prepare 1 or 3.")
    mean, spread = (torch.tensor(v).view(-1, 1, 1) for v in (preparation.mean, preparation.spread))
    batch = network.batch or PICTURES

    def prepare(x: Tensor) -> Tensor:
        pictures = with_channels(x.cpu(), channels).float() / (domain.levels - 1)
        if tuple(pictures.shape[-2:]) != tuple(wanted):
            pictures = torch.nn.functional.interpolate(pictures, wanted, mode=preparation.mode, antialias=True)
        return (pictures.clamp(0, 1) - mean) / spread

    def run(x: Tensor) -> Tensor:
        pictures = prepare(x)
        if network.batch and len(x) < batch:  # a network of fixed batches: fill the last one up
            pictures = torch.cat([pictures, pictures[-1:].expand(batch - len(x), -1, -1, -1)])
        found = network(pictures.contiguous())
        if found.ndim < 2 or len(found) != len(pictures) or found[0].numel() != found.shape[1]:
            raise DataFormatError(f"{path}: expected features (B, F) from the network; got {tuple(found.shape)}.")
        if not 1 <= found.shape[1] <= MOST_FEATURES:
            raise DataFormatError(f"{path}: expected at most {MOST_FEATURES} features; got {found.shape[1]}.")
        if not torch.isfinite(found).all():
            raise DataFormatError(f"{path}: the network gives NaN or infinity for these pictures.")
        return found[: len(x)].flatten(1).double()

    @torch.no_grad()
    def extract(x: Tensor) -> np.ndarray:
        domain.check(x)
        return torch.cat([run(part) for part in x.split(batch)]).numpy()

    return extract
