"""OBJ, PLY, STL, OFF and GLB read from bytes, with suspicion: triangles, and nothing else.

Each reader takes the content of a file and gives vertices ``(V, 3)`` float64 and faces
``(F, 3)`` int64. None opens another file: materials, textures and external buffers are left
alone. Numbers of elements are compared with the bytes that are there before anything is
allocated for them. What does not fit is a `DataFormatError` that names the file and the place.
"""

import io
import itertools
import json
import math
import re
import struct
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genus.errors import DataFormatError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Soup = tuple[Floats, Ints]

MOST = 3_000_000  # vertices, faces or other elements of one file
MOST_LINES = 2_500_000  # lines of text, and other things that are looked at one by one
LONGEST = 1 << 20  # bytes of a line
LARGEST_TEXT = 64 << 20  # bytes of a file in text
LARGEST_JSON = 8 << 20  # bytes of the JSON part of a GLB file
MOST_PLACED = 100_000  # nodes of a GLB file, and parts of meshes that they place


def read_obj(content: bytes, where: str) -> Soup:
    """Wavefront OBJ: its ``v`` and ``f`` lines; polygons become fans, ``mtllib`` is not followed."""
    vertices, faces = array("d"), array("q")
    content = content.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    for number, cells in _lines(content, where):
        if cells[0] == b"v":
            _add_point(vertices, cells[1:4], where, number)
        elif cells[0] == b"f":
            have = len(vertices) // 3
            slashed = b"/" in cells[-1]  # vertex/texture/normal
            corners = _whole([cell.split(b"/", 1)[0] for cell in cells] if slashed else cells, where, number, 1)
            if 0 in corners:
                raise DataFormatError(f"{where}, line {number}: a face names vertex 0; OBJ counts from 1.")
            # -1 is the latest vertex
            corners = [corner - 1 if corner > 0 else have + corner for corner in corners]
            _add_fan(faces, corners, where, number)
    return _soup(vertices, faces)


def read_off(content: bytes, where: str) -> Soup:
    """OFF as text, colours left out; the counts may stand on the line of the magic word, as in ModelNet."""
    lines = _lines(content, where)
    number, cells = next(lines, (1, [b""]))
    magic = re.match(rb"(ST)?C?N?OFF", cells[0])
    if magic is None:
        raise DataFormatError(f"{where}: expected a file that begins with OFF; got {_shown(cells)}.")
    counts = [cell for cell in (cells[0][magic.end() :], *cells[1:]) if cell]
    if not counts:
        number, counts = next(lines, (number + 1, []))
    sizes = _whole(counts, where, number)
    if not 2 <= len(sizes) <= 3 or min(sizes) < 0:
        raise DataFormatError(f"{where}, line {number}: expected the numbers of vertices and faces.")
    declared(sizes[0] + sizes[1], content, where)

    vertices, faces, rows = array("d"), array("q"), 0
    for number, cells in itertools.islice(lines, sizes[0]):
        _add_point(vertices, cells[:3], where, number)
    for number, cells in itertools.islice(lines, sizes[1]):
        _add_polygon(faces, cells, where, number)
        rows += 1
    if len(vertices) != 3 * sizes[0] or rows != sizes[1] or next(lines, None):
        raise DataFormatError(f"{where}: the numbers of vertices and faces are not those of the header.")
    return _soup(vertices, faces)


