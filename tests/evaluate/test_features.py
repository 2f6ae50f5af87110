from pathlib import Path

import numpy as np
import pytest
import torch

from genus.data import open_source
from genus.data.source import Source, TensorSplit
from genus.evaluate.classifier import Classifier
from genus.evaluate.features import features_of
from genus.kinds import Grid, Label, Points, Vectors
from genus.prob import noise


def stripes(seed: int = 0, size: tuple[int, ...] = (8, 8)) -> Source:
    """Two classes of noisy pictures: bright at the low or at the high end of the last axis."""

    def split(part: str, count: int) -> TensorSplit:
        generator = noise.stream("stripes", seed, part)
        label = noise.integers(2, (count,), generator)
        x = noise.integers(3, (count, 1, *size), generator)
        half = size[-1] // 2
        x[label == 0, ..., :half] += 2
        x[label == 1, ..., half:] += 2
        return TensorSplit(x.to(torch.uint8), label)

    return Source(
        f"stripes-{seed}",
        Grid(1, size, 5),
        split("train", 400),
        split("validation", 50),
        split("test", 100),
        condition=Label(("low", "high")),
    )


def test_classifier_features_are_cached_named_and_deterministic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENUS_CACHE", str(tmp_path))
    monkeypatch.setattr("genus.evaluate.classifier.STEPS", (60, 60))
    source = stripes()
    trained = features_of(source)
    assert trained.name.startswith("genus-classifier/stripes-0 sha256:") and trained.name.endswith(", 64-d")
    assert "fid" not in trained.name.lower()
    assert trained.protocol["test accuracy"] > 0.95
    (file,) = (tmp_path / "features").iterdir()
    written = file.stat().st_mtime_ns
    x = source.test.batch(torch.arange(20)).x
    read = features_of(source)
    assert read.name == trained.name and file.stat().st_mtime_ns == written  # read, not trained again
    assert np.array_equal(read.extract(x), trained.extract(x))
    assert trained.extract(x).shape == (20, 64) and trained.extract(x).dtype == np.float64
    spread = trained.extract(source.train.batch(torch.arange(400)).x).var(0, ddof=1).mean()
    assert spread == pytest.approx(1, rel=1e-3)
    file.write_bytes(file.read_bytes()[:100])  # a damaged cache is not believed
    assert features_of(source).name == trained.name
    features_of(stripes(1))
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_no_global_random_numbers_are_drawn() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    classifier = Classifier(Grid(3, (9, 12), 256), 4, noise.stream("c"))
    assert torch.equal(torch.get_rng_state(), before)
    assert classifier(torch.zeros(2, 3, 9, 12, dtype=torch.uint8)).shape == (2, 4)


@pytest.mark.parametrize("size", [(16,), (6, 6, 6)])
def test_classifier_reads_lines_and_volumes(size: tuple[int, ...]) -> None:
    classifier = Classifier(Grid(1, size, 2), 3, noise.stream("c"))
    assert classifier.features(torch.ones(2, 1, *size, dtype=torch.uint8)).shape == (2, 64)


def unlabelled(x: torch.Tensor, domain: Vectors | Grid) -> Source:
    return Source("plain", domain, *(TensorSplit(part) for part in (x[:-20], x[-20:-10], x[-10:])))


def test_principal_components_of_a_table_are_standardised() -> None:
    x = noise.normal((3020, 3), noise.stream("x")) @ torch.tensor([[1.0, 0, 0], [0, 1, 0.9], [0, 0, 0.3]])
    source = unlabelled(x * torch.tensor([1.0, 1e3, 1e-3]), Vectors(3))
    space = features_of(source)
    assert space.name.startswith("pca-3/plain sha256:")
    y = space.extract(source.train.batch(torch.arange(3000)).x)
    covariance = np.cov(y, rowvar=False)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.02  # decorrelated
    assert np.trace(covariance) == pytest.approx(3, rel=0.01)  # a rotation of standardised features
    assert features_of(source).name == space.name


def test_principal_components_by_either_matrix_agree() -> None:
    x = noise.integers(9, (60, 1, 6, 6), noise.stream("x")).to(torch.uint8)
    few, many = unlabelled(x, Grid(1, (6, 6), 9)), unlabelled(x.repeat(3, 1, 1, 1)[:140], Grid(1, (6, 6), 9))
    for source in (few, many):  # 40 rows and 120 rows of 36 entries
        rows = source.train.batch(torch.arange(len(source.train))).x.flatten(1).double()
        centred = (rows - rows.mean(0)) / (rows - rows.mean(0)).square().mean().sqrt()
        singular = torch.linalg.svdvals(centred)[:32]
        y = features_of(source).extract(source.train.batch(torch.arange(len(rows))).x)
        assert np.allclose(np.linalg.norm(y, axis=0)[: len(singular)], singular.numpy(), atol=1e-6)


def test_digits_are_told_apart_and_clouds_are_refused() -> None:
    assert features_of(open_source("digits")).protocol["test accuracy"] > 0.95
    cloud = TensorSplit(torch.zeros(2, 5, 3))
    with pytest.raises(ValueError, match="shapes"):
        features_of(Source("c", Points(5), cloud, cloud, cloud))
