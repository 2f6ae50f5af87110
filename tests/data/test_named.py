import hashlib
import http.server
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from genus.data import DataOptions, files, list_sources, mnist, open_source
from genus.data.files import RemoteFile, locate
from genus.errors import DataFormatError, SettingsError, UnknownSourceError
from genus.kinds import Grid, Points, Vectors

HOME = Path(os.environ.get("GENUS_DATA", "/nonexistent"))


def needs(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (HOME / folder).is_dir(), reason=f"needs $GENUS_DATA/{folder}")


def test_an_unknown_name_lists_the_names_and_the_nearest():
    with pytest.raises(UnknownSourceError, match=r"fashion-mnist.*Did you mean 'mnist'\?"):
        open_source("mnits")


def test_the_listing_is_complete():
    listed = {entry.name: entry for entry in list_sources()}
    assert {"digits", "glyphs", "furniture", "moons", "mnist", "fashion-mnist", "binarized-mnist"} <= set(listed)
    assert all(entry.summary and entry.licence and entry.domain for entry in listed.values())
    for name in ("digits", "moons", "8gaussians"):
        assert str(open_source(name).domain) == listed[name].domain


def test_digits_are_split_as_in_the_book():
    source = open_source("digits")
    assert [len(split) for split in source.splits.values()] == [1000, 350, 447]
    assert source.domain == Grid(1, (8, 8), 17)
    together = torch.cat([split.x for split in source.splits.values()])
    from sklearn.datasets import load_digits

    original = torch.from_numpy(load_digits().images).to(torch.uint8).flatten(1)
    assert torch.equal(together.flatten(1).unique(dim=0), original.unique(dim=0))
    assert (source.train.condition.bincount() > 80).all()


@pytest.mark.parametrize("name", ["moons", "swissroll", "8gaussians", "checkerboard"])
def test_toys(name):
    source = open_source(name)
    assert source.domain == Vectors(2, ("x", "y"))
    assert [len(split) for split in source.splits.values()] == [50_000, 10_000, 10_000]
    assert source.fingerprint == open_source(name).fingerprint
    assert not torch.equal(source.validation.x, source.test.x)
    source.domain.check(source.train.x)


def test_the_checkerboard_fills_its_squares_evenly():
    x = open_source("checkerboard").train.x
    cell = (x / 2 + 2).floor().long()
    assert ((cell.sum(1) % 2) == 0).all()
    counts = (cell[:, 0] * 4 + cell[:, 1]).bincount(minlength=16)
    chi2 = ((counts[counts > 0] - 6250.0) ** 2 / 6250).sum()
    assert (counts > 0).sum() == 8
    assert chi2 < 24.3  # 0.999 quantile of chi-squared with 7 degrees of freedom


def test_the_eight_gaussians_are_where_their_labels_say():
    source = open_source("8gaussians")
    x, y = source.train.x, source.train.condition
    for k in range(8):
        angle = torch.tensor(k * torch.pi / 4)
        centre = 4 / 2**0.5 * torch.stack([angle.cos(), angle.sin()])
        part = x[y == k]
        standard_error = 0.5 / 2**0.5 / len(part) ** 0.5
        assert ((part.mean(0) - centre).abs() < 4.5 * standard_error).all()


def test_glyphs_know_their_causes_and_do_not_repeat():
    source = open_source("glyphs", DataOptions(limit=400))
    assert source.domain == Grid(1, (28, 28))
    pictures = torch.cat([split.x for split in source.splits.values()]).flatten(1)
    assert len(pictures.unique(dim=0)) == 1200
    attributes = source.train.attributes
    assert set(attributes) == {"family", "weight", "slant", "rotation", "scale"} == set(source.attributes)
    ink = source.train.x.float().mean((1, 2, 3)) / attributes["scale"] ** 2
    bold = attributes["weight"] == 1
    assert ink[bold].mean() > 1.15 * ink[~bold].mean()
    assert source.train.condition.unique().tolist() == list(range(26))


def test_glyph_i_is_a_function_of_i_at_any_size_and_in_colour():
    few, more = (open_source("glyphs", DataOptions(limit=k)) for k in (20, 60))
    assert torch.equal(few.train.x, more.train.x[:20])
    coloured = open_source("glyphs", DataOptions(limit=60, colour="rgb", size=40))
    assert coloured.domain == Grid(3, (40, 40))
    assert coloured.name == "glyphs (40x40, in colour, first 60 of each split)"
    assert torch.equal(coloured.train.condition, more.train.condition)
    red = coloured.train.attributes["colour"] == coloured.attributes["colour"].index("red")
    brightest = coloured.train.x[red].flatten(2).amax(2)
    assert (brightest[:, 0] > brightest[:, 2]).all()