def read_stl(content: bytes, where: str) -> Soup:
    """STL, binary if its length is what the count of a binary file demands, else text; three vertices a face."""
    if len(content) >= 84:
        (count,) = struct.unpack_from("<I", content, 80)
        if 84 + 50 * count == len(content):
            declared(count, content, where)
            rows = np.frombuffer(content, np.dtype([("normal", "<f4", 3), ("v", "<f4", 9), ("rest", "<u2")]), offset=84)
            return _unwelded(rows["v"].reshape(-1, 3).astype(np.float64))
        if content[:5].lower() != b"solid":
            raise DataFormatError(f"{where}: the STL header declares {count} triangles; the length disagrees.")
    vertices, opened, closed, ended = array("d"), 0, 0, False
    for number, cells in _lines(content, where):
        word = cells[0].lower()
        if word == b"vertex":
            _add_point(vertices, cells[1:4], where, number)
        opened, closed, ended = opened + (word == b"facet"), closed + (word == b"endfacet"), word == b"endsolid"
        if closed > opened or (word in (b"facet", b"endfacet") and len(vertices) != 9 * closed):
            raise DataFormatError(f"{where}, line {number}: a facet without three vertices.")
    if not ended or opened != closed:
        raise DataFormatError(f"{where}: not an STL file, or one that ends early.")
    return _unwelded(np.asarray(vertices).reshape(-1, 3))


def _unwelded(vertices: Floats) -> Soup:
    return vertices, np.arange(len(vertices), dtype=np.int64).reshape(-1, 3)


# --- PLY ---------------------------------------------------------------------------------------

PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "int64": "i8", "uint64": "u8",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
Property = tuple[str, str, str]  # name, type, and for lists the type of their length (else "")
Element = tuple[str, int, list[Property]]  # name, count, properties


def read_ply(content: bytes, where: str) -> Soup:
    """PLY as text or binary of either byte order; elements other than vertices and faces are passed over."""
    order, elements, start = _ply_header(content, where)
    names = [name for name, _, _ in elements]
    if names.count("vertex") != 1 or names.count("face") > 1:
        raise DataFormatError(f"{where}: expected one element vertex and at most one element face.")
    return (_ply_binary if order else _ply_text)(content, start, order, elements, where)


def _ply_header(content: bytes, where: str) -> tuple[str, list[Element], int]:
    """The byte order ("" for text), the elements, and where the data begin."""
    end = re.compile(rb"\nend_header[ \t]*\r?\n").search(content, 0, LONGEST)
    lines = [line.split() for line in content[: end.start() if end else 0].decode("ascii", "replace").splitlines()]
    orders = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
    order, elements = None, []
    if end is None or lines[:1] != [["ply"]]:
        raise DataFormatError(f"{where}: the PLY header is damaged: expected 'ply' first, and 'end_header'.")
    for number, line in enumerate(lines[1:], start=2):
        match line:
            case [] | ["comment" | "obj_info", *_]:
                continue
            case ["format", kind, "1.0"] if kind in orders and order is None:
                order = orders[kind]
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 19:
                declared(int(count), content, where)
                elements.append((name, int(count), list[Property]()))
            case ["property", kind, name] if kind in PLY_TYPES and elements:
                elements[-1][2].append((name, PLY_TYPES[kind], ""))
            case ["property", "list", length, kind, name] if PLY_TYPES.get(length, "f")[0] in "iu" and (
                kind in PLY_TYPES and elements
            ):
                elements[-1][2].append((name, PLY_TYPES[kind], PLY_TYPES[length]))
            case _:
                raise DataFormatError(f"{where}, line {number}: the PLY header is damaged: {' '.join(line)[:60]!r}.")
    if order is None or len(elements) > 100 or any(len(properties) > 100 for _, _, properties in elements):
        raise DataFormatError(f"{where}: the PLY header is damaged: it names no format, or too many properties.")
    return order, elements, end.end()


def _places(elements: list[Element], where: str) -> tuple[list[int], int]:
    """Which properties of a vertex are x, y and z, and which property of a face lists its corners (or -1)."""
    fields = {name: properties for name, _, properties in elements}
    scalars = {p[0]: k for k, p in enumerate(fields["vertex"]) if not p[2]}
    if not {"x", "y", "z"} <= scalars.keys() or any(p[2] for p in fields["vertex"]):
        raise DataFormatError(f"{where}: expected vertices with the properties x, y and z, and no lists.")
    corners = [k for k, p in enumerate(fields.get("face", [])) if p[0] in ("vertex_indices", "vertex_index")]
    if "face" in fields and not (corners and fields["face"][corners[0]][2] and fields["face"][corners[0]][1][0] != "f"):
        raise DataFormatError(f"{where}: expected faces with a list of integers called vertex_indices.")
    return [scalars[axis] for axis in "xyz"], corners[0] if corners else -1


