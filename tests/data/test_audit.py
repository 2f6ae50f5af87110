"""What the readers touch while they read malice, as Python's own audit hook sees it."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
from fuzzing import glb, good_file, png

import genus

# Opens every folder and file named on the command line, with an audit hook; prints what it saw.
WATCHED = """
import json, os, socket, sys, tempfile
from pathlib import Path
import fuzzing
from genus.data import DataOptions, open_source
from genus.errors import GenusError

where, control = Path(sys.argv[1]), sys.argv[2] == "control"
seen = {"open": [], "net": [], "run": [], "import": []}
outcomes, watching = {}, []
RUNS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "exec")


def hook(event, arguments):
    if not watching:
        return
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        seen["open"].append(os.path.realpath(os.fsdecode(arguments[0])))
    elif event.startswith(("socket.", "urllib.", "http.", "ftplib.")):
        seen["net"].append(event)
    elif event in RUNS:
        seen["run"].append(f"{event} {arguments[:1]}")
    elif event == "import":
        seen["import"].append(arguments[0])


with tempfile.TemporaryDirectory() as warm:  # what genus itself imports on the way is imported before
    for kind in ("png", "webp", "jpg", "obj", "glb", "npz", "idx.gz", "csv", "tsv.gz"):
        path = fuzzing.prepare(Path(warm) / kind, kind)
        path.write_bytes(fuzzing.good_file(kind))
        fuzzing.judge(path, kind)

if control:
    import numpy
    from genus.data import arrays, pictures, tables
    from genus.geometry import formats

    read, number = formats.READERS["obj"], tables._number

    def following(content, where):
        for line in content.splitlines():
            target = Path(where).parent / line[7:].decode()
            if line.startswith(b"mtllib ") and target.exists():
                target.read_bytes()
        return read(content, where)

    def calling(cell):
        if cell.startswith("="):
            try:
                __import__("wave_of_harm")
            except ImportError:
                pass
            socket.socket().close()
            os.system("true")
        return number(cell)

    formats.READERS["obj"], tables._number = following, calling
    pictures.refuse_stray = lambda path, folder: None
    arrays.read_npy = lambda path: numpy.load(path, allow_pickle=True)

sys.addaudithook(hook)
for item in sorted(where.iterdir()):
    points = 8 if item.name.startswith("shapes") else None
    for options in ({}, {"skip_bad": True}, {"label": "=cmd|'/c calc'!A1"}):
        watching.append(1)
        try:
            outcome = open_source(str(item), DataOptions(points=points, **options)).name
        except GenusError as error:
            outcome = f"refused: {error}"
        watching.clear()
        outcomes[f"{item.name} {' '.join(options)}".strip()] = outcome
