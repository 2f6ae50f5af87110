"""MNIST, Fashion-MNIST and Larochelle's binarized MNIST, from their own files in the data home."""

import lzma
from pathlib import Path

import numpy as np
import torch

from genus.data.files import RemoteFile, locate
from genus.data.idx import read_idx
from genus.data.source import DataOptions, Source, TensorSplit, annotate
from genus.errors import DataFormatError, SettingsError
from genus.kinds import Grid, Label

MIRRORS = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
}
SHA256 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        *("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
}
LICENCE = {"mnist": "CC BY-SA 3.0 (as usually quoted)", "fashion-mnist": "MIT"}
CITATION = {
    "mnist": "LeCun et al. (1998). Gradient-based learning applied to document recognition.",
    "fashion-mnist": "Xiao et al. (2017). Fashion-MNIST. https://arxiv.org/abs/1708.07747",
}
HOMEPAGE = {
    "mnist": "http://yann.lecun.com/exdb/mnist/",
    "fashion-mnist": "https://github.com/zalandoresearch/fashion-mnist",
}
HOLDOUT = 10_000  # the last training items, kept for validation


def open_mnist(name: str, options: DataOptions) -> Source:
    """50,000 / 10,000 / 10,000 pictures: validation is the end of the 60,000 for training."""
    files = {
        file: locate(
            RemoteFile(f"{name}/{file}", sha256, tuple(m + file for m in MIRRORS[name])), name, options.download
        )
        for file, sha256 in SHA256[name].items()
    }
    x, y = (torch.from_numpy(_read(files[f"train-{kind}-ubyte.gz"])) for kind in ("images-idx3", "labels-idx1"))
    test_x, test_y = (
        torch.from_numpy(_read(files[f"t10k-{kind}-ubyte.gz"])) for kind in ("images-idx3", "labels-idx1")
    )
    x, test_x, y, test_y = x.unsqueeze(1), test_x.unsqueeze(1), y.long(), test_y.long()
    holdout = HOLDOUT if options.holdout is None else options.holdout
    if holdout >= len(x):
        raise SettingsError(f"{name}: holdout must leave some of the {len(x)} training items; got {holdout}.")
    cut = len(x) - holdout
    return Source(
        name=name if holdout == HOLDOUT else annotate(name, f"{cut} for training"),
        domain=Grid(1, (28, 28)),
        condition=Label(CLASSES[name]),
        train=TensorSplit(x[:cut], y[:cut]),
        validation=TensorSplit(x[cut:], y[cut:]),
        test=TensorSplit(test_x, test_y),
        licence=LICENCE[name],
        citation=CITATION[name],
        homepage=HOMEPAGE[name],
    )


def _read(path: Path) -> np.ndarray:
    array = read_idx(path)
    count = 60_000 if path.name.startswith("train") else 10_000
    expected = (count, 28, 28) if "images" in path.name else (count,)
    if array.shape != expected or array.dtype != np.uint8 or (array.ndim == 1 and array.max() > 9):
        raise DataFormatError(f"{path}: expected bytes of shape {expected}; got {array.dtype} of shape {array.shape}.")
    return array


BINARIZED = {
    "train": (50_000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
    "valid": (10_000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
    "test": (10_000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
}
TORONTO = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"


def open_binarized_mnist(options: DataOptions) -> Source:
    """The one fixed draw on which likelihoods of binary MNIST are reported; it has no labels."""

    def split(part: str) -> TensorSplit:
        count, sha256 = BINARIZED[part]
        file = f"binarized_mnist_{part}.amat"
        path = f"binarized_mnist/{file}"
        remote = RemoteFile(path, sha256, (TORONTO + file,), packed=path + ".xz")
        return TensorSplit(torch.from_numpy(_read_amat(locate(remote, "binarized-mnist", options.download), count)))

    return Source(
        name="binarized-mnist",
        domain=Grid(1, (28, 28), 2),
        train=split("train"),
        validation=split("valid"),
        test=split("test"),
        licence="CC BY-SA 3.0 (as usually quoted for MNIST)",
        citation="Larochelle & Murray (2011). The neural autoregressive distribution estimator.",
        homepage=TORONTO,
    )


def _read_amat(path: Path, count: int) -> np.ndarray:
    """Lines of 784 characters 0 or 1, separated by blanks."""
    length = count * 2 * 784
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            content = file.read(length + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataFormatError(f"{path}: cannot be read ({error}).") from None
    if len(content) != length:
        raise DataFormatError(f"{path}: expected {length} bytes of text ({count} lines of 784 pixels).")
    x = np.frombuffer(content, np.uint8).reshape(count, 784, 2)[:, :, 0] - ord("0")
    if x.max() > 1:
        raise DataFormatError(f"{path}: expected nothing but 0 and 1 between blanks.")
    return x.reshape(count, 1, 28, 28)
