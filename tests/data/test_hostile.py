"""Files that are damaged, lie about their size or mean harm: one sentence, no crash, no great allocation."""

import gzip
import io
import os
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
from fuzzing import glb, good_file, png
from PIL import Image

from genus.data import DataOptions, open_source
from genus.errors import DataFormatError


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
PLY = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
PLY += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"


@pytest.mark.parametrize(
    ("name", "text", "pattern"),
    [
        ("x.obj", OBJ, "no faces"),
        ("x.obj", OBJ + "f 1 2 9\n", "not a readable OBJ|names vertex"),
        ("x.obj", OBJ + "v nan 0 0\nf 1 2 4\n", "not finite"),
        ("x.obj", OBJ + "f 1 1 1\n", "no area"),
        ("x.obj", OBJ + "f 0 1 2\n", "line 4: a face names vertex 0"),
        ("x.obj", OBJ + "f 1 2 -4\n", "face 0 names vertex -1, but there are 3"),
        ("x.obj", OBJ + "f 1 2 99999999999999999999\n", "line 4: a corner is not the number of a vertex"),
        ("x.obj", "v 0 0\n", "line 1: expected three coordinates; got '0 0'"),
        ("x.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "face 0 names vertex 7, but there are 3"),
        ("x.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n9 0 1 2\n", "line 6: expected a number and as many more"),
        ("x.off", "OFF\n2 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 1\n", "line 5|not those of the header"),
        ("x.off", "OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "not those of the header"),
        ("x.off", "OFF\n-3 9 0\n", "line 2: expected the numbers of vertices and faces"),
        ("x.ply", PLY + "0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n", "face 0 names vertex 3"),
        ("x.ply", PLY + "0 0 0\n1 0 0\n0 1 0\n", "declares 1 of element 'face'; there are 0"),
        ("x.ply", PLY + "0 0 0\n1 0 nan\n0 1 0\n3 0 1 2\n", "vertex 1 is not finite"),
        ("x.ply", PLY + "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n0 0 0\n", "more lines than the header declares"),
        ("x.ply", PLY.replace("float x", "os.system x"), "header is damaged: 'property os.system x'"),
        ("x.stl", "solid s\nfacet\nvertex 0 0 0\nvertex 1 0 0\nendfacet\nendsolid", "line 5: a facet without three"),
        ("x.stl", "solid s\nfacet\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendfacet\n", "ends early"),
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
    accessor = {"componentType": 5126, "count": 10**9, "type": "VEC3", "bufferView": 0}
    content = one_triangle(accessors=[accessor])
    with pytest.raises(DataFormatError, match="declares 1000000000 elements"):
        open_source(str(three(tmp_path / "glb", "x.glb", content).parent))


def one_triangle(**changes):
    """A GLB file of a triangle with indices, with some parts of its document changed."""
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5121, "count": 3, "type": "SCALAR"},
        ],
        "bufferViews": [{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 3}],
        "buffers": [{"byteLength": 39}],
    }
    return glb(document | changes, struct.pack("<9f3Bx", 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 2))


POSITIONS = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}
INDICES = {"bufferView": 1, "componentType": 5121, "count": 3, "type": "SCALAR"}
VIEWS = [{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 3}]


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"accessors": [POSITIONS | {"count": 4}, INDICES]}, "accessor 0: its 4 elements do not lie in"),
        ({"accessors": [POSITIONS | {"byteOffset": 4}, INDICES]}, "do not lie in the 39 bytes"),
        ({"accessors": [POSITIONS | {"count": -1}, INDICES]}, "count is '-1'"),
        ({"accessors": [POSITIONS | {"bufferView": -1}, INDICES]}, r"no bufferViews\[-1\]"),
        ({"accessors": [POSITIONS | {"sparse": {"count": 1}}, INDICES]}, "sparse"),
        ({"accessors": [POSITIONS, INDICES | {"byteOffset": 2, "count": 1, "bufferView": 0}]}, "whole triangles"),
        ({"accessors": [POSITIONS | {"count": 2}, INDICES]}, "names vertex 2, but there are 2"),
        ({"bufferViews": [VIEWS[0] | {"byteOffset": 30}, VIEWS[1]]}, "do not lie in"),
        ({"bufferViews": [VIEWS[0] | {"byteStride": 4}, VIEWS[1]]}, "do not lie in"),
        ({"bufferViews": [VIEWS[0] | {"byteStride": 4000}, VIEWS[1]]}, "do not lie in"),
        ({"buffers": [{"byteLength": 39, "uri": "../secret.bin"}]}, "another file, which is not opened"),
        ({"buffers": [{"byteLength": 39, "uri": "file:///etc/passwd"}]}, "another file, which is not opened"),
        ({"buffers": [{"byteLength": 39, "uri": "https://example.org/x.bin"}]}, "another file, which is not opened"),
        ({"buffers": [{"byteLength": 20}]}, "do not lie in the 20 bytes"),
        ({"nodes": [{"mesh": 0, "children": [0]}]}, "lie in a ring"),
        ({"nodes": [{"children": [1, 1]}, {"mesh": 0}]}, "placed twice"),
        ({"nodes": [{"mesh": 0, "translation": [1, 2, float("nan")]}]}, "translation of a node is not 3 finite"),
        ({"nodes": [{"mesh": 0, "scale": [0, 0, 0]}]}, "no area"),
        ({"nodes": [{"mesh": True}]}, r"no meshes\[True\]"),
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "needs the glTF extension"),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 1}]}]}, "no faces"),
    ],
)
def test_glb_files_that_lie(tmp_path, changes, pattern):
    path = three(tmp_path / "f", "x.glb", one_triangle())
    open_source(str(path.parent), DataOptions(points=8))  # as it is, it is sound
    path.write_bytes(one_triangle(**changes))
    with pytest.raises(DataFormatError, match=rf"x\.glb.*{pattern}"):
        open_source(str(path.parent), DataOptions(points=8))


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