def test_furniture_are_clouds_in_the_unit_sphere():
    source = open_source("furniture", DataOptions(limit=12, points=100))
    assert source.domain == Points(100, 3)
    assert source.name == "furniture (100 points, first 12 of each split)"
    assert source.condition.names == ("chair", "table", "lamp", "shelf")
    assert source.train.x.norm(dim=-1).max() <= 1 + 1e-6
    assert torch.equal(source.train.x, open_source("furniture", DataOptions(limit=12, points=100)).train.x)
    assert not torch.equal(source.train.x, source.test.x)


@needs("mnist")
def test_mnist_is_mnist():
    source = open_source("mnist", DataOptions(holdout=0))
    x = source.train.x.double() / 255
    assert round(x.mean().item(), 4) == 0.1307
    assert round(x.std().item(), 4) == 0.3081
    assert [len(split) for split in source.splits.values()] == [60_000, 0, 10_000]
    assert source.name == "mnist (60000 for training)"
    usual = open_source("mnist")
    assert [len(split) for split in usual.splits.values()] == [50_000, 10_000, 10_000]
    assert torch.equal(usual.validation.x, source.train.x[50_000:])
    with pytest.raises(SettingsError, match="holdout must leave"):
        open_source("mnist", DataOptions(holdout=60_000))


@needs("fashion-mnist")
def test_fashion_mnist():
    source = open_source("fashion-mnist", DataOptions(holdout=0))
    assert source.train.condition.bincount().tolist() == [6000] * 10
    assert round((source.train.x.double() / 255).mean().item(), 3) == 0.286


@needs("binarized_mnist")
def test_binarized_mnist():
    source = open_source("binarized-mnist")
    assert [len(split) for split in source.splits.values()] == [50_000, 10_000, 10_000]
    assert source.domain == Grid(1, (28, 28), 2)
    assert source.condition is None
    source.domain.check(source.test.x)
    assert 0.12 < source.train.x.float().mean() < 0.14
    with pytest.raises(SettingsError, match="binary already"):
        open_source("binarized-mnist", DataOptions(binarize="dynamic"))


def test_a_missing_file_says_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    with pytest.raises(DataFormatError, match=r"mnist: no file mnist/train-images.* in .*GENUS_DATA.*--download"):
        open_source("mnist")


@pytest.fixture
def server(tmp_path):
    """A web server on this machine for the folder it yields beside its address."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()
        thread.join()


def test_a_download_is_checked_and_moved_into_place(server, tmp_path, monkeypatch, capsys):
    folder, address = server
    monkeypatch.setenv("GENUS_DATA", str(tmp_path / "home"))
    (folder / "good").write_bytes(b"right bytes")
    (folder / "bad").write_bytes(b"wrong bytes")
    sha256 = hashlib.sha256(b"right bytes").hexdigest()
    file = RemoteFile("set/file", sha256, (address + "missing", address + "bad", address + "good"))
    with pytest.raises(DataFormatError, match="--download"):
        locate(file, "set", download=False)
    path = locate(file, "set", download=True)
    assert path.read_bytes() == b"right bytes"
    assert "fetching" in capsys.readouterr().err
    assert locate(file, "set", download=False) == path
    assert not list(path.parent.glob("*.part"))


def test_a_download_with_the_wrong_checksum_leaves_nothing(server, tmp_path):
    folder, address = server
    (folder / "bad").write_bytes(b"wrong bytes")
    with pytest.raises(DataFormatError, match=r"SHA-256 is [0-9a-f]{12}\.\.\., expected 0000"):
        files.fetch(RemoteFile("set/file", "0" * 64, (address + "bad",)), tmp_path / "home")
    assert not (tmp_path / "home/set/file").exists()
    assert not (tmp_path / "home/set/file.part").exists()


def test_an_mnist_file_of_another_shape_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    content = b"\0\0\x08\x03" + np.array([2, 28, 28], ">u4").tobytes() + bytes(2 * 784)
    for name in mnist.SHA256["mnist"]:
        (tmp_path / "mnist" / name).write_bytes(content)
    with pytest.raises(DataFormatError, match="expected bytes of shape"):
        open_source("mnist")


def test_importing_the_package_leaves_matplotlib_and_trimesh_alone_and_pyplot_is_never_needed():
    code = """
import genus.data, sys
print([m for m in ('matplotlib', 'trimesh', 'sklearn') if m in sys.modules])
genus.data.preview(genus.data.open_source("moons", genus.data.DataOptions(limit=9)))
print('matplotlib.pyplot' in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["[]", "False"]
