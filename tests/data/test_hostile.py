"""Files that are damaged, lie about their size or mean harm: one sentence, no crash, no great allocation."""

import gzip
import io
import json
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from genus.data import DataOptions, open_source
from genus.errors import DataFormatError, GenusError
from genus.prob import noise


def refused(path, pattern, **options):
    with pytest.raises(DataFormatError, match=pattern) as caught:
        open_source(str(path), DataOptions(**options))
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def three(folder, name, content):
    """A folder of two good files and one with ``content``."""
    folder.mkdir(exist_ok=True)
    good = good_file(name.rsplit(".", 1)[1])
    for k in range(2):
        (folder / f"good{k}.{name.rsplit('.', 1)[1]}").write_bytes(good)
    (folder / name).write_bytes(content)
    return folder / name


def good_file(kind):
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    if kind in ("png", "jpg", "webp"):
        array = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(array).save(out, {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[kind])
    elif kind in ("obj", "ply", "stl", "off", "glb"):
        content = trimesh.creation.icosphere(subdivisions=1).export(file_type=kind)
        out.write(content.encode() if isinstance(content, str) else content)
    elif kind == "npy":
        np.save(out, rng.normal(size=(20, 5)))
    elif kind == "npz":
        np.savez_compressed(out, x=rng.integers(0, 256, (20, 4, 4), dtype=np.uint8), y=np.arange(20) % 3)
    elif kind == "idx":
        out.write(b"\0\0\x08\x03" + struct.pack(">3I", 20, 4, 4) + rng.bytes(320))
    elif kind == "idx.gz":
        out.write(gzip.compress(good_file("idx")))
    elif kind == "csv":
        rows = "\n".join(",".join(f"{v:.3f}" for v in row) for row in rng.normal(size=(20, 3)))
        out.write(f"a,b,c\n{rows}\n".encode())
    elif kind == "xyz":
        out.write("\n".join(" ".join(f"{v:.3f}" for v in row) for row in rng.normal(size=(20, 3))).encode())
    return out.getvalue()


def mutated(content, seed):
    """Flip bits, write extreme bytes, cut, repeat or drop a stretch: a function of the seed."""
    dice = np.random.default_rng(seed)
    data = bytearray(content)
    for _ in range(int(dice.integers(1, 5))):
        place = int(dice.integers(0, min(len(data), 200) if dice.random() < 0.5 else len(data)))  # headers above all
        match int(dice.integers(0, 6)):
            case 0:
                data[place] ^= 1 << int(dice.integers(0, 8))
            case 1:
                data[place : place + 4] = b"\xff\xff\xff\xff"
            case 2:
                data[place : place + 4] = b"\0\0\0\x7f"
            case 3:
                del data[place : place + int(dice.integers(1, 30))]
            case 4:
                data[place:place] = data[place : place + int(dice.integers(1, 30))]
            case 5:
                data = data[: max(1, place)]
        data = data or bytearray(b"\0")
    return bytes(data)


PICTURES = ("png", "jpg", "webp")
IN_FOLDERS = (*PICTURES, "obj", "ply", "stl", "off", "glb", "xyz")
FORMATS = (*IN_FOLDERS, "npy", "npz", "idx", "idx.gz", "csv")


def opened(folder, kind, content):
    """A source of which ``content`` is the file, or one of the files."""
    if kind not in IN_FOLDERS:
        folder.mkdir(exist_ok=True)
        (folder / f"x.{kind}").write_bytes(content)
        return open_source(str(folder / f"x.{kind}"))
    three(folder, f"x.{kind}", content)
    return open_source(str(folder), DataOptions(points=None if kind in PICTURES else 16))


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_are_read_or_refused_in_one_sentence(kind, tmp_path):
    content = good_file(kind)
    opened(tmp_path / "f", kind, content)
    outcomes = []
    for seed in range(40):
        start = time.perf_counter()
        try:
            source = opened(tmp_path / "f", kind, mutated(content, seed))
            for split in source.splits.values():
                source.domain.check(split.batch(torch.arange(len(split)), noise.stream(0)).x)
            outcomes.append("read")
        except GenusError as error:
            assert "\n" not in str(error), str(error)
            assert len(str(error)) < 600
            outcomes.append("refused")
        assert time.perf_counter() - start < 5
    assert "refused" in outcomes


def png(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8001, 12_000, 30_000])
def test_a_picture_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    path = three(tmp_path / "f", "x.png", png(side, side))
    start = time.perf_counter()
    with pytest.raises(DataFormatError, match=r"x\.png: .*(64 million pixels|decompression bomb)"):
        open_source(str(path.parent))
    assert time.perf_counter() - start < 2


