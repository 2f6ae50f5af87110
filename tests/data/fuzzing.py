"""Mutated files of every format that genus reads, each a function of its seed; and what becomes of them.

`good_file` makes a sound file, `mutated` a damaged one, `judge` says whether it was refused or read.
`python benchmarks/fuzz.py` runs a thousand of each format; the tests run fewer, or mark themselves slow.
"""

import gzip
import io
import json
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import soundfile
import torch
import trimesh
from PIL import Image

from genus.data import DataOptions, open_source
from genus.errors import DataFormatError, SettingsError
from genus.prob import noise

SECONDS, PEAK = 5.0, 10**9  # what one file may take

PICTURES = ("png", "palette.png", "interlaced.png", "jpg", "progressive.jpg", "webp")
SHAPES = ("obj", "text.ply", "ply", "mixed.ply", "cloud.ply", "text.stl", "stl", "off", "glb", "xyz", "cloud.npy")
WHOLES = ("npy", "npz", "stored.npz", "idx", "idx.gz", "csv", "labels.csv", "tsv.gz", "txt")
SOUNDS = ("wav", "float.wav", "flac")
FORMATS = (*PICTURES, *SHAPES, *WHOLES, *SOUNDS)
OPTIONS = {"labels.csv": {"label": "kind"}, "txt": {"length": 16}, **{kind: {"length": 64} for kind in SOUNDS}}


def good_file(kind: str) -> bytes:
    """A small sound file: 16x16 pictures, meshes of 80 faces, 20 items of anything else."""
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    if kind in PICTURES:
        smooth = np.linspace(0, 200, 16)[:, None, None] + rng.integers(0, 50, (16, 16, 3))
        picture = Image.fromarray(smooth.astype(np.uint8))
        if kind == "palette.png":
            picture.quantize(7).save(out, "PNG", transparency=1)
        elif kind == "interlaced.png":
            out.write(png(4, 4, interlaced=True, rows=bytes(23)))
        elif kind.endswith("png"):
            picture.save(out, "PNG")
        elif kind.endswith("jpg"):
            picture.save(out, "JPEG", progressive="progressive" in kind, exif=_turned())
        else:
            picture.save(out, "WEBP", exif=_turned())
    elif kind == "cloud.ply":
        out.write(trimesh.PointCloud(rng.normal(size=(20, 3))).export(file_type="ply"))
    elif kind == "mixed.ply":  # triangles and squares, a list of another element before them
        head = "ply\nformat binary_big_endian 1.0\ncomment two kinds\nelement vertex 4\n" + "".join(
            f"property float {axis}\n" for axis in "xyz"
        )
        head += "element tag 2\nproperty list uchar short words\nelement face 2\nproperty uchar grey\n"
        head += "property list uchar int vertex_indices\nend_header\n"
        out.write(head.encode() + struct.pack(">12f", 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0))
        out.write(struct.pack(">BhBhh", 1, 5, 2, 6, 7) + struct.pack(">BB4iBB3i", 9, 4, 0, 1, 2, 3, 9, 3, 0, 1, 3))
    elif kind in SHAPES and "npy" not in kind and kind != "xyz":
        mesh = trimesh.creation.icosphere(subdivisions=1)
        name = {"text.stl": "stl_ascii"}.get(kind, kind.rsplit(".", 1)[-1])
        content = mesh.export(file_type=name, **({"encoding": "ascii"} if kind == "text.ply" else {}))
        out.write(content.encode() if isinstance(content, str) else content)
    elif kind == "npy":
        np.save(out, rng.normal(size=(20, 5)))
    elif kind == "cloud.npy":
        np.save(out, rng.normal(size=(20, 3)).astype(np.float32))
    elif kind.endswith("npz"):
        save = np.savez if "stored" in kind else np.savez_compressed
        labels = np.array(["cat", "dog", "cow"])[np.arange(20) % 3]
        save(out, x=rng.integers(0, 256, (20, 4, 4), dtype=np.uint8), y=labels)
    elif kind == "idx":
        out.write(b"\0\0\x08\x03" + struct.pack(">3I", 20, 4, 4) + rng.bytes(320))
    elif kind.endswith(".gz"):
        out.write(gzip.compress(good_file(kind.removesuffix(".gz")), mtime=0))
    elif kind in ("csv", "tsv", "labels.csv"):
        comma = "\t" if kind == "tsv" else ","
        rows = [[f"{v:.3f}" for v in row] + ["ab"[k % 2]] for k, row in enumerate(rng.normal(size=(20, 3)))]
        table = [["a", "b", "c", "kind"], *rows]
        width = 4 if kind == "labels.csv" else 3
        out.write("".join(comma.join(row[:width]) + "\n" for row in table).encode())
    elif kind in SOUNDS:
        tone = 0.5 * np.sin(np.arange(800) * 0.3) + 0.01 * rng.normal(size=800)
        stored = {"format": kind.rsplit(".", 1)[-1].upper(), "subtype": "FLOAT" if "float" in kind else "PCM_16"}
        soundfile.write(out, tone.astype(np.float32), 8000, **stored)
    elif kind == "txt":
        out.write("".join("abc \né"[k] for k in rng.integers(0, 6, 800)).encode())
    elif kind == "xyz":
        out.write("\n".join(" ".join(f"{v:.3f}" for v in row) for row in rng.normal(size=(20, 3))).encode())
    return out.getvalue()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    return exif


