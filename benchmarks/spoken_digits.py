"""Can what a model says be heard? The judge is a classifier of real recordings.

Takes a finished two-stage run on labelled recordings (``genus train vqvae+wavenet --data fsdd --whole --length 4096
--conditional``) and prints how often a classifier, trained on the training split, is right: on real test recordings, on
the first stage's reconstructions of them, and on samples of each label. Entries are drawn from the decoder's
distribution, or each is the most typical one. The samples are written beside the table as WAV files and one
spectrogram.

    python benchmarks/spoken_digits.py RUN [--count 500] [--out FOLDER]
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from genus.contract import HasPosterior
from genus.data import Source
from genus.evaluate.recognition import Judge, judge_of
from genus.kinds import Label
from genus.kinds.waveform import spectrograms, wav
from genus.prob import noise
from genus.runs import open_run


def right(judge: Judge, x: Tensor, label: Tensor) -> str:
    """The share of sounds that are heard as what they should be, with its standard error."""
    hit = (judge.probabilities(x).argmax(1) == label).double()
    return f"{float(hit.mean()):.3f} ± {float(hit.std()) / len(hit) ** 0.5:.3f}"


def write(samples: Tensor, asked: Tensor, source: Source, folder: Path) -> None:
    """A WAV file each, named by what was asked for, and their spectrograms."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, (codes, label) in enumerate(zip(samples, asked.tolist(), strict=True)):
        (folder / f"{k:02d}-{source.condition.names[label]}.wav").write_bytes(wav(codes, source.domain))
    spectrograms(samples, source.domain).savefig(folder / "spectrograms.png", dpi=100)


@torch.no_grad()
def main() -> int:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--out", type=Path, default=None)
    chosen = parser.parse_args()
    run = open_run(chosen.run)
    judge, model = judge_of(run.source), run.model
    if judge is None or not isinstance(model, HasPosterior) or not isinstance(run.source.condition, Label):
        raise SystemExit(f"{chosen.run}: expected two stages on labelled recordings.")
    test = run.source.test
    x, label, _ = test.batch(torch.arange(min(chosen.count, len(test))))
    asked = torch.arange(chosen.count) % run.source.condition.count
    z = torch.cat(
        [model.encode(part, condition=given) for part, given in zip(x.split(50), label.split(50), strict=True)]
    )
    told = model.sample_prior(len(asked), asked if model.condition else None, noise.stream("spoken"))

    def sound(z: Tensor, given: Tensor, typical: bool) -> Tensor:
        parts = zip(z.split(50), given.split(50), strict=True)
        return torch.cat([
            model.decode(part, condition=c) if typical else model.generate(part, c, noise.stream("entries", k))
            for k, (part, c) in enumerate(parts)
        ])  # fmt: skip

    print(f"{run.config.model} on {run.config.data}, {len(x)} test recordings, {len(asked)} samples\n")
    print("| sounds | heard as what they are |\n|---|---|")
    print(f"| real test recordings | {right(judge, x, label)} |")
    for typical in (True, False):
        entries = "each entry the most typical" if typical else "entries drawn"
        print(f"| reconstructions, {entries} | {right(judge, sound(z, label, typical), label)} |", flush=True)
        samples = sound(told, asked, typical)
        print(f"| samples, {entries} | {right(judge, samples, asked)} |", flush=True)
        if typical and chosen.out is not None:
            write(samples[:20], asked[:20], run.source, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
