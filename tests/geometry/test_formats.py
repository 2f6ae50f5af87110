"""The five mesh formats against trimesh, whose readers are another implementation."""

import json
import struct

import numpy as np
import pytest
import trimesh

from genus.errors import DataFormatError
from genus.geometry.formats import READERS, read_glb, read_obj, read_off, read_ply, read_stl
from genus.geometry.mesh import load_mesh


def scene() -> trimesh.Scene:
    """Two solids, one of them turned, moved and stretched."""
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.icosphere(subdivisions=2))
    matrix = trimesh.transformations.rotation_matrix(1.1, (1, 2, 3), (0, 1, 0)) @ np.diag([1, 2, 3, 1.0])
    scene.add_geometry(trimesh.creation.box((1, 2, 3)), transform=matrix)
    return scene


def triangles(mesh) -> np.ndarray:
    """Corners of every triangle, in an order of their own."""
    corners = np.asarray(mesh.vertices)[np.asarray(mesh.faces)].reshape(-1, 9).round(4) + 0.0
    return corners[np.lexsort(corners.T)]


@pytest.mark.parametrize("ending", [*READERS, "text.ply", "text.stl"])
def test_the_readers_agree_with_trimesh(tmp_path, ending):
    kind = ending.rsplit(".", 1)[-1]
    whole = scene().to_mesh()
    path = tmp_path / f"m.{kind}"
    if ending == "glb":
        scene().export(path)
    elif ending == "text.stl":
        path.write_text(whole.export(file_type="stl_ascii"))
    else:
        whole.export(path, **({"encoding": "ascii"} if ending == "text.ply" else {}))
    ours = triangles(load_mesh(path))
    theirs = triangles(trimesh.load_scene(path, process=False).to_mesh())
    assert len(ours) == 320 + 12
    assert np.allclose(ours, theirs, atol=2e-4)
    assert np.allclose(ours, triangles(whole), atol=2e-4)


def test_polygons_negative_numbers_and_slashes():
    text = b"# a square\nmtllib x.mtl\nv 0 0 0\nv 1 0 0 0.5 0.5 0.5\nv 1 1 0\nv 0 1 0\nvt 0 0\n"
    text += b"f 1/1 2/1/1 3//1 4/1\nf -4 -3 \\\n-2\n"
    vertices, faces = read_obj(text, "m")
    assert vertices.shape == (4, 3)
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


def test_off_with_its_counts_on_the_first_line_and_colours():
    for head in (b"OFF\n# cube\n4 1 0\n", b"OFF 4 1 0\n", b"OFF4 1 0\n", b"COFF\n4 1\n"):
        vertices, faces = read_off(head + b"0 0 0 1\n1 0 0 1\n1 1 0 1\n0 1 0 1\n4 0 1 2 3 255 0 0\n", "m")
        assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
        assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_ply_of_mixed_polygons_beside_other_lists(order):
    name = {"<": "little", ">": "big"}[order]
    head = f"ply\nformat binary_{name}_endian 1.0\nelement strip 2\nproperty list uchar short v\nelement vertex 4\n"
    head += "property double x\nproperty uchar red\nproperty double y\nproperty double z\n"
    head += "element face 2\nproperty list uchar float uv\nproperty list uchar uint vertex_index\nend_header\n"
    data = struct.pack(f"{order}Bh", 1, 5) + struct.pack(f"{order}Bhh", 2, 6, 7)
    corners = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
    data += b"".join(struct.pack(f"{order}dBdd", x, 9, y, z) for x, y, z in corners)
    data += struct.pack(f"{order}BfB4I", 1, 0.5, 4, 0, 1, 2, 3) + struct.pack(f"{order}BB3I", 0, 3, 1, 2, 3)
    vertices, faces = read_ply(head.encode() + data, "m")
    assert vertices.tolist() == [list(corner) for corner in corners]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [1, 2, 3]]
    with pytest.raises(DataFormatError, match="m, element 'face': the file ends in row 1 of 2"):
        read_ply(head.encode() + data[:-1], "m")
    with pytest.raises(DataFormatError, match="3 bytes more than the header declares"):
        read_ply(head.encode() + data + b"abc", "m")


def test_a_binary_stl_whose_text_begins_with_solid():
    triangle = struct.pack("<12fH", 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
    vertices, faces = read_stl(b"solid".ljust(80) + struct.pack("<I", 2) + triangle * 2, "m")
    assert vertices[:3].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert faces.tolist() == [[0, 1, 2], [3, 4, 5]]


def interleaved(mode: int) -> bytes:
    """Four vertices with a colour after each, as a strip or a fan without indices."""
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)]
    binary = b"".join(struct.pack("<3f4x", *corner) for corner in corners)
    text = json.dumps({
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": mode}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 64, "byteStride": 16}],
        "buffers": [{"byteLength": 64}],
    }).encode()  # fmt: skip
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", 64, b"BIN\0") + binary
    return b"glTF" + struct.pack("<2I", 2, 12 + len(body)) + body


def test_glb_strips_fans_and_interleaved_vertices():
    for mode, expected in ((5, [[0, 1, 2], [3, 2, 1]]), (6, [[0, 1, 2], [0, 2, 3]])):
        vertices, faces = read_glb(interleaved(mode), "m")
        assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]
        assert faces.tolist() == expected