def test_links_are_followed_within_the_folder_alone(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(good_file("png"))
    path = three(tmp_path / "f", "x.png", good_file("png"))
    path.unlink()
    path.symlink_to(path.with_name("good0.png"))
    assert len(open_source(str(path.parent)).train) == 1
    for target, pattern in (
        (outside / "secret.png", "a link that leads out of the folder"),
        ("../outside/secret.png", "a link that leads out of the folder"),
        ("x.png", "leads nowhere"),
        ("nothing.png", "leads nowhere"),
    ):
        path.unlink()
        path.symlink_to(target)
        with pytest.raises(DataFormatError, match=rf"x\.png: .*{pattern}"):
            open_source(str(path.parent))
    path.unlink()
    (path.parent / "more").symlink_to(outside)
    with pytest.raises(DataFormatError, match="more: a link to a folder"):
        open_source(str(path.parent))


def test_a_link_beside_an_idx_file_is_not_followed(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "secret").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 20) + bytes(20))
    (tmp_path / "f" / "x-images-idx3-ubyte").write_bytes(good_file("idx"))
    labels = tmp_path / "f" / "x-labels-idx1-ubyte"
    labels.symlink_to(tmp_path / "secret")
    with pytest.raises(DataFormatError, match=r"x-labels-idx1-ubyte: a link that leads out of the folder"):
        open_source(str(tmp_path / "f" / "x-images-idx3-ubyte"))


def test_hidden_files_pipes_and_names_that_harm_a_terminal(tmp_path):
    path = three(tmp_path / "f", "x.png", good_file("png"))
    (path.parent / ".hidden.png").write_bytes(b"damaged")
    (path.parent / ".git").mkdir()
    (path.parent / ".git" / "y.png").write_bytes(b"damaged")
    os.mkfifo(path.parent / "pipe.png")
    assert len(open_source(str(path.parent)).train) == 1
    os.mkfifo(tmp_path / "x.npy")
    refused(tmp_path / "x.npy", "neither a file nor a folder")
    path.rename(path.with_name("\x1b[2Jx\n.png"))
    with pytest.raises(DataFormatError, match=r"the file name '\\x1b.*' cannot be printed"):
        open_source(str(path.parent))


@pytest.mark.parametrize("name", ["../x.npy", "/x.npy", "a/../../x.npy", "..\\x.npy"])
def test_names_in_an_archive_that_lead_out(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr(name, good_file("npy"))
    refused(tmp_path / "x.npz", "leads out of the archive")


def test_links_and_strangers_in_an_archive(tmp_path):
    link = zipfile.ZipInfo("x.npy")
    link.external_attr = (0o120777) << 16
    for member, method, pattern in (
        (link, zipfile.ZIP_STORED, "a link"),
        (zipfile.ZipInfo("x.pkl"), zipfile.ZIP_STORED, "not an NPY array"),
        (zipfile.ZipInfo("x.npy"), zipfile.ZIP_BZIP2, "stored or deflated"),
    ):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr(member, good_file("npy"), method)
        refused(tmp_path / "x.npz", pattern)


def test_text_that_is_no_text_and_truth_that_is_no_truth(tmp_path):
    labels = np.array(["a", "b", "c", "d"] * 5)
    labels.view(np.uint32)[0] = 0x110000
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 2)), y=labels)
    refused(tmp_path / "x.npz", "a label is not text")
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 2)), y=np.array(["a\x1b[2J", "b"] * 10))
    refused(tmp_path / "x.npz", "that can be printed")
    np.save(tmp_path / "x.npy", np.full((20, 2, 2), 7, np.uint8).view(bool))
    refused(tmp_path / "x.npy", "truth values")


def test_a_table_with_great_names(tmp_path):
    (tmp_path / "x.csv").write_text("a," + "b" * 1000 + "\n1,2\n3,4\n5,6\n")
    refused(tmp_path / "x.csv", "row 1: expected names of at most 200")
    (tmp_path / "x.csv").write_text('a,"b\nc"\n1,2\n3,4\n5,6\n')
    refused(tmp_path / "x.csv", "can be printed")
    (tmp_path / "x.csv").write_text("a,b\n1," + "2" * 2_000_000 + "\n3,4\n5,6\n")
    refused(tmp_path / "x.csv", "row 2: longer than")