def _ply_text(content: bytes, start: int, order: str, elements: list[Element], where: str) -> Soup:
    axes, listed = _places(elements, where)
    before = content.count(b"\n", 0, start)
    lines = _lines(content[start:], where, before + 1)
    vertices, faces = array("d"), array("q")
    for name, count, properties in elements:
        rows = 0
        for number, cells in itertools.islice(lines, count):
            rows += 1
            if name == "vertex":
                if len(cells) != len(properties):
                    raise DataFormatError(
                        f"{where}, line {number}: expected {len(properties)} numbers; got {_shown(cells)}."
                    )
                _add_point(vertices, [cells[k] for k in axes], where, number)
            elif name == "face":
                at = 0
                for _, _, length in properties[:listed]:
                    at += 1 + (_length(cells[at:], where, number) if length else 0)
                _add_polygon(faces, cells[at:], where, number)
        if rows != count:
            raise DataFormatError(f"{where}: the header declares {count} of element {name[:40]!r}; there are {rows}.")
    if next(lines, None):
        raise DataFormatError(f"{where}: the file holds more lines than the header declares.")
    return _soup(vertices, faces)


def _ply_binary(content: bytes, start: int, order: str, elements: list[Element], where: str) -> Soup:
    axes, listed = _places(elements, where)
    vertices, faces = np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    for name, count, properties in elements:
        place = f"{where}, element {name[:40]!r}"
        if not count or not properties:
            continue
        rows, end = _alike(content, start, order, count, properties)
        if rows is None:
            found, start = _walk(content, start, order, count, properties, listed if name == "face" else -1, place)
            faces = found if name == "face" else faces
            continue
        start = end
        if name == "vertex":
            vertices = np.stack([rows[f"{k}"].astype(np.float64) for k in axes], 1)
        elif name == "face":
            faces = _fans(rows[f"{listed}"], place)
    if content[start:].strip():
        raise DataFormatError(f"{where}: the file holds {len(content) - start} bytes more than the header declares.")
    return vertices, faces


def _alike(
    content: bytes, start: int, order: str, count: int, properties: list[Property]
) -> tuple[NDArray[Any] | None, int]:
    """All rows at once if each list is as long in every row as in the first, and where they end; else None."""
    fields: list[Any] = []
    at = start
    for k, (_, kind, length) in enumerate(properties):
        size = 1
        if length:
            if at + np.dtype(length).itemsize > len(content):
                return None, start
            size = int(np.frombuffer(content, order + length, 1, at)[0])
            fields.append((f"length {k}", order + length))
            at += np.dtype(length).itemsize
        fields.append((f"{k}", order + kind, (size,) if length else ()))
        at += size * np.dtype(kind).itemsize
        if size < 0 or at > len(content):
            return None, start
    form = np.dtype(fields)
    end = start + count * form.itemsize
    if end > len(content):
        return None, start
    rows = np.frombuffer(content, form, count, start)
    lengths = [rows[name] for name in form.names or () if name.startswith("length")]
    return (rows, end) if all((length == length[0]).all() for length in lengths) else (None, start)


