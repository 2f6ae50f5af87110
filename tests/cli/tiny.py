"""Tiny runs of every kind of data and every family, for tests that go through commands."""

from pathlib import Path

from genus.cli.__main__ import main

TEXT = "the quick brown fox jumps over the lazy dog. " * 40
DATA = {  # kind of data -> source (TEXT: a text; run: the codes of another run), how it is read, two groups of it
    "grid": ("digits --size 4 --limit 16", "label=9", "label=3"),
    "tokens": ("TEXT --length 16 --limit 16", "label=a", "label=b"),
    "waveform": ("tones --length 32 --limit 24", "timbre=plucked", "timbre=blown"),
    "vectors": ("moons --limit 16", "label=upper", "label=lower"),
    "points": ("furniture --points 16 --limit 16", "label=chair", "label=table"),
    "codes": ("run:FOLDER/grid-vqvae", "label=9", "label=3"),
    "pyramid": ("run:FOLDER/grid-vqvae2+multiscale_pixelcnn", "label=9", "label=3"),
}
MLP = "--hidden 8 --latent-features 3"
VQ = "--hidden 8 --residual 4 --downsample 1 --codes 8 --code-features 4"
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
    "codes gated_pixelcnn": "--features 4",
    "pyramid multiscale_pixelcnn": "--features 4",
    "grid vae+realnvp": "--vae.hidden 8 --vae.latent-features 3 --realnvp.hidden 4",
    "grid vqvae+histogram": VQ.replace("--", "--vqvae."),
    "grid vqvae2+multiscale_pixelcnn": f"{VQ.replace('--', '--vqvae2.')} --multiscale-pixelcnn.features 4",
}
COUNTED = {"markov", "histogram", "ppca"}  # fitted without steps
TRAIN = "train MODEL --data DATA SETTINGS --out RUN --quiet"


def line_of(folder: Path, name: str, command: str) -> list[str]:
    """The words of a command in which RUN is the run ``name`` in a folder, and other capitals what belongs to it."""
    kind, model = name.split()
    data, one, other = DATA[kind]
    length = "" if model in COUNTED else "--steps 2"
    words = {
        "DATA": data, "ONE": one, "OTHER": other, "SETTINGS": f"{RUNS[name]} {length}", "MODEL": model,
        "FOLDER": str(folder), "RUN": str(folder / name.replace(" ", "-")), "TEXT": str(folder / "text.txt"),
    }  # fmt: skip
    for word, meaning in words.items():
        command = command.replace(word, meaning)
    return command.split()


def ready(folder: Path, name: str, command: str) -> list[str]:
    """As `line_of`; the run is trained if it is not there yet."""
    (folder / "text.txt").write_text(TEXT)
    source = DATA[name.split()[0]][0].rpartition("FOLDER/")[2]
    if source.replace("-", " ") in RUNS:
        ready(folder, source.replace("-", " "), "")
    if not Path(line_of(folder, name, "RUN")[0]).exists():
        assert main(line_of(folder, name, TRAIN)) == 0
    return line_of(folder, name, command)
