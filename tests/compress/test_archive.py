"""Runs and files: the promise over processes and threads, and every way to be refused."""

import math
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import genus
from genus.cli.__main__ import main
from genus.compress import archive, coder, compress, decompress
from genus.compress.archive import codable, identity
from genus.compress.container import CHECKSUM, FRONT, Archive, pack, unpack
from genus.compress.items import read_items, write_items
from genus.compress.rivals import rivals
from genus.errors import CapabilityError, CheckpointError, DataFormatError, GenusError, SettingsError
from genus.kinds import Grid, Vectors
from genus.models.latent.vae import VAE
from genus.prob import noise
from genus.runs import Run


def trained(folder: Path, model: str, *arguments: str) -> Run:
    command = ["train", model, "--data", "digits", "--limit", "200", "--quiet", "--out", str(folder), *arguments]
    assert main(command) == 0
    return Run(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def nade(folder: Path) -> Run:
    return trained(folder / "nade", "nade", "--steps", "20", "--hidden", "64")


@pytest.fixture(scope="module")
def markov(folder: Path) -> Run:
    return trained(folder / "markov", "markov")


@pytest.fixture(scope="module")
def labelled(folder: Path) -> Run:
    return trained(folder / "labelled", "nade", "--steps", "5", "--hidden", "16", "--conditional")


@pytest.fixture(scope="module")
def vae(folder: Path) -> Run:
    return trained(folder / "vae", "vae", "--steps", "60", "--hidden", "32", "--latent-features", "4")


def digits(count: int, run: Run) -> Tensor:
    return run.source.test.x[:count]


def decoded_elsewhere(run: Run, file: Path, threads: int) -> None:
    """Let another process decode a file, with its number of threads, beside it."""
    program = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[3]))\n"
        "torch.randn(700, 700) @ torch.randn(700, 700)\n"  # the pool of threads is awake
        "from genus.cli.__main__ import main; sys.exit(main(['decompress', *sys.argv[1:3]]))"
    )
    command = [sys.executable, "-c", program, str(run.path), str(file), str(threads)]
    source = str(Path(genus.__file__).parents[1])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("threads", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
def test_another_process_and_other_threads_give_the_same_bytes(nade: Run, tmp_path: Path, threads: int) -> None:
    """One process writes with this number of threads and a block of its own, another reads."""
    x, block = digits(150, nade), {1: 128, 2: 7, 4: 150}[threads]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        (tmp_path / "file.gnsz").write_bytes(compress(nade, x, block=block))
    finally:
        torch.set_num_threads(before)
    decoded_elsewhere(nade, tmp_path / "file.gnsz", 5 - threads)
    write_items(tmp_path / "expected.npy", x, None)
    assert (tmp_path / "file.gnsz.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


@pytest.mark.parametrize("threads", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_bits_back_in_another_process_and_other_threads(vae: Run, tmp_path: Path, threads: int) -> None:
    x, before = digits(90, vae), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        (tmp_path / "file.gnsz").write_bytes(compress(vae, x, block={1: 16, 2: 7}[threads]))
    finally:
        torch.set_num_threads(before)
    decoded_elsewhere(vae, tmp_path / "file.gnsz", 4 - threads)
    assert np.array_equal(np.load(tmp_path / "file.gnsz.npy", allow_pickle=False), x.numpy())


def test_labels_come_along_with_bits_back(folder: Path) -> None:
    run = trained(folder / "labelled-vae", "vae", "--steps", "5", "--hidden", "16", "--conditional")
    x, labels = digits(30, run), run.source.test.condition[:30]
    back, back_labels = decompress(run, compress(run, x, labels))
    assert torch.equal(back, x) and torch.equal(back_labels, labels)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--binarize", "threshold"), ("--conditional",)], ids=lambda a: " ".join(a))
def test_the_net_rate_of_a_trained_vae_is_within_2_percent_of_the_bound(folder: Path, arguments: tuple[str]) -> None:
    path = folder / f"long{len(arguments)}{arguments[:1]}"
    command = ["train", "vae", "--data", "digits", "--steps", "1500", "--quiet", "--out", str(path), *arguments]
    assert main(command) == 0
    run = Run(path)
    x, labels, _ = run.source.test.batch(torch.arange(len(run.source.test)))
    labels = None if run.condition is None else labels
    content = compress(run, x, labels)
    draws = run.model.log_weights(x, 32, condition=labels, generator=noise.stream("elbo"))
    elbo = -float(draws.mean(0).sum()) / math.log(2) + (0 if labels is None else len(x) * math.log2(10))
    file = unpack(content, "the file")
    assert abs((8 * len(file.payload) - 32 * (file.header.initial or 0)) / elbo - 1) < 0.02
    assert torch.equal(decompress(run, content)[0], x)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gated_pixelcnn", "pixelcnn", "made", "conv_nade"])
def test_pictures_of_a_network_come_back_in_another_process(folder: Path, tmp_path: Path, model: str) -> None:
    """As short as log_prob says; written on two threads in blocks of 40, read on three."""
    run = trained(folder / model, model, "--steps", "10")
    x, before, file = digits(100, run), torch.get_num_threads(), tmp_path / "file.gnsz"
    try:
        torch.set_num_threads(2)
        file.write_bytes(compress(run, x, block=40))
    finally:
        torch.set_num_threads(before)
    with torch.no_grad():
        ideal = -float(run.model.log_prob(x).double().sum()) / math.log(2) / 8
    assert abs(file.stat().st_size - ideal) <= 0.005 * ideal + 64
    decoded_elsewhere(run, file, 3)
    assert np.array_equal(np.load(tmp_path / "file.gnsz.npy", allow_pickle=False), x.numpy())


def test_a_masked_network_compresses(folder: Path) -> None:
    run = trained(folder / "masked", "gated_pixelcnn", "--steps", "3", "--features", "8", "--dilations", "1", "2")
    x, before = digits(30, run), torch.get_num_threads()
    content = compress(run, x, block=13)
    try:
        torch.set_num_threads(3)
        assert torch.equal(decompress(Run(run.path), content)[0], x)
    finally:
        torch.set_num_threads(before)
    with torch.no_grad():
        ideal = -float(run.model.log_prob(x).double().sum()) / math.log(2) / 8
    assert abs(len(content) - ideal) <= 0.005 * ideal + 64


def test_a_mixture_over_orderings_is_refused_in_one_sentence(folder: Path) -> None:
    run = trained(folder / "mixture", "made", "--steps", "2", "--hidden", "8", "--orderings", "2")
    with pytest.raises(CapabilityError, match=r"made with orderings=2 has no chain rule .* --orderings 1"):
        compress(run, digits(3, run))


def test_the_same_data_give_the_same_file_whatever_the_threads(nade: Run) -> None:
    x, before, files = digits(40, nade), torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            files.add(compress(Run(nade.path), x, block=16))
    finally:
        torch.set_num_threads(before)
    assert len(files) == 1


def test_labels_come_along(labelled: Run) -> None:
    x, labels = digits(30, labelled), labelled.source.test.condition[:30]
    back, back_labels = decompress(labelled, compress(labelled, x, labels, block=8))
    assert torch.equal(back, x) and torch.equal(back_labels, labels)
    with pytest.raises(ValueError, match="give one for each of 30"):
        compress(labelled, x)
    with pytest.raises(ValueError, match="labels"):
        compress(labelled, x, labels + 10)


def test_the_wrong_run_is_refused(nade: Run, markov: Run, folder: Path) -> None:
    content = compress(markov, digits(5, markov))
    again = trained(folder / "again", "markov")
    assert torch.equal(decompress(again, content)[0], digits(5, markov))  # the same model, trained again
    for name, other in {
        "nade": nade,
        "smoothed": trained(folder / "smoothed", "markov", "--smoothing", "0.06"),  # the same weights
        "fewer": trained(folder / "fewer", "markov", "--limit", "100"),
    }.items():
        with pytest.raises(CheckpointError, match="another model"):
            decompress(other, content)
        assert identity(other) != identity(markov), name
    binary = trained(folder / "binary", "markov", "--binarize", "threshold")
    with pytest.raises(CheckpointError, match=r"17 levels; .* is a model of grid 1x8x8, 2 levels"):
        decompress(binary, content)


def test_another_environment_is_told_and_tried(nade: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    x = digits(20, nade)
    content = compress(nade, x)
    monkeypatch.setattr(archive, "environment", lambda: {"genus": genus.__version__, "torch": "9.9", "cpu": "abacus"})
    with pytest.warns(UserWarning, match=r"torch .* there, 9\.9 here, cpu .* there, abacus here"):
        assert torch.equal(decompress(nade, content)[0], x)
    rule = coder.frequencies
    monkeypatch.setattr(coder, "frequencies", lambda logits: rule(logits * (1 + 1e-5)))  # it computes otherwise
    with pytest.warns(UserWarning), pytest.raises(DataFormatError, match="decode it where it was made"):
        decompress(nade, content)


@pytest.mark.parametrize("coding", ["range coder", "bits back"])
def test_a_flip_in_any_region_never_gives_other_data(markov: Run, vae: Run, coding: str) -> None:
    """With the checksum made to fit again: what it would have caught is caught further in, or harmless."""
    run = markov if coding == "range coder" else vae
    x = digits(3, run)
    content = compress(run, x)[: -CHECKSUM.size]
    length = FRONT.unpack_from(content)[-1]
    front, header = FRONT.size, FRONT.size + length
    refused = {"front": 0, "header": 0, "payload": 0}
    for place in range(8 * len(content)):
        if place // 8 >= header and place % 5:
            continue  # every fifth bit of the payload will do
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        region = "front" if place // 8 < front else "header" if place // 8 < header else "payload"
        with torch.inference_mode(), np.errstate(all="raise"):
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("warnings.warn", lambda *_, **__: None)  # a flip may name another environment
                    back, _ = decompress(run, bytes(flipped) + CHECKSUM.pack(zlib.crc32(flipped)))
            except GenusError as error:
                assert len(str(error)) < 600
                refused[region] += 1
            else:
                assert torch.equal(back, x)
    assert refused["front"] == 8 * front and refused["header"] > 4 * length
    assert refused["payload"] > 0


def test_who_cannot_compress_is_told_why() -> None:
    with pytest.raises(CapabilityError, match=r"vae cannot compress: its decoder gives no probabilities"):
        codable(VAE(Grid(1, (4, 4)), decoder="grey_bce"))
    with pytest.raises(CapabilityError, match="does not sign HasConditionals"):
        codable(genus.registry.get("realnvp").tiny(Vectors(2)))


def test_a_payload_of_the_other_kind_is_refused(nade: Run, vae: Run) -> None:
    for run, other in ((nade, vae), (vae, nade)):
        theirs, own = (unpack(compress(r, digits(5, r)), "f") for r in (other, run))
        forged = Archive(
            own.model, own.data, own.header.model_copy(update={"initial": theirs.header.initial}), bytes(64)
        )
        with pytest.raises(DataFormatError, match="codes in another way"):
            decompress(run, pack(forged))


def test_what_compress_refuses(nade: Run) -> None:
    x = digits(3, nade)
    for wrong, block, sentence in (
        (x[:0], 1, "at least one"), (x[:, :, :4], 1, "expected shape"), (x + 20, 1, "expected values"),
        (x, 0, r"block: expected 1\.\.4096"), (x, 5000, r"block: expected 1\.\.4096"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            compress(nade, wrong, block=block)
    with pytest.raises(ValueError, match="without labels"):
        compress(nade, x, torch.zeros(3, dtype=torch.int64))
    assert issubclass(SettingsError, ValueError)


# -- the user's own data --------------------------------------------------------------------

GREY, COLOUR = Grid(1, (4, 4)), Grid(3, (4, 4))


def grid_of(domain: Grid, count: int = 5) -> Tensor:
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream("items")).to(torch.uint8)


def test_arrays_are_read_in_their_order(tmp_path: Path) -> None:
    x = grid_of(COLOUR)
    for name, array in {
        "cf": x.numpy(),
        "cl": x.permute(0, 2, 3, 1).numpy(),
        "wide": x.numpy().astype(np.int32),
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
        assert torch.equal(read_items(tmp_path / f"{name}.npy", COLOUR)[0], x)
    np.save(tmp_path / "grey.npy", x[:, 0].numpy())
    assert torch.equal(read_items(tmp_path / "grey.npy", GREY)[0], x[:, :1])
    np.savez(tmp_path / "both.npz", x=x.numpy(), y=np.arange(5))
    back, labels = read_items(tmp_path / "both.npz", COLOUR)
    assert torch.equal(back, x) and torch.equal(labels, torch.arange(5))
    idx = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (5, 4, 4)) + x[:, 0].contiguous().numpy().tobytes()
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx)
    assert torch.equal(read_items(tmp_path / "t10k-images-idx3-ubyte", GREY)[0], x[:, :1])


def test_pictures_are_read_as_they_are_or_refused(tmp_path: Path) -> None:
    x = grid_of(COLOUR)
    for number, picture in enumerate(x.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    assert torch.equal(read_items(tmp_path, COLOUR)[0], x)
    for domain, sentence in {
        GREY: "in colour", Grid(3, (5, 5)): "4 x 4 pixels", Grid(3, (4, 4), 17): "256 levels",
        Grid(3, (4, 5)): "squares", Grid(3, (4, 4), 2): "black and white",
    }.items():  # fmt: skip
        with pytest.raises(DataFormatError, match=sentence):
            read_items(tmp_path, domain)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((2, 5, 5), np.uint8), "the run models grid 1x4x4"),
        (np.zeros((2, 4, 4)), "got float64"),
        (np.full((2, 4, 4), 300), r"0\.\.255 .* got 300\.\.300"),
        (np.full((2, 4, 4), -1), r"got -1\.\.-1"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, sentence: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataFormatError, match=sentence):
        read_items(tmp_path / "x.npy", GREY)


def test_rivals_are_given_their_best_case() -> None:
    two = Grid(1, (16, 16), 2)
    x = grid_of(two, 64)
    found = rivals(x, two)
    assert found["raw, 1 bit an entry"] == 64 * 32
    assert found["PNG, one sheet"] < found["PNG, a file each"]
    assert 64 * 32 < found["PNG, one sheet"] < 64 * 32 + 200  # a bit a pixel: noise cannot be made smaller
    assert found["xz -9"] < 64 * 32 + 200
    assert {name.split(",")[0] for name in rivals(grid_of(Grid(1, (4,))), Grid(1, (4,)))} == {"raw", "xz -9"}
    assert rivals(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), Grid(3, (8, 8)))["WebP lossless, one sheet"] < 100