def _walk(
    content: bytes, start: int, order: str, count: int, properties: list[Property], listed: int, place: str
) -> tuple[Ints, int]:
    """Row by row, for lists of different lengths: the faces, and where they end."""
    steps: list[tuple[struct.Struct | None, str, int]] = []  # what gives the length of a list, its type and size
    chosen = -1
    for k, (_, kind, length) in enumerate(properties):
        form = np.dtype(kind)
        if length:
            chosen = len(steps) if k == listed else chosen
            steps.append((struct.Struct(order + np.dtype(length).char), form.char, form.itemsize))
        elif steps and steps[-1][0] is None:  # neighbouring numbers are passed over in one step
            steps[-1] = (None, "", steps[-1][2] + form.itemsize)
        else:
            steps.append((None, "", form.itemsize))
    if count * len(steps) > MOST_LINES:
        raise DataFormatError(f"{place}: more than {MOST_LINES:,} lists of different lengths.")
    faces = array("q")
    for row in range(count):
        for k, (head, char, size) in enumerate(steps):
            number = 1
            if head is not None:
                (number,) = head.unpack_from(content, start) if start + head.size <= len(content) else (-1,)
                start += head.size
            if not 0 <= number * size <= len(content) - start:
                raise DataFormatError(f"{place}: the file ends in row {row} of {count}.")
            if k == chosen:
                _add_fan(faces, struct.unpack_from(f"{order}{number}{char}", content, start), place, row, "row")
            start += number * size
    return np.asarray(faces).reshape(-1, 3), start


def _fans(polygons: NDArray[Any], where: str) -> Ints:
    """Polygons ``(F, n)`` cut into ``F (n - 2)`` triangles around their first corners."""
    count, sides = polygons.shape
    if count * (sides - 2) > MOST:
        raise DataFormatError(f"{where}: more than {MOST:,} triangles.")
    if sides < 3:
        return np.zeros((0, 3), np.int64)
    corner = np.arange(1, sides - 1)
    triangles = np.stack([np.zeros_like(corner), corner, corner + 1], 1)
    return polygons[:, triangles].reshape(-1, 3).astype(np.int64)


# --- GLB ---------------------------------------------------------------------------------------

COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
HARMLESS = ("KHR_materials_", "KHR_texture_", "KHR_lights_", "KHR_mesh_quantization", "EXT_texture_")


def read_glb(content: bytes, where: str) -> Soup:
    """Binary glTF 2: the triangles of every node of the scene, each moved to its place.

    Only the buffer inside the file is read: an external one, a compressed or a sparse one is refused.
    """
    document, binary = _chunks(content, where)
    glb = _Glb(document, binary, where)
    needed = [name for name in glb.items("extensionsRequired") if not str(name).startswith(HARMLESS)]
    if needed:
        raise DataFormatError(f"{where}: needs the glTF extension {str(needed[0])[:60]!r}, which is not read.")
    vertices, faces, have, total = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0, 0
    for node, matrix in glb.placed():
        for points, triangles in glb.triangles(node["mesh"]) if "mesh" in node else ():
            total += len(triangles)
            if have + len(points) > MOST or total > MOST or len(vertices) > MOST_PLACED:
                raise DataFormatError(f"{where}: its nodes place more than {MOST:,} vertices or faces.")
            vertices.append(points @ matrix[:3, :3].T + matrix[:3, 3])
            faces.append(triangles + have)
            have += len(points)
    return np.concatenate(vertices), np.concatenate(faces)


