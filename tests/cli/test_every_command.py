"""Every command that opens a run, on a tiny run of every kind of data and every family: it does its work, or says in
one sentence why this run is none for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from genus import registry
from genus.cli.__main__ import main

TEXT = "the quick brown fox jumps over the lazy dog. " * 40
DATA = {  # kind of data -> source (TEXT: a text of our own), how it is read, two groups of it
    "grid": ("digits --size 4 --limit 16", "label=9", "label=3"),
    "tokens": ("TEXT --length 16 --limit 16", "label=a", "label=b"),
    "waveform": ("tones --length 32 --limit 24", "timbre=plucked", "timbre=blown"),
    "vectors": ("moons --limit 16", "label=upper", "label=lower"),
    "points": ("furniture --points 16 --limit 16", "label=chair", "label=table"),
}
MLP = "--hidden 8 --latent-features 3"
VQ = "--hidden 8 --residual 4 --codes 8 --code-features 4"
UNET = "--timesteps 4 --flow-steps 2 --width 4 --multipliers 1 1 --blocks 1"
RUNS = {  # kind of data, model -> settings
    "grid nade": "--hidden 4 --conditional",
    "grid markov": "",
    "grid vae": f"{MLP} --conditional",
    "grid vqvae": VQ,
    "grid ppca": "--latent-features 3",
    "grid realnvp": "--hidden 4",
    "grid ddpm": f"{UNET} --conditional",
    "grid d3pm": "--timesteps 4 --width 4",
    "grid dcgan": "--width 4 --latent-features 4",
    "tokens markov": "",
    "tokens vae": MLP,
    "tokens d3pm": "--timesteps 4 --width 4",
    "waveform histogram": "",
    "waveform vae": MLP,
    "waveform ddpm": UNET,
    "vectors vae": MLP,
    "vectors maf": "--conditional",
    "vectors flow_matching": "--width 8 --flow-steps 2",
    "points point_diffusion": "--timesteps 4 --latent-features 4 --width 4 --flow-hidden 4",
    "points ddpm": "--timesteps 4 --flow-steps 2 --width 8",
    "grid vae+realnvp": "--vae.hidden 8 --vae.latent-features 3 --realnvp.hidden 4",
    "grid vqvae+histogram": VQ.replace("--", "--vqvae."),
    "grid vqvae2+multiscale_pixelcnn": f"{VQ.replace('--', '--vqvae2.')} --multiscale-pixelcnn.features 4",
}
COUNTED = {"markov", "histogram", "ppca"}  # fitted without steps
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
    "resume": "train MODEL --data DATA SETTINGS --out RUN --quiet",
}

ENCODERS = {"vae", "vqvae", "ppca", "realnvp", "ddpm", "maf", "flow_matching", "point_diffusion"} | {
    "vae+realnvp", "vqvae+histogram", "vqvae2+multiscale_pixelcnn",
}  # fmt: skip
MOVABLE = ENCODERS - {"vqvae", "vqvae+histogram", "vqvae2+multiscale_pixelcnn"}  # latents that are no codes
POSTERIORS = {"vae", "vqvae", "ppca", "vae+realnvp", "vqvae+histogram", "vqvae2+multiscale_pixelcnn"}
SERVES = {  # the models that a command serves; the others all
    "interpolate": MOVABLE,
    "traverse": MOVABLE,
    "move": MOVABLE,
    "arithmetic": MOVABLE,
    "reconstruct": ENCODERS,
    "complete": {"markov", "histogram", "ppca", "d3pm", "ddpm", "flow_matching"},
    "diagnose": POSTERIORS | {"ddpm", "flow_matching"},
    "codes": POSTERIORS,
    "compress": {"nade", "markov", "histogram", "vae", "ppca"},
    "export": {"ddpm"},
}
REFUSED = {  # data of a kind that the command takes of no model
    ("arithmetic", "tokens"),  # no groups
    ("compress", "vectors"),
    *(("export", kind) for kind in DATA if kind != "grid"),
    ("diagnose", "points"),  # no features in which to compare samplers
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small sheets, and a judge of samples that is hardly trained; in a cache of its own."""
    monkeypatch.setattr("genus.evaluate.classifier.STEPS", (3, 3))
    monkeypatch.setattr("genus.report.write.SHOWN", 2)
    monkeypatch.setattr("genus.report.sound.MOST", 4)
    monkeypatch.setenv("GENUS_CACHE", str(tmp_path_factory.getbasetemp() / "quick"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[str]]:
    """A command about a run of `RUNS`, which is trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "text.txt").write_text(TEXT)

    def line(name: str, command: str) -> list[str]:
        kind, model = name.split()
        data, one, other = DATA[kind]
        length = "" if model in COUNTED else "--steps 2"
        words = {"DATA": data, "ONE": one, "OTHER": other, "SETTINGS": f"{RUNS[name]} {length}", "MODEL": model,
                 "RUN": str(folder / name.replace(" ", "-")), "TEXT": str(folder / "text.txt")}  # fmt: skip
        for word, meaning in words.items():
            command = command.replace(word, meaning)
        return command.split()

    def ready(name: str, command: str) -> list[str]:
        if not Path(line(name, "RUN")[0]).exists():
            assert main(line(name, COMMANDS["resume"])) == 0
        return line(name, command)

    return ready


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