def test_other_picture_formats_are_not_even_tried(tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "TIFF")
    path = three(tmp_path / "f", "x.png", out.getvalue())
    with pytest.raises(DataFormatError, match=r"x\.png: not a readable PNG, JPEG or WebP"):
        open_source(str(path.parent))


def test_an_idx_header_that_lies(tmp_path):
    path = tmp_path / "x.idx"
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 20, 4, 5) + bytes(320))
    refused(path, r"declares \(20, 4, 5\), 400 bytes; the file holds 320")
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 20, 4, 3) + bytes(320))
    refused(path, "the file holds more")
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *[2**32 - 1] * 3) + bytes(320))
    refused(path, "declares .* more than")
    path.write_bytes(b"not an idx file")
    refused(path, "not an IDX file")


def test_a_gzip_bomb_is_not_inflated(tmp_path):
    path = tmp_path / "x.idx.gz"
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(300))
    head = gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 20, 4, 4))
    path.write_bytes(head + body + bomb.flush())
    start = time.perf_counter()
    refused(path, "the file holds more")
    assert time.perf_counter() - start < 1


def test_an_npz_bomb_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    refused(path, "would inflate to")


class Bang:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


def test_python_objects_are_never_unpickled(tmp_path):
    array = np.array([Bang()], dtype=object)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    refused(tmp_path / "x.npy", "never unpickled")
    np.savez(tmp_path / "x.npz", x=array)
    refused(tmp_path / "x.npz", "never unpickled")


@pytest.mark.parametrize(
    ("array", "pattern"),
    [
        (np.zeros((20, 4), np.int64), "expected uint8 pictures"),
        (np.zeros((20, 4, 4)), "expected uint8 pictures"),
        (np.zeros((20, 3, 5, 3), np.uint8), "got shape"),
        (np.zeros((2, 4)), "at least 3 items"),
        (np.zeros((0, 4)), "empty"),
        (np.array(1.0), "expected"),
        (np.array([[1.0, 2], [3, np.nan], [5, 6]]), r"\(1, 1\) is NaN"),
        (np.array([[1.0, 2], [3, 4], [np.inf, 6]]), r"\(2, 0\) is NaN, infinite"),
        (np.array([[1.0, 2], [3, 4], [1e300, 6]]), r"\(2, 0\)"),
    ],
)
def test_arrays_of_the_wrong_kind(tmp_path, array, pattern):
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path / "x.npy", pattern)


def test_an_npy_header_that_lies(tmp_path):
    good = good_file("npy")
    (tmp_path / "x.npy").write_bytes(good.replace(b"(20, 5)", b"(2000000000000, 5)".ljust(7))[: len(good)])
    refused(tmp_path / "x.npy", "more than the file holds|damaged")
    (tmp_path / "x.npy").write_bytes(good[:-3])
    refused(tmp_path / "x.npy", "more than the file holds|another number")