def _chunks(content: bytes, where: str) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the binary buffer of a GLB file (Khronos 2021. glTF 2.0, section 4.4)."""
    if len(content) < 20 or content[:4] != b"glTF":
        raise DataFormatError(f"{where}: the GLB header is damaged: expected 'glTF' first.")
    version, length, json_length, kind = struct.unpack_from("<3I4s", content, 4)
    if version != 2 or length != len(content) or kind != b"JSON" or json_length > len(content) - 20:
        raise DataFormatError(
            f"{where}: the GLB header declares version {version}, {length} bytes, {json_length} of JSON; "
            f"expected version 2 and the {len(content)} bytes that are there."
        )
    if json_length > LARGEST_JSON:
        raise DataFormatError(f"{where}: {json_length} bytes of JSON; expected at most {LARGEST_JSON}.")
    try:
        document = json.loads(content[20 : 20 + json_length])
    except (ValueError, RecursionError) as error:
        raise DataFormatError(f"{where}: the JSON of the GLB file is damaged ({str(error)[:80]}).") from None
    if not isinstance(document, dict):
        raise DataFormatError(f"{where}: the JSON of the GLB file is not an object.")
    rest = content[20 + json_length :]
    if not rest:
        return document, b""
    size, kind = struct.unpack_from("<I4s", rest) if len(rest) >= 8 else (0, b"")
    if kind != b"BIN\0" or size > len(rest) - 8:
        raise DataFormatError(f"{where}: the binary part of the GLB file is damaged.")
    return document, rest[8 : 8 + size]


class _Glb:
    """A glTF document whose every number is checked when it is used."""

    def __init__(self, document: dict[str, Any], binary: bytes, where: str):
        self.document, self.binary, self.where = document, binary, where
        self.known: dict[int, list[Soup]] = {}  # the triangles of each mesh, which several nodes may place

    def items(self, name: str, within: dict[str, Any] | None = None) -> list[Any]:
        """A list of the document, or of an object in it; empty if it is missing."""
        found = (self.document if within is None else within).get(name, [])
        if not isinstance(found, list):
            raise DataFormatError(f"{self.where}: {name} is not a list.")
        return found

    def pick(self, name: str, index: Any) -> dict[str, Any]:
        """An object of a list by its number."""
        found = self.items(name)
        item = found[index] if type(index) is int and 0 <= index < len(found) else None
        if not isinstance(item, dict):
            raise DataFormatError(f"{self.where}: there is no {name}[{str(index)[:20]}].")
        return item

    def number(self, within: dict[str, Any], name: str, default: int = 0) -> int:
        """A whole number of at least 0."""
        value = within.get(name, default)
        if type(value) is not int or not 0 <= value < 1 << 53:
            raise DataFormatError(f"{self.where}: {name} is {str(value)[:20]!r}; expected a whole number.")
        return value

    def placed(self) -> Iterator[tuple[dict[str, Any], Floats]]:
        """Every node of the scene once, with its matrix ``(4, 4)``. Nodes must form trees, as glTF demands."""
        count = len(self.items("nodes"))
        if self.items("scenes"):
            roots = self.items("nodes", self.pick("scenes", self.number(self.document, "scene")))
        else:
            children = [self.items("children", self.pick("nodes", k)) for k in range(count)]
            below = {child for some in children for child in some if type(child) is int}
            roots = [k for k in range(count) if k not in below]
        origin = np.eye(4)
        waiting, seen = [(root, origin) for root in reversed(roots[: count + 1])], set()
        while waiting:
            index, above = waiting.pop()
            node = self.pick("nodes", index)
            children_of = self.items("children", node)
            seen.add(index)
            if len(seen) + len(waiting) + len(children_of) > min(count, MOST_PLACED):
                raise DataFormatError(
                    f"{self.where}: its nodes are more than {MOST_PLACED:,}, lie in a ring, or are placed twice."
                )
            matrix = above @ self.matrix(node)
            yield node, matrix
            waiting += [(child, matrix) for child in reversed(children_of)]

    def matrix(self, node: dict[str, Any]) -> Floats:
        """The matrix of a node, or that of its translation, rotation (x, y, z, w) and scale."""
        if "matrix" in node:
            return self.numbers(node, "matrix", [0.0] * 16).reshape(4, 4).T
        move = self.numbers(node, "translation", [0.0, 0.0, 0.0])
        turn, scale = self.numbers(node, "rotation", [0.0, 0.0, 0.0, 1.0]), self.numbers(node, "scale", [1.0, 1.0, 1.0])
        x, y, z, w = turn / max(float(np.linalg.norm(turn)), 1e-30)
        rotation = np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ])  # fmt: skip
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation * scale, move
        return matrix

    def numbers(self, node: dict[str, Any], name: str, default: list[float]) -> Floats:
        """Finite numbers, as many as ``default`` has."""
        found = node.get(name, default)
        fits = isinstance(found, list) and len(found) == len(default)
        if not fits or not all(type(v) in (int, float) and math.isfinite(v) and abs(v) < 1e30 for v in found):
            raise DataFormatError(f"{self.where}: the {name} of a node is not {len(default)} finite numbers.")
        return np.array(found, np.float64)

    def triangles(self, index: Any) -> list[Soup]:
        """The primitives of a mesh that are triangles, strips or fans."""
        mesh = self.pick("meshes", index)
        if index not in self.known:
            primitives = self.items("primitives", mesh)
            if len(primitives) > MOST_PLACED:
                raise DataFormatError(f"{self.where}: a mesh of {len(primitives)} parts; expected fewer.")
            self.known[index], held = [], 0
            for primitive in primitives:
                part = self.primitive(primitive)
                held += len(part[0]) + len(part[1]) if part else 0
                if held > 2 * MOST:
                    raise DataFormatError(f"{self.where}: a mesh of more than {MOST:,} vertices or faces.")
                self.known[index] += [part] if part else []
        return self.known[index]

    def primitive(self, primitive: Any) -> Soup | None:
        """One part of a mesh; None for points and lines, which have no surface."""
        if not isinstance(primitive, dict) or not isinstance(primitive.get("attributes"), dict):
            raise DataFormatError(f"{self.where}: a primitive without attributes.")
        mode = self.number(primitive, "mode", 4)
        if mode not in (4, 5, 6):
            return None
        points = self.accessor(primitive["attributes"].get("POSITION"), "VEC3").astype(np.float64)
        if "indices" in primitive:
            corners = self.accessor(primitive["indices"], "SCALAR")[:, 0].astype(np.int64)
        else:
            corners = np.arange(len(points), dtype=np.int64)
        if corners.min() < 0 or corners.max() >= len(points):
            raise DataFormatError(
                f"{self.where}: a face names vertex {corners.max()}, but there are {len(points)} vertices."
            )
        if mode == 4:
            if len(corners) % 3:
                raise DataFormatError(f"{self.where}: {len(corners)} corners do not make whole triangles.")
            return points, corners.reshape(-1, 3)
        if mode == 6:
            return points, _fans(corners[None], self.where)
        strip = np.stack([corners[:-2], corners[1:-1], corners[2:]], 1)
        strip[1::2] = strip[1::2, ::-1]  # every second triangle of a strip runs the other way round
        return points, strip

    def accessor(self, index: Any, shape: str) -> NDArray[Any]:
        """``(count, 3)`` or ``(count, 1)`` numbers; all of them lie in the file, or they are refused."""
        accessor = self.pick("accessors", index)
        place = f"{self.where}, accessor {index}"
        component = accessor.get("componentType")
        if accessor.get("type") != shape or type(component) is not int or component not in COMPONENTS:
            raise DataFormatError(f"{place}: expected {shape} of a known type of number.")
        if "sparse" in accessor or "bufferView" not in accessor:
            raise DataFormatError(f"{place}: sparse, compressed and missing data are not read.")
        count, form = self.number(accessor, "count"), np.dtype(COMPONENTS[component])
        if shape == "SCALAR" and form.kind == "f":
            raise DataFormatError(f"{place}: expected whole numbers as indices.")
        declared(count, self.binary, place)
        view = self.pick("bufferViews", accessor["bufferView"])
        buffer = self.pick("buffers", view.get("buffer"))
        if "uri" in buffer or view["buffer"] != 0:
            raise DataFormatError(f"{place}: its data lie in another file, which is not opened.")
        if view.get("extensions"):
            raise DataFormatError(f"{place}: compressed data are not read.")
        columns = {"VEC3": 3, "SCALAR": 1}[shape]
        item = columns * form.itemsize
        begin, length = self.number(view, "byteOffset"), self.number(view, "byteLength")
        offset, stride = self.number(accessor, "byteOffset"), self.number(view, "byteStride", item)
        held = min(self.number(buffer, "byteLength"), len(self.binary))
        end = offset + (count - 1) * stride + item
        if not count or end > length or begin + length > held or not item <= stride < 1 << 16:
            raise DataFormatError(f"{place}: its {count} elements do not lie in the {held} bytes of the buffer.")
        rows: NDArray[Any] = np.ndarray((count, columns), form, self.binary, begin + offset, (stride, form.itemsize))
        scaled = accessor.get("normalized") is True and form.kind != "f"
        return np.maximum(rows / np.iinfo(form).max, -1) if scaled else rows


READERS: dict[str, Callable[[bytes, str], Soup]] = {
    "obj": read_obj,
    "ply": read_ply,
    "stl": read_stl,
    "off": read_off,
    "glb": read_glb,
}

# --- What the readers of text share --------------------------------------------------------------


def declared(count: int, content: bytes, where: str) -> None:
    """Refuse a count of elements that the file has no bytes for, or that is beyond reason."""
    if not 0 <= count <= len(content):
        raise DataFormatError(f"{where}: the header declares {count} elements; the file has {len(content)} bytes.")
    if count > MOST:
        raise DataFormatError(f"{where}: the header declares {count} elements; expected at most {MOST:,}.")


def _lines(content: bytes, where: str, first: int = 1) -> Iterator[tuple[int, list[bytes]]]:
    """Number and words of each line that has any, comments after # left out."""
    if len(content) > LARGEST_TEXT:
        raise DataFormatError(
            f"{where}: more than {LARGEST_TEXT >> 20} MiB of text; expected a binary format for those."
        )
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    for number, line in enumerate(io.BytesIO(content), start=first):
        if len(line) > LONGEST or number > MOST_LINES:
            raise DataFormatError(
                f"{where}, line {number}: expected at most {MOST_LINES:,} lines of at most {LONGEST:,} bytes."
            )
        cells = (line.split(b"#", 1)[0] if b"#" in line else line).split()
        if cells:
            yield number, cells