def png(width: int, height: int, interlaced: bool = False, rows: bytes = bytes(100)) -> bytes:
    """A grey PNG (2 levels, or 256 if interlaced) whose header may promise anything."""
    head = struct.pack(">2I5B", width, height, 8 if interlaced else 1, 0, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def glb(document: dict, binary: bytes = b"") -> bytes:
    """A GLB file of a document, with its lengths put right."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text
    body += struct.pack("<I4s", len(binary), b"BIN\0") + binary if binary else b""
    return b"glTF" + struct.pack("<2I", 2, 12 + len(body)) + body


EXTREMES = (b"\xff\xff\xff\xff", b"\0\0\0\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\xc0\x7f", b"\x80\0\0\0")
NUMBERS = (b"-1", b"0", b"nan", b"inf", b"1e400", b"999999999", b"18446744073709551616", b"1" * 400, b"x", b"1_0")


def mutated(content: bytes, kind: str, seed: int) -> bytes:
    """A damaged file, a function of the seed; never ``content`` itself.

    Every second file of a format with a checksum is damaged beneath it: the checksum and the
    lengths are put right again, so that the damage reaches the reader.
    """
    dice = np.random.default_rng(seed)
    result = content
    while result == content:
        beneath = dice.random() < 0.5
        if beneath and kind.endswith("png"):
            result = _png_beneath(content, dice)
        elif beneath and kind.endswith(".gz"):
            result = gzip.compress(_damaged(gzip.decompress(content), dice), mtime=0)
        elif beneath and kind.endswith("npz"):
            result = _npz_beneath(content, dice)
        elif beneath and kind == "glb":
            result = _glb_beneath(content, dice)
        else:
            result = _damaged(content, dice)
    return result


def _damaged(content: bytes, dice: np.random.Generator) -> bytes:
    """One to four times: flip a bit, write an extreme, cut, repeat, drop, exchange, or lie about a number."""
    data = bytearray(content)
    for _ in range(int(dice.integers(1, 5))):
        place = int(dice.integers(0, min(len(data), 200) if dice.random() < 0.5 else len(data)))  # headers above all
        stretch = int(dice.integers(1, 40))
        match int(dice.integers(0, 9)):
            case 0:
                data[place] ^= 1 << int(dice.integers(0, 8))
            case 1:
                data[place : place + 4] = EXTREMES[int(dice.integers(len(EXTREMES)))]
            case 2:
                data[place] = int(dice.integers(0, 256))
            case 3:
                del data[place : place + stretch]
            case 4:
                data[place:place] = data[place : place + stretch]
            case 5:
                data = data[: max(1, place)]
            case 6:
                data[place:place] = dice.bytes(stretch)
            case 7:  # a stretch is copied to elsewhere
                other = int(dice.integers(0, len(data)))
                data[other : other + stretch] = data[place : place + stretch]
            case 8:
                found = list(re.finditer(rb"\d+", data[place : place + 200]))
                if found:
                    hit = found[int(dice.integers(len(found)))]
                    data[place + hit.start() : place + hit.end()] = NUMBERS[int(dice.integers(len(NUMBERS)))]
        data = data or bytearray(b"\0")
    return bytes(data)


def _png_beneath(content: bytes, dice: np.random.Generator) -> bytes:
    """One chunk damaged, dropped or doubled; all checksums right. Damage to pixels lies beneath the compression."""
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = int(dice.integers(len(chunks)))
    kind, body = chunks[chosen]
    match int(dice.integers(0, 5)):
        case 0:
            del chunks[chosen]
        case 1:
            chunks.insert(int(dice.integers(len(chunks))), (kind, body))
        case _ if kind == b"IDAT":
            chunks[chosen] = (kind, zlib.compress(_damaged(zlib.decompress(body), dice)))
        case _:
            chunks[chosen] = (kind, _damaged(body or b"\0", dice))
    return content[:8] + b"".join(_chunk(kind, body) for kind, body in chunks)


def _npz_beneath(content: bytes, dice: np.random.Generator) -> bytes:
    """One array damaged, under the checksum of the archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        chosen = int(dice.integers(len(old.infolist())))
        for k, member in enumerate(old.infolist()):
            body = old.read(member)
            new.writestr(
                zipfile.ZipInfo(member.filename), _damaged(body, dice) if k == chosen else body, member.compress_type
            )
    return out.getvalue()


def _glb_beneath(content: bytes, dice: np.random.Generator) -> bytes:
    """The document says something else somewhere; the lengths of the file are right."""
    (length,) = struct.unpack_from("<I", content, 12)
    document, binary = json.loads(content[20 : 20 + length]), content[28 + length :]
    places: list = []

    def walk(node) -> None:
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(value, dict | list):
                walk(value)

    walk(document)
    lies = (
        -1,
        0,
        1,
        2,
        3,
        5,
        1e400,
        float("nan"),
        10**9,
        2**64,
        "0",
        None,
        True,
        [],
        {},
        [0],
        "../x",
        {"uri": "x"},
        0.5,
    )
    for _ in range(int(dice.integers(1, 4))):
        node, key = places[int(dice.integers(len(places)))]
        if isinstance(node, list) or dice.random() < 0.8:
            node[key] = lies[int(dice.integers(len(lies)))]
        else:
            node.pop(key, None)
    return glb(document, _damaged(binary, dice) if dice.random() < 0.2 else binary)


def prepare(folder: Path, kind: str) -> Path:
    """Where the file goes; a folder gets two sound files beside it, so that it can be split."""
    folder.mkdir(parents=True, exist_ok=True)
    ending = kind.split(".", 1)[-1] if kind.endswith(".gz") and kind.count(".") > 1 else kind
    ending = kind if kind in ("idx.gz", "tsv.gz") else ending.rsplit(".", 1)[-1]
    if kind not in WHOLES:
        for k in range(2):
            (folder / f"good{k}.{ending}").write_bytes(good_file(kind))
    return folder / f"x.{ending}"


def opened(path: Path, kind: str):
    """The source of which ``path`` is the file, or one of the files."""
    options = DataOptions(points=16 if kind in SHAPES else None, **OPTIONS.get(kind, {}))
    return open_source(str(path if kind in WHOLES else path.parent), options)


def judge(path: Path, kind: str) -> str:
    """ "refused" or "accepted"; anything but a typed sentence or a sound source is an error."""
    try:
        source = opened(path, kind)
    except (DataFormatError, SettingsError) as error:  # the latter if the column of labels is gone
        sentence = str(error)
        assert "\n" not in sentence and sentence.isprintable(), repr(sentence)
        assert len(sentence) < 500 + len(str(path)), sentence
        assert path.name in sentence or path.parent.name in sentence, sentence
        return "refused"
    for split in source.splits.values():
        x = split.batch(torch.arange(len(split)), noise.stream(0)).x
        source.domain.check(x)
        assert torch.isfinite(x.float()).all()
    return "accepted"


def run(kind: str, files: int, first: int = 0) -> dict:
    """Judge ``files`` mutated files in this process; the worst of them by time, and the peak of memory in bytes."""
    content = good_file(kind)
    counts, slowest = {"refused": 0, "accepted": 0}, 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = prepare(Path(folder) / "fuzz", kind)
        path.write_bytes(content)
        assert judge(path, kind) == "accepted", f"{kind}: the sound file is refused"
        before = peak()
        for seed in range(first, first + files):
            path.write_bytes(mutated(content, kind, seed))
            start = time.perf_counter()
            try:
                counts[judge(path, kind)] += 1
            except Exception as error:
                raise AssertionError(f"{kind}, seed {seed}: {type(error).__name__}: {error}") from error
            slowest = max(slowest, time.perf_counter() - start)
    return {"format": kind, "files": files, **counts, "slowest": slowest, "before": before, "peak": peak()}


def peak() -> int:
    """The most memory that this process has held, in bytes (resident)."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss it does not count the parent's memory before exec
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) << 10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def _tower(width: int, depth: int) -> dict:
    """A GLB document in which each of ``depth`` nodes places the next ``width`` times: exponentially many triangles."""
    nodes: list[dict] = [{"children": [k + 1] * width} for k in range(depth)]
    return _scene([*nodes, {"mesh": 0}])


def _scene(nodes: list, **changes) -> dict:
    """A GLB document of one triangle, placed by ``nodes``; its data are `TRIANGLE`."""
    return {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36}],
        **changes,
    }


TRIANGLE = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)


def _npz_of(path: Path, members: int, size: int, method: int = zipfile.ZIP_DEFLATED) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size, 1, 1)})
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for k in range(members):
            with archive.open(f"x{k}.npy", "w") as file:
                file.write(header.getvalue())
                for start in range(0, size, 1 << 20):
                    file.write(bytes(min(1 << 20, size - start)))


def _gz_of(path: Path, block: bytes, times: int, head: bytes = b"") -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(times):
            file.write(block)


def _scans(times: int, side: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    out = io.BytesIO()
    Image.new("L", (side, side), 128).save(out, "JPEG", progressive=True)
    content = out.getvalue()
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * times + content[-2:]


def _webp(width: int, height: int, extended: bool) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (8, 8)).save(body, "WEBP")
    content = body.getvalue()
    if extended:
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunks = b"VP8X" + struct.pack("<I4x", 10) + size + content[12:]
        return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks
    at = content.index(b"\x9d\x01\x2a") + 3  # the start code of a VP8 key frame, then 14 bits for each side
    return content[:at] + struct.pack("<HH", width, height) + content[at + 4 :]


def _ply(*lines: str) -> bytes:
    return ("ply\nformat binary_little_endian 1.0\n" + "".join(f"{line}\n" for line in lines) + "end_header\n").encode()


def _write(make):
    return lambda path: path.write_bytes(make())


VERTEX = ("element vertex 3", "property float x", "property float y", "property float z")
CORNERS = "property list uchar int vertex_indices"
MIXED = b"\3" + bytes(12) + b"\2" + bytes(8)  # a triangle, and a face of two corners
IDX_OF_1_GB = b"\0\0\x08\x03" + struct.pack(">3I", 1024, 1024, 1024)
# Files that mean to cost much -> what they are read as, and how they are made
BOMBS = {
    "PNG of 144 Mpx": ("png", _write(lambda: png(12_000, 12_000))),
    "PNG of 144 Mpx, whole": ("png", lambda path: Image.new("1", (12_000, 12_000)).save(path)),
    "PNG of 64 Mpx with alpha": ("png", lambda path: Image.new("RGBA", (8000, 8000), "#12345678").save(path)),
    "WebP of 268 Mpx": ("webp", _write(lambda: _webp(16383, 16383, extended=False))),
    "WebP of 268 Mpx, VP8X": ("webp", _write(lambda: _webp(16384, 16384, extended=True))),
    "JPEG of 64 Mpx, progressive": ("jpg", lambda path: Image.new("RGB", (8000, 8000)).save(path, progressive=True)),
    "JPEG of 20,000 scans": ("jpg", _write(lambda: _scans(20_000, 2000))),
    "NPZ of 512 MB zeros": ("npz", lambda path: _npz_of(path, 1, 512 << 20)),
    "NPZ of 40 x 30 MB zeros": ("npz", lambda path: _npz_of(path, 40, 30 << 20)),
    "NPZ of 31 MB zeros": ("npz", lambda path: _npz_of(path, 1, 31 << 20)),
    "NPZ by bzip2": ("npz", lambda path: _npz_of(path, 1, 64 << 20, zipfile.ZIP_BZIP2)),
    "NPZ of 60,000 members": ("npz", lambda path: _npz_of(path, 60_000, 1, zipfile.ZIP_STORED)),
    "NPY of shape (0, 2^70)": ("npy", _write(lambda: _npy("|u1", (0, 1 << 70)))),
    "NPY of empty text": ("npy", _write(lambda: _npy("<U0", (1 << 40,)))),
    "IDX.gz of 1 GB": ("idx.gz", lambda path: _gz_of(path, bytes(1 << 20), 1024, IDX_OF_1_GB)),
    "TSV.gz of 1 GB": ("tsv.gz", lambda path: _gz_of(path, b"1\t1\n" * (1 << 18), 1024)),
    "TSV.gz of one line": ("tsv.gz", lambda path: _gz_of(path, b"1" * (1 << 20), 512)),
    "TSV.gz of one column": ("tsv.gz", lambda path: _gz_of(path, b"1\n" * (1 << 19), 4, b"a\n")),
    "CSV of a label of 100 kB": (
        "labels.csv", _write(lambda: b"a,kind\n" + b"1,x\n" * 500_000 + b"1," + b"y" * 100_000)
    ),
    "OBJ of 64 MB blank lines": ("obj", _write(lambda: b"\n" * (64 << 20))),
    "OBJ of great polygons": ("obj", _write(lambda: b"v 0 0 0\n" * 3 + (b"f" + b" 1" * 500_000 + b"\n") * 60)),
    "OBJ of 64 MB vertices": ("obj", _write(lambda: b"v 0 0 0\n" * (8 << 20))),
    "OBJ of 64 MB faces": ("obj", _write(lambda: b"f 1 2 3\n" * (8 << 20))),
    "OBJ of one line": ("obj", _write(lambda: b"f" + b" 1" * (31 << 20))),
    "OFF of 24 MB": ("off", _write(lambda: b"OFF\n3 2400000 0\n" + b"0 0 0\n" * 3 + b"3 0 1 2\n" * 2_400_000)),
    "PLY of mixed polygons": (
        "ply", _write(lambda: _ply(*VERTEX, "element face 2400000", CORNERS) + bytes(36) + MIXED * 1_200_000)
    ),
    "PLY of narrow polygons": (
        "ply", _write(lambda: _ply(*VERTEX, "element face 200000000", CORNERS) + bytes(200_000_000))
    ),
    "STL of 3 M faces": ("stl", _write(lambda: bytes(80) + struct.pack("<I", 3_000_000) + bytes(150_000_000))),
    "XYZ of 100 MB": ("xyz", _write(lambda: b"0 0 0\n" * (16 << 20))),
    "GLB of 2^30 places": ("glb", _write(lambda: glb(_tower(2, 30), TRIANGLE))),
    "GLB of a ring": ("glb", _write(lambda: glb(_scene([{"children": [1]}, {"children": [0]}]), TRIANGLE))),
    "GLB of 99,000 nodes": (
        "glb", _write(lambda: glb(_scene([{"children": [*range(1, 99_000)]}, *[{"mesh": 0}] * 98_999]), TRIANGLE))
    ),
    "GLB of 2 M nodes": ("glb", _write(lambda: glb(_scene([{} for _ in range(2_000_000)]), TRIANGLE))),
    "GLB of deep JSON": ("glb", _write(lambda: _deep(400_000))),
    "GLB of 8 MB lists": ("glb", _write(lambda: glb({"nodes": [[]] * 2_000_000}))),
}  # fmt: skip


def _deep(depth: int) -> bytes:
    return b"glTF" + struct.pack("<3I4s", 2, 20 + depth, depth, b"JSON") + b"[" * depth


def _npy(descr: str, shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue() + bytes(64)


def detonate(name: str) -> dict:
    """Judge one bomb in this process; seconds of the processor, and the peak of memory in bytes."""
    kind, _ = BOMBS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = prepare(Path(folder) / "bomb", kind)
        path.write_bytes(good_file(kind))
        judge(path, kind)  # everything is imported, so the time is that of the bomb
        making = [sys.executable, "-c", _MAKE, name, str(path)]  # elsewhere, so that the peak is that of reading
        subprocess.run(making, cwd=Path(__file__).parent, check=True, timeout=300)
        size = path.stat().st_size
        before, start = peak(), time.process_time()  # of this process: others may be at work
        outcome = judge(path, kind)
        seconds = time.process_time() - start
    return {"bomb": name, "size": size, "outcome": outcome, "seconds": seconds, "before": before, "peak": peak()}


_MAKE = "import sys, pathlib, fuzzing; fuzzing.BOMBS[sys.argv[1]][1](pathlib.Path(sys.argv[2]))"


def apart(call: str, *arguments: object, timeout: float = 900) -> dict:
    """What ``call(*arguments)`` of this module gives in a process of its own, with warnings as errors:
    a crash, a hang or a warning is seen, and its peak of memory is its own."""
    code = f"import sys, json, fuzzing; print(json.dumps(fuzzing.{call}(*json.loads(sys.argv[1]))))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, json.dumps(arguments)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise AssertionError(f"{call}{arguments}: {reason} (exit {done.returncode})")
    return json.loads(done.stdout)
