"""Every command that opens a run, on a tiny run of every kind of data and every family: it does its work, or says in
one sentence why this run is none for it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import DATA, RUNS, TRAIN

from genus import registry
from genus.cli.__main__ import main

COMMANDS = {
    "sample": "sample RUN --count 3",
    "evaluate": "evaluate RUN --count 8 --limit 4",
    "report": "report RUN --count 8 --limit 4",
    "diagnose": "diagnose RUN --items 8 --samples 2 --calls 2",
    "interpolate": "interpolate RUN --count 1 --steps 3",
    "traverse": "traverse RUN --directions 1 --steps 3",
    "arithmetic": "arithmetic RUN --minus ONE --plus OTHER --count 2 --scale 1",
    "reconstruct": "reconstruct RUN --rows 2",
    "move": "edit RUN --move pca-1 --rows 2",
    "complete": "edit RUN --keep first --rows 2 --count 2",
    "compress": "compress RUN --split test --limit 2 --no-rivals --out FOLDER/x.gnsz",
    "export": "export RUN --out FOLDER/there",
    "codes": "data run:RUN --out FOLDER/codes.png",
    "resume": TRAIN,
}

ENCODERS = {"vae", "vqvae", "ppca", "realnvp", "ddpm", "maf", "flow_matching", "point_diffusion"} | {
    "vae+realnvp", "vqvae+histogram", "vqvae2+multiscale_pixelcnn",
}  # fmt: skip
MOVABLE = ENCODERS - {"vqvae", "vqvae+histogram", "vqvae2+multiscale_pixelcnn"}  # latents that are no codes
POSTERIORS = {"vae", "vqvae", "ppca", "vae+realnvp", "vqvae+histogram", "vqvae2+multiscale_pixelcnn"}
PIXELS = {"gated_pixelcnn", "multiscale_pixelcnn"}
SERVES = {  # the models that a command serves; the others all
    "interpolate": MOVABLE,
    "traverse": MOVABLE,
    "move": MOVABLE,
    "arithmetic": MOVABLE,
    "reconstruct": ENCODERS,
    "complete": {"markov", "histogram", "ppca", "d3pm", "ddpm", "flow_matching"} | PIXELS,
    "diagnose": POSTERIORS | {"ddpm", "flow_matching"},
    "codes": POSTERIORS,
    "compress": {"nade", "markov", "histogram", "vae", "ppca"} | PIXELS,
    "export": {"ddpm"},
}
REFUSED = {  # data of a kind that the command takes of no model
    ("arithmetic", "tokens"),  # no groups
    ("compress", "vectors"),
    *(("export", kind) for kind in DATA if kind != "grid"),
    ("diagnose", "points"),  # no features in which to compare samplers
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("command", COMMANDS)
def test_it_works_or_says_why_not(
    command: str, name: str, tiny: Callable[[str, str], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, model = name.split()
    line = [word.replace("FOLDER", str(tmp_path)) for word in tiny(name, COMMANDS[command])]
    capsys.readouterr()
    code = main(line)  # nothing but a sentence of genus' own ends a command: anything else is raised here
    err = capsys.readouterr().err
    if model in SERVES.get(command, {model}) and (command, kind) not in REFUSED:
        assert code == 0, err
        return
    assert code == 1 and err.startswith(f"genus {line[0]}: ") and err.endswith(".\n") and err.count("\n") == 1, err


@pytest.mark.usefixtures("quick")
def test_the_points_of_samples_and_of_real_data_have_flags_of_their_own(
    tiny: Callable[[str, str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Both the sampler of point_diffusion and a source of clouds have an option called points."""
    name = "points point_diffusion"
    assert main(tiny(name, "sample --points 48 --count 2 RUN")) == 0  # flags may come first
    capsys.readouterr()
    line = "evaluate RUN --count 8 --limit 4 --against furniture --data.points 16 --points 16 --out RUN/there.json"
    assert main(tiny(name, line)) == 0
    assert main(tiny(name, "evaluate RUN --data.points 16")) == 1
    assert "--data.points is how to read the data of --against" in capsys.readouterr().err


def test_the_runs_are_of_every_family() -> None:
    models = {model for name in RUNS for model in name.split()[1].split("+")}
    assert {registry.family(model) for model in models} == set(registry.FAMILIES)
