"""--out NAME.ENDING is that file, of that kind; an ending that does not fit is refused before any work is done."""

import io
import json
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from genus.cli.__main__ import main
from genus.data import open_source
from genus.runs import open_run

Tiny = Callable[[str, str], list[str]]
pytestmark = pytest.mark.usefixtures("quick")


def is_kind(path: Path) -> bool:
    """Whether a file holds what its name promises."""
    match path.suffix:
        case ".png":
            return path.read_bytes().startswith(b"\x89PNG")
        case ".npz":
            with np.load(path, allow_pickle=False) as file:
                return "x" in file
        case ".json":
            return isinstance(json.loads(path.read_text()), dict)
        case ".svg":
            return "<svg" in path.read_text(encoding="utf-8")
    return True  # the others are read below


@pytest.mark.parametrize(
    ("name", "command", "endings"),
    [
        ("grid nade", "sample RUN --count 3", (".png", ".npz")),
        ("tokens markov", "sample RUN --count 3", (".png", ".npz", ".txt")),
        ("waveform histogram", "sample RUN --count 3", (".png", ".npz")),
        ("waveform histogram", "sample RUN --count 1", (".png", ".npz", ".wav")),
        ("vectors vae", "sample RUN --count 3", (".png", ".npz", ".csv")),
        ("points point_diffusion", "sample RUN --count 2", (".png", ".npz")),
        ("points point_diffusion", "sample RUN --count 1", (".png", ".npz", ".ply")),
        ("pyramid multiscale_pixelcnn", "sample RUN --count 3", (".png", ".npz")),
        ("grid vae", "interpolate RUN --count 1", (".png", ".npz")),
        ("grid vae", "traverse RUN --directions 1", (".png", ".npz")),
        ("grid vae", "arithmetic RUN --minus ONE --plus OTHER --count 1", (".png", ".npz")),
        ("grid vae", "reconstruct RUN --rows 2", (".png", ".npz")),
        ("grid vae", "edit RUN --move pca-1 --rows 1", (".png", ".npz")),
        ("grid markov", "edit RUN --keep top --rows 1 --count 1", (".png", ".npz")),
        ("tokens markov", "edit RUN --keep first --rows 1 --count 1", (".png", ".npz")),
        ("grid nade", "evaluate RUN --count 8 --limit 2", (".json",)),
        ("grid nade", "data digits --limit 16", (".png",)),
        ("vectors vae", "diagnose RUN --items 8 --samples 2", (".png",)),
        ("grid nade", "diagnose --curse", (".png", ".svg")),
        ("tokens markov", "chain TEXT", (".png",)),
    ],
)
def test_an_ending_means_that_file(
    name: str, command: str, endings: tuple[str, ...], tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = tiny(name, command)
    for ending in endings:
        folder = tmp_path / ending[1:]
        assert main([*line, "--out", str(folder / f"x{ending}")]) == 0, ending
        made = sorted(path.name for path in folder.iterdir())
        assert made == [f"x{ending}"] or made == [f"x-reconstructions{ending}", f"x{ending}"]  # diagnose has two
        assert is_kind(folder / f"x{ending}")
    capsys.readouterr()
    for unfit in (".gif", *({".wav", ".csv", ".ply", ".txt", ".json", ".png"} - set(endings))):
        assert main([*line, "--out", str(tmp_path / "unfit" / f"x{unfit}")]) == 1
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1 and all(ending in err.replace("x" + unfit, "") for ending in endings)
    assert not (tmp_path / "unfit").exists()
    if line[0] != "sample":  # a name without an ending gets the usual one
        assert main([*line, "--out", str(tmp_path / "bare" / "x")]) == 0
        assert (tmp_path / "bare" / f"x{endings[0]}").exists()


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("grid nade", ["x.npz", "x.png"]),
        ("tokens markov", ["x.npz", "x.png", "x.txt"]),
        ("waveform histogram", ["x", "x.npz", "x.png", "x/0000.wav", "x/0001.wav"]),
        ("vectors vae", ["x.csv", "x.npz", "x.png"]),
        ("points point_diffusion", ["x", "x.npz", "x.png", "x/0000.ply", "x/0001.ply"]),
    ],
)
def test_samples_without_an_ending_are_all_files_that_fit(
    name: str, files: list[str], tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = tiny(name, f"sample RUN --count 2 --out {tmp_path}/x")
    capsys.readouterr()
    assert main(line) == 0
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == files
    assert sorted(capsys.readouterr().out.split()) == [str(tmp_path / file) for file in files if "." in file]


def test_what_the_files_hold_is_what_was_drawn(tiny: Tiny, tmp_path: Path) -> None:
    def drawn(name: str, ending: str, count: int) -> tuple[np.ndarray, Path]:
        for kind in (".npz", ending):
            assert main(tiny(name, f"sample RUN --count {count} --out {tmp_path}/{name.split()[0]}{kind}")) == 0
        with np.load(tmp_path / f"{name.split()[0]}.npz", allow_pickle=False) as file:
            return file["x"], tmp_path / f"{name.split()[0]}{ending}"

    x, path = drawn("points point_diffusion", ".ply", 1)
    assert np.array_equal(np.asarray(trimesh.load(path).vertices, np.float32), x[0])
    codes, path = drawn("waveform histogram", ".wav", 1)
    run = open_run(tiny("waveform histogram", "RUN")[0])
    with wave.open(io.BytesIO(path.read_bytes())) as file:
        assert file.getframerate() == run.domain.rate and file.getnframes() == codes.shape[1]  # type: ignore[attr-defined]
    symbols, path = drawn("tokens markov", ".txt", 2)
    names = open_run(tiny("tokens markov", "RUN")[0]).domain.names  # type: ignore[attr-defined]
    assert path.read_text().splitlines()[1] == "".join(names[code] for code in symbols[0])


def test_a_table_of_samples_is_data_again(tiny: Tiny, tmp_path: Path) -> None:
    """With the labels that were drawn, bit for bit."""
    table, arrays = tmp_path / "x.csv", tmp_path / "x.npz"
    for out in (table, arrays):
        assert main(tiny("vectors maf", f"sample RUN --count 30 --out {out}")) == 0
    assert table.read_text().splitlines()[0].endswith(",label")
    from genus.data import data_options

    source = open_source(str(table), data_options(label="label"))
    found = np.concatenate([split.x.numpy() for split in source.splits.values()])
    with np.load(arrays, allow_pickle=False) as file:
        x, labels = file["x"], file["condition"]
    assert sorted(map(tuple, found)) == sorted(map(tuple, x))
    assert source.condition is not None and set(source.condition.names) == {"upper", "lower"}
    assert sum(int((split.condition == 0).sum()) for split in source.splits.values()) == (labels == 1).sum()  # lower


def test_arrays_of_completions_are_data(tiny: Tiny, tmp_path: Path) -> None:
    """Not pictures with grey in them: the item, then its completions, in the data's own terms."""
    assert main(tiny("grid markov", f"edit RUN --keep top --items 3 --count 2 --out {tmp_path}/x.npz")) == 0
    run = open_run(tiny("grid markov", "RUN")[0])
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        x = file["x"]
    assert x.shape == (1, 3, 1, 4, 4) and np.array_equal(x[0, 0], run.source.test.x[3].numpy())
    assert (x[0, :, :, :2] == x[0, :1, :, :2]).all()
