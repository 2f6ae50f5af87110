import gzip

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from genus.data import DataOptions, open_source
from genus.errors import DataFormatError, SettingsError
from genus.kinds import Grid, Label, Points, Vectors

RNG = np.random.default_rng(0)


def pictures(folder, count=12, size=(20, 14), mode="RGB", ending="png", classes=()):
    for k in range(count):
        place = folder / classes[k % len(classes)] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
        array = RNG.integers(0, 256, (size[1], size[0], channels), dtype=np.uint8).squeeze()
        Image.fromarray(array, mode).save(place / f"{k}.{ending}")


def everything(source):
    return torch.cat([split.x for split in source.splits.values()])


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_folder_of_pictures(tmp_path, ending):
    pictures(tmp_path / "photos", ending=ending, classes=("cat", "dog"))
    source = open_source(str(tmp_path / "photos"))
    assert source.name == "photos"
    assert source.domain == Grid(3, (14, 14))
    assert source.condition == Label(("cat", "dog"))
    assert [len(split) for split in source.splits.values()] == [10, 1, 1]
    assert source.fingerprint == open_source(str(tmp_path / "photos")).fingerprint


def test_pictures_keep_their_pixels_and_labels(tmp_path):
    for k in range(10):
        folder = tmp_path / ("even" if k % 2 == 0 else "odd")
        folder.mkdir(exist_ok=True)
        Image.new("L", (9, 9), 20 * k).save(folder / f"{k}.png")
    source = open_source(str(tmp_path))
    assert source.domain == Grid(1, (9, 9))
    assert everything(source).amax((1, 2, 3)).sort().values.tolist() == [20 * k for k in range(10)]
    for split in source.splits.values():
        assert torch.equal(split.x[:, 0, 4, 4].long() // 20 % 2, split.condition)


def test_pictures_are_resized_and_turned_grey_when_asked(tmp_path):
    pictures(tmp_path / "p")
    source = open_source(str(tmp_path / "p"), DataOptions(size=8, colour="grey"))
    assert source.domain == Grid(1, (8, 8))
    assert source.name == "p (8x8, in grey)"


def test_a_large_picture_is_shown_at_64_and_transparency_lies_on_white(tmp_path):
    for k in range(3):
        Image.new("RGBA", (100, 90), (255, 0, 0, 255 if k else 0)).save(tmp_path / f"{k}.png")
    source = open_source(str(tmp_path))
    assert source.domain == Grid(3, (64, 64))
    corners = sorted(everything(source)[:, :, 0, 0].tolist())
    assert corners == [[255, 0, 0], [255, 0, 0], [255, 255, 255]]


def test_given_splits_are_obeyed(tmp_path):
    for part, shade in (("train", 10), ("val", 20), ("test", 30)):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            for k in range(2):
                Image.new("L", (4, 4), shade).save(tmp_path / part / label / f"{k}.png")
    source = open_source(str(tmp_path))
    assert [split.x.unique().tolist() for split in source.splits.values()] == [[10], [20], [30]]
    assert source.condition == Label(("a", "b"))
    (tmp_path / "test").rename(tmp_path / "elsewhere")
    with pytest.raises(DataFormatError, match="folder train but none called test"):
        open_source(str(tmp_path))


def test_the_split_of_a_file_follows_its_name_not_its_place(tmp_path):
    for folder in ("one", "two"):
        pictures(tmp_path / folder, count=30)
    split = [open_source(str(tmp_path / folder)).test for folder in ("one", "two")]
    for s, folder in zip(split, ("one", "two"), strict=True):
        names = [
            k
            for k in range(30)
            if any(np.array_equal(_square(tmp_path / folder / f"{k}.png"), x.permute(1, 2, 0)) for x in s.x)
        ]
        assert len(names) == 3
        split[split.index(s)] = names
    assert split[0] == split[1]


def _square(path):
    return np.asarray(Image.open(path))[:, 3:17]


def test_arrays_of_pictures_in_every_layout(tmp_path):
    array = RNG.integers(0, 256, (20, 7, 9, 3), dtype=np.uint8)
    for name, content, domain in (
        ("last", array, Grid(3, (7, 9))),
        ("first", array.transpose(0, 3, 1, 2), Grid(3, (7, 9))),
        ("grey", array[..., 0], Grid(1, (7, 9))),
        ("fortran", np.asfortranarray(array), Grid(3, (7, 9))),
        ("binary", (array[..., 0] > 99), Grid(1, (7, 9), 2)),
        ("voxels", RNG.integers(0, 2, (20, 4, 5, 6), dtype=np.uint8), Grid(1, (4, 5, 6), 2)),
    ):
        np.save(tmp_path / f"{name}.npy", content)
        source = open_source(str(tmp_path / f"{name}.npy"))
        assert source.domain == domain
        assert [len(split) for split in source.splits.values()] == [16, 2, 2]
        assert everything(source).long().sum() == content.astype(np.int64).sum()
    last, first = (everything(open_source(str(tmp_path / f"{n}.npy"))) for n in ("last", "first"))
    assert torch.equal(last, first)
    assert torch.equal(last, everything(open_source(str(tmp_path / "fortran.npy"))))


def test_arrays_of_vectors_and_clouds(tmp_path):
    np.save(tmp_path / "v.npy", RNG.normal(size=(30, 4)))
    assert open_source(str(tmp_path / "v.npy")).domain == Vectors(4)
    np.save(tmp_path / "c.npy", RNG.normal(size=(30, 50, 3)).astype(np.float32))
    assert open_source(str(tmp_path / "c.npy")).domain == Points(50, 3)


def test_npz_with_labels_and_with_splits(tmp_path):
    x, y = RNG.normal(size=(30, 2)), np.arange(30) % 3 * 10
    np.savez(tmp_path / "xy.npz", x=x, y=y)
    source = open_source(str(tmp_path / "xy.npz"))
    assert source.condition == Label(("0", "10", "20"))
    np.savez_compressed(tmp_path / "s.npz", train=x[:20], val=x[20:25], test=x[25:], train_y=y[:20], val_y=y[20:25],
                        test_y=y[25:])  # fmt: skip
    source = open_source(str(tmp_path / "s.npz"))
    assert torch.equal(source.validation.x, torch.from_numpy(x[20:25]).float())
    assert torch.equal(source.test.condition, torch.from_numpy(y[25:]) // 10)


def test_idx_with_its_labels(tmp_path):
    images = RNG.integers(0, 256, (15, 5, 6), dtype=np.uint8)
    head = b"\0\0\x08\x03" + np.array(images.shape, ">u4").tobytes()
    (tmp_path / "my-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + images.tobytes()))
    labels = b"\0\0\x08\x01" + np.array([15], ">u4").tobytes() + bytes(range(15))
    (tmp_path / "my-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    source = open_source(str(tmp_path / "my-images-idx3-ubyte.gz"))
    assert source.domain == Grid(1, (5, 6))
    for split in source.splits.values():
        assert torch.equal(split.x[:, 0], torch.from_numpy(images)[split.condition])


def test_tables_with_and_without_header(tmp_path):
    rows = RNG.normal(size=(20, 3))
    plain = "\n".join(",".join(f"{v:.6f}" for v in row) for row in rows)
    (tmp_path / "plain.csv").write_text(plain)
    source = open_source(str(tmp_path / "plain.csv"))
    assert source.domain == Vectors(3, ("column 1", "column 2", "column 3"))
    assert torch.allclose(everything(source).sort(0).values, torch.from_numpy(np.sort(rows, 0)).float(), atol=1e-5)
    kinds = ["red", "green"] * 10
    text = "a;b;c;kind\n" + "\n".join(f"{line.replace(',', ';')};{k}" for line, k in zip(plain.split("\n"), kinds))  # noqa: B905
    with gzip.open(tmp_path / "named.csv.gz", "wt") as file:
        file.write(text)
    source = open_source(str(tmp_path / "named.csv.gz"), DataOptions(label="kind"))
    assert source.domain == Vectors(3, ("a", "b", "c"))
    assert source.condition == Label(("green", "red"))
    with pytest.raises(DataFormatError, match=r"row 2, column 'kind': expected a finite number; got 'red'.*'label'"):
        open_source(str(tmp_path / "named.csv.gz"))
    with pytest.raises(SettingsError, match="no column 'colour'"):
        open_source(str(tmp_path / "named.csv.gz"), DataOptions(label="colour"))


@pytest.mark.parametrize("ending", ["obj", "ply", "stl", "off", "glb"])
def test_a_folder_of_meshes(tmp_path, ending):
    for k in range(4):
        box = trimesh.creation.box((1, 2, 3 + k))
        box.apply_translation((5, 0, 0))
        box.export(tmp_path / f"{k}.{ending}")
    source = open_source(str(tmp_path), DataOptions(points=64))
    assert source.domain == Points(64, 3)
    assert source.train.x.norm(dim=-1).max() <= 1 + 1e-5
    split = source.train
    back = split.x * split.attributes["scale"][:, None, None] + split.attributes["centre"][:, None]
    on_a_side = (((back - torch.tensor([5.0, 0, 0])).abs()[..., :2] - torch.tensor([0.5, 1])).abs() < 1e-4).any(-1)
    assert on_a_side.float().mean() > 0.5
    assert torch.allclose(split.attributes["centre"][:, 0], torch.tensor(5.0))
    assert "unit_sphere" in source.notes


def test_a_scene_of_two_parts_is_baked(tmp_path):
    scene = trimesh.Scene()
    for side in (-1, 1):
        matrix = trimesh.transformations.translation_matrix((10 * side, 0, 0))
        scene.add_geometry(trimesh.creation.box(), transform=matrix)
    for k in range(3):
        scene.export(tmp_path / f"{k}.glb")
    source = open_source(str(tmp_path), DataOptions(points=200))
    assert source.train.x[..., 0].max() > 0.9
    assert source.train.x[..., 0].min() < -0.9


def test_folders_of_clouds(tmp_path):
    for kind in ("xyz", "npy", "ply"):
        folder = tmp_path / kind
        folder.mkdir()
        for k in range(5):
            points = RNG.normal(size=(30 + k, 3))
            if kind == "xyz":
                (folder / f"{k}.xyz").write_text("\n".join(" ".join(map(str, p)) + " 0 0 1" for p in points))
            elif kind == "npy":
                np.save(folder / f"{k}.npy", points)
            else:
                trimesh.PointCloud(points).export(folder / f"{k}.ply")
        source = open_source(str(folder))
        assert source.domain == Points(30, 3)
        assert torch.allclose(everything(source).norm(dim=-1).amax(1), torch.ones(5), atol=0.25)
        with pytest.raises(DataFormatError, match="at least 40 points"):
            open_source(str(folder), DataOptions(points=40))