print(json.dumps({"seen": seen, "outcomes": outcomes}))
"""


class Payload:
    def __reduce__(self):
        return (eval, ("__import__('os').system('true')",))


def hostile_things(base):
    """A folder of folders and files that mean harm, and a secret beside it."""
    secret, here = base / "secret", base / "here"
    secret.mkdir()
    here.mkdir()
    (secret / "secret.png").write_bytes(good_file("png"))
    (secret / "secret.mtl").write_text(f"newmtl m\nmap_Kd {secret}/secret.png\n")
    (secret / "secret.bin").write_bytes(bytes(64))

    def folder(name, ending, content, good=None):
        place = here / name
        place.mkdir()
        for k in range(2):
            (place / f"good{k}.{ending}").write_bytes(good_file(good or ending))
        (place / f"bad.{ending}").write_bytes(content)
        return place

    text = f"mtllib ../../secret/secret.mtl\nmtllib {secret}/secret.mtl\nusemtl m\n".encode()
    folder("shapes-obj", "obj", text + good_file("obj"))
    comment = f"\ncomment TextureFile {secret}/secret.png\n".encode()
    folder("shapes-ply", "ply", good_file("text.ply").replace(b"\n", comment, 2))
    for k, uri in enumerate((f"file://{secret}/secret.bin", "../../secret/secret.bin", "https://example.org/x.bin")):
        document = {
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}],
            "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
            "textures": [{"source": 0}],
            "images": [{"uri": uri}],
            "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
            "bufferViews": [{"buffer": 0, "byteLength": 36}],
        }
        triangle = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
        folder(f"shapes-glb-buffer-{k}", "glb", glb(document | {"buffers": [{"uri": uri, "byteLength": 36}]}, triangle))
        folder(f"shapes-glb-image-{k}", "glb", glb(document | {"buffers": [{"byteLength": 36}]}, triangle))
    linked = folder("linked-file", "png", b"")
    (linked / "bad.png").unlink()
    (linked / "bad.png").symlink_to("../../secret/secret.png")
    (folder("linked-folder", "png", good_file("png")) / "more").symlink_to(secret)
    (folder("names", "png", good_file("png")) / "..%2f..%2fsecret%2fsecret.png").write_bytes(good_file("png"))
    (here / "names" / "__import__('os').system('true').png").write_bytes(good_file("png"))
    folder("bomb", "png", png(12_000, 12_000))
    formulas = "a,b,=cmd|'/c calc'!A1\n" + "".join(f'{k},{k},=HYPERLINK("http://x")\n' for k in range(9))
    (here / "formulas.csv").write_text(formulas + "1,=1+1,os.system\n")
    objects = np.array([Payload()] * 9, dtype=object)
    np.save(here / "objects.npy", objects, allow_pickle=True)
    np.savez(here / "objects.npz", x=objects)
    np.savez(here / "labels.npz", x=np.zeros((9, 2)), y=objects)
    (here / "x-images-idx3-ubyte").write_bytes(good_file("idx"))
    (here / "x-labels-idx1-ubyte").symlink_to(secret / "secret.bin")
    return here, secret


def watched(base, control="none"):
    here, secret = hostile_things(base)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(here), control],
        cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    code = [Path(p).resolve() for p in (sys.prefix, sys.base_prefix, Path(genus.__file__).parents[1], "/usr/share")]
    opened = [Path(path) for path in report["seen"]["open"]]
    outside = [path for path in opened if not any(path.is_relative_to(place) for place in (here.resolve(), *code))]
    ours = {
        "numpy",
        "PIL",
        "torch",
        "trimesh",
        "genus",
        "scipy",
        "rtree",
        "networkx",
        "shapely",
        *sys.stdlib_module_names,
    }
    strange = [name for name in report["seen"]["import"] if name.split(".")[0] not in ours]
    return report, outside, strange, secret


def test_nothing_outside_is_opened_nothing_runs_nothing_is_fetched(tmp_path):
    report, outside, strange, _ = watched(tmp_path)
    assert len(report["seen"]["open"]) > 40  # the hook does see
    assert outside == []
    assert report["seen"]["net"] == []
    assert report["seen"]["run"] == []
    assert strange == []
    outcomes = report["outcomes"]
    assert "leads out of the folder" in outcomes["linked-file"]
    assert "link to a folder" in outcomes["linked-folder skip_bad"]
    assert "never unpickled" in outcomes["objects.npy"]
    assert "not opened" in outcomes["shapes-glb-buffer-0"]
    assert outcomes["shapes-obj"] == "shapes-obj (8 points)"
    assert outcomes["names"] == "names"


def test_the_hook_sees_readers_that_do_what_they_must_not(tmp_path):
    report, outside, strange, secret = watched(tmp_path, "control")
    assert (secret / "secret.mtl").resolve() in outside
    assert (secret / "secret.png").resolve() in outside
    assert any("pickle.find_class" in event for event in report["seen"]["run"])
    assert any("os.system" in event for event in report["seen"]["run"])
    assert "wave_of_harm" in strange
    assert report["seen"]["net"]