def test_labels_that_do_not_fit(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 2)), y=np.zeros(19, int))
    refused(tmp_path / "x.npz", "one label for each of 20 items; got 19")
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 2)), y=np.zeros(20))
    refused(tmp_path / "x.npz", "expected labels")
    np.savez(tmp_path / "x.npz", train=np.zeros((20, 2)), test=np.zeros((20, 2)))
    refused(tmp_path / "x.npz", "expected the arrays x")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("a,b\n1,2\n3,nan\n5,6\n7,8", r"row 3, column 'b': expected a finite number; got 'nan'"),
        ("a,b\n1,2\n3,\n5,6\n7,8", r"row 3, column 'b'.*got ''"),
        ("a,b\n1,2\n3,4,5\n5,6", "row 3: expected 2 cells; got 3"),
        ("a,a\n1,2\n3,4\n5,6", "two columns are called 'a'"),
        ("a,b\n", "a header without rows"),
        ("", "the table is empty"),
        ("1,2\n3,4", "at least 3 items"),
        ("a,b\n1,1e999\n3,4\n5,6", "row 2, column 'b'"),
        ('a,b\n1,"2\n3,4\n5,6', "not a table"),
    ],
)
def test_tables_with_a_flaw(tmp_path, text, pattern):
    (tmp_path / "x.csv").write_text(text)
    refused(tmp_path / "x.csv", pattern)


OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


@pytest.mark.parametrize(
    ("name", "text", "pattern"),
    [
        ("x.obj", OBJ, "no faces"),
        ("x.obj", OBJ + "f 1 2 9\n", "not a readable OBJ|names vertex"),
        ("x.obj", OBJ + "v nan 0 0\nf 1 2 4\n", "not finite"),
        ("x.obj", OBJ + "f 1 1 1\n", "no area"),
        ("x.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "names vertex|not a readable"),
        ("x.off", "OFF\n900000000 1 0\n0 0 0\n", "declares 900000001 elements"),
        ("x.ply", "ply\nformat ascii 1.0\nelement vertex 999999999\nend_header\n0 0 0\n", "declares 999999999"),
        ("x.stl", "solid nothing\nendsolid nothing\n", "no faces|not a readable"),
        ("x.xyz", "0 0 0\n1 1\n", "line 2: expected three numbers"),
        ("x.xyz", "0 0 0\n1 1 inf\n", "point 1 is not finite"),
        ("x.xyz", "# nothing\n", "holds no point"),
    ],
)
def test_shapes_with_a_flaw(tmp_path, name, text, pattern):
    path = three(tmp_path / "f", name, text.encode())
    with pytest.raises(DataFormatError, match=rf"{name}.*({pattern})"):
        open_source(str(path.parent), DataOptions(points=8))


def test_binary_meshes_whose_counts_lie(tmp_path):
    stl = bytearray(good_file("stl"))
    stl[80:84] = struct.pack("<I", 1_000_000)
    with pytest.raises(DataFormatError, match="declares 1000000 triangles"):
        open_source(str(three(tmp_path / "stl", "x.stl", bytes(stl)).parent))
    text = json.dumps({"asset": {"version": "2.0"}, "accessors": [{"count": 10**9, "type": "VEC3"}]}).encode()
    text += b" " * (-len(text) % 4)
    glb = b"glTF" + struct.pack("<2I", 2, 20 + len(text)) + struct.pack("<I4s", len(text), b"JSON") + text
    with pytest.raises(DataFormatError, match="declares 1000000000 elements"):
        open_source(str(three(tmp_path / "glb", "x.glb", glb).parent))


def test_side_files_of_a_mesh_are_not_opened(tmp_path):
    (tmp_path / "secret.mtl").write_text("newmtl m\nmap_Kd /etc/hostname\n")
    text = "mtllib secret.mtl\nmtllib /etc/passwd\n" + OBJ + "usemtl m\nf 1 2 3\n"
    path = three(tmp_path / "f", "x.obj", text.encode())
    assert len(open_source(str(path.parent), DataOptions(points=8)).train) == 1


def test_folders_with_nothing_or_too_much(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "holds nothing to read")
    (empty / "notes.txt").write_text("hello")
    refused(empty, "holds nothing to read")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.png").write_bytes(good_file("png"))
    (mixed / "b.stl").write_bytes(good_file("stl"))
    refused(mixed, "holds both pictures")
    (tmp_path / "x.bin").write_bytes(b"?")
    refused(tmp_path / "x.bin", "cannot tell what it holds")