def _add_point(vertices: array, cells: list[bytes], where: str, number: int) -> None:
    try:
        x, y, z = cells
        vertices.extend((float(x), float(y), float(z)))
    except ValueError:
        raise DataFormatError(f"{where}, line {number}: expected three coordinates; got {_shown(cells)}.") from None


def _whole(cells: list[bytes], where: str, number: int, start: int = 0) -> list[int]:
    try:
        return [int(cell) for cell in cells[start:]]
    except ValueError:
        raise DataFormatError(f"{where}, line {number}: expected whole numbers; got {_shown(cells)}.") from None


def _length(cells: list[bytes], where: str, number: int) -> int:
    """The first of ``cells``, a number of cells that follow it."""
    (length,) = _whole(cells[:1], where, number) or (-1,)
    if not 0 <= length < len(cells):
        raise DataFormatError(f"{where}, line {number}: expected a number and as many more; got {_shown(cells)}.")
    return length


def _add_polygon(faces: array, cells: list[bytes], where: str, number: int) -> None:
    """A number of corners, the corners, and perhaps colours after them."""
    _add_fan(faces, _whole(cells[1 : _length(cells, where, number) + 1], where, number), where, number)


def _add_fan(
    faces: array,
    corners: list[int] | tuple[int, ...],
    where: str,
    number: int,
    unit: str = "line",
) -> None:
    """A polygon, cut into triangles around its first corner."""
    if len(faces) > 3 * MOST:
        raise DataFormatError(f"{where}: more than {MOST:,} faces.")
    try:
        if len(corners) == 3:
            faces.extend(corners)
            return
        for k in range(1, len(corners) - 1):
            faces.extend((corners[0], corners[k], corners[k + 1]))
    except (OverflowError, TypeError):
        raise DataFormatError(f"{where}, {unit} {number}: a corner is not the number of a vertex.") from None


def _soup(vertices: array, faces: array) -> Soup:
    return np.asarray(vertices).reshape(-1, 3), np.asarray(faces).reshape(-1, 3)


def _shown(cells: list[bytes]) -> str:
    return repr(b" ".join(cells)[:40].decode("ascii", "replace"))
