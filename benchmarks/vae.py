"""How fast genus trains a VAE and a VQ-VAE beside pythae, each with its own trainer.

Equal networks (the table says how many parameters each has), the same pictures in memory, the same
batch, Adam, float32. The VAE is 784-400-20. The VQ-VAE has strided convolutions to a quarter of the
size, two residual blocks on either side, and a codebook that learns by running means; both sum squared
errors. pythae gets the same layers, written plainly, as its users do. All are trained in one process in
turn, several times (A B C A B C ...); the table shows medians, and medians of ratios round by round.
Rows with another precision show what genus offers besides: pythae has no such setting on a CPU.

    python benchmarks/vae.py [--models vae vqvae] [--batches 128 512] [--images 10000] [--rounds 5] [--seconds 4]
"""

import argparse
import contextlib
import io
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VQVAE, VAEConfig, VQVAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

import genus
from genus import hardware
from genus.data import DataOptions
from speed import _pythae_networks, pictures

CODES, FEATURES, HIDDEN, INNER = 512, 64, 64, (32, 32)
SETTINGS: dict[str, dict[str, Any]] = {
    "vae": {"latent_features": 20, "hidden": (400,), "decoder": "grey_bce"},
    "vqvae": {
        "codes": CODES, "code_features": FEATURES, "hidden": HIDDEN, "residual": INNER, "downsample": 2,
        "decoder": "mse", "codebook": "ema",
    },
}  # fmt: skip


# -- pythae's side ----------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, inner, 3, padding=1), nn.ReLU(), nn.Conv2d(inner, channels, 1)
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.layers(h)


class Encoder(BaseEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, HIDDEN // 2, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(HIDDEN // 2, HIDDEN, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            *(Residual(HIDDEN, inner) for inner in INNER),
            nn.ReLU(), nn.Conv2d(HIDDEN, FEATURES, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> ModelOutput:
        return ModelOutput(embedding=self.layers(x))


class Decoder(BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(FEATURES, HIDDEN, 3, padding=1),
            *(Residual(HIDDEN, inner) for inner in INNER),
            nn.ReLU(), nn.ConvTranspose2d(HIDDEN, HIDDEN // 2, 4, 2, 1),
            nn.ReLU(), nn.ConvTranspose2d(HIDDEN // 2, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(z))


def pythaes_model(name: str) -> nn.Module:
    shape = (1, 28, 28)
    if name == "vae":
        return VAE(VAEConfig(input_dim=shape, latent_dim=20, reconstruction_loss="bce"), *_pythae_networks())
    config = VQVAEConfig(input_dim=shape, latent_dim=FEATURES, num_embeddings=CODES, use_ema=True, decay=0.99)
    return VQVAE(config, Encoder(), Decoder())


def pythaes(name: str, x: Tensor, batch: int, epochs: int) -> float:
    """Images per second of pythae's trainer."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=epochs, learning_rate=1e-3, per_device_train_batch_size=batch,
            steps_saving=None, no_cuda=True,
        )  # fmt: skip
        trainer = BaseTrainer(pythaes_model(name), BaseDataset(x, torch.zeros(len(x))), training_config=config)
        began = time.perf_counter()
        trainer.train()
        return epochs * len(x) / (time.perf_counter() - began)


# -- our side ---------------------------------------------------------------------------


def ours(name: str, source: str, images: int, batch: int, epochs: int, precision: str) -> float:
    """Images per second of `genus train`: the loop with its metrics, validation and checkpoints."""
    steps = max(1, epochs * images // batch)
    with tempfile.TemporaryDirectory() as folder:
        run = genus.train(
            name, source, out=Path(folder) / "run", recipe="paper", steps=steps, batch_size=batch, learning_rate=1e-3,
            precision=precision, limit=images, quiet=True, **SETTINGS[name],
        )  # fmt: skip
        return steps * batch / run.training_seconds


def our_model(name: str) -> nn.Module:
    return getattr(genus.models, name.upper())(genus.Grid(1, (28, 28)), **SETTINGS[name])


# -- the table --------------------------------------------------------------------------


def epochs_for(measure: Callable[[int], float], images: int, seconds: float) -> int:
    """How many epochs take about so long; the first call also warms up."""
    return max(1, round(seconds * measure(1) / images))


def compare(name: str, source: str, x: Tensor, batch: int, args: argparse.Namespace) -> dict[str, list[float]]:
    """Rates of every round, by row."""
    epochs = epochs_for(lambda n: pythaes(name, x, batch, n), len(x), args.seconds)
    rows: dict[str, Callable[[], float]] = {"pythae, float32": lambda: pythaes(name, x, batch, epochs)}
    for precision in args.precisions:
        rows[f"genus, {precision}"] = lambda p=precision: ours(name, source, len(x), batch, epochs, p)
        rows[f"genus, {precision}"]()  # warm up
    rates: dict[str, list[float]] = {row: [] for row in rows}
    for _ in range(args.rounds):
        for row, measure in rows.items():
            rates[row].append(measure())
    its, own = (sum(p.numel() for p in model.parameters()) for model in (pythaes_model(name), our_model(name)))
    print(f"\n{name} on {len(x):,} pictures of {source}, batch {batch}, {epochs} epochs a round, {args.rounds} rounds, "
          f"{torch.get_num_threads()} threads; parameters: genus {own:,}, pythae {its:,}")  # fmt: skip
    for row, values in rates.items():
        ratio = statistics.median(own / its for own, its in zip(values, rates["pythae, float32"], strict=True))
        print(f"  {row:<22}{statistics.median(values):>10,.0f} images/s   {ratio:.2f} times pythae", flush=True)
    return rates


def main() -> int:
    """Print a table for each model and batch, and a line of JSON with every single figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["vae", "vqvae"], choices=list(SETTINGS))
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--precisions", nargs="+", default=["float32", "fast-float32", "bfloat16"])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of pythae's training in each round")
    args = parser.parse_args()

    logging.disable(logging.WARNING)
    hardware.keep_large_blocks()
    source, _ = pictures()
    x = genus.open_source(source, DataOptions(limit=args.images)).train.x.float() / 255
    figures = {f"{name}, batch {batch}": compare(name, source, x, batch, args)
               for name in args.models for batch in args.batches}  # fmt: skip
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
