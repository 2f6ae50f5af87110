"""How fast genus trains a VAE beside a bare PyTorch loop and pythae's trainer.

All three train the network 784-400-20 on the same pictures with batches of 128, in one
process, in turn, several times; the table shows medians. The bare loop does the very same
arithmetic (precision, fused optimizer, batches gathered from memory) with nothing around:
once with the network written out by hand, once around genus' own model.

    python benchmarks/speed.py [--epochs 10] [--repeats 5] [--without-pythae]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import genus
from genus import hardware

BATCH = 128


def pictures() -> tuple[str, dict[str, Any]]:
    """MNIST where it is, else the embedded glyphs: both 28x28 grey."""
    try:
        genus.open_source("mnist")
    except genus.errors.GenusError:
        return "glyphs", {}
    return "mnist", {}


class BareVAE(nn.Module):
    """The arithmetic of the model, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.code = nn.Linear(784, 400), nn.Linear(400, 40)
        self.outside, self.out = nn.Linear(20, 400), nn.Linear(400, 784)

    def loss(self, x: Tensor) -> Tensor:
        """BCE + KL of a batch of grey pictures in [0, 1]."""
        mean, log_var = self.code(torch.relu(self.inside(x))).float().chunk(2, 1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        logits = self.out(torch.relu(self.outside(z))).float()
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)
        return (F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1) + kl).mean()


def bare(data: Tensor, steps: int, precision: str, of_genus: bool = False) -> float:
    """Images per second of the bare loop, around `BareVAE` or around genus' own model."""
    model = genus.models.VAE(genus.Grid(1, (28, 28)), decoder="grey_bce") if of_genus else BareVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    began = time.perf_counter()
    order = torch.randperm(len(data))
    for step in range(steps):
        start = step * BATCH % (len(data) - BATCH)
        x = data.index_select(0, order[start : start + BATCH])
        optimizer.zero_grad(set_to_none=True)
        with hardware.arithmetic(precision, torch.device("cpu")):
            loss = model.losses(genus.Batch(x))["loss"].mean() if of_genus else model.loss(x.float().flatten(1) / 255)
        loss.backward()
        optimizer.step()
    return steps * BATCH / (time.perf_counter() - began)


def ours(source: str, options: dict[str, Any], steps: int, precision: str) -> float:
    """Images per second of `genus train vae`: the loop with its metrics, validation and checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        run = genus.train(
            "vae", source, out=Path(folder) / "run", steps=steps, batch_size=BATCH, learning_rate=1e-3, quiet=True,
            decoder="grey_bce", precision=precision, schedule="constant", **options,
        )  # fmt: skip
        return steps * BATCH / run.training_seconds


def pythaes(data: Tensor, epochs: int) -> float:
    """Images per second of pythae's trainer, end to end."""
    import contextlib
    import io
    import logging

    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce"), *_pythae_networks())
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=epochs, learning_rate=1e-3, per_device_train_batch_size=BATCH,
            steps_saving=None, no_cuda=True,
        )  # fmt: skip
        from pythae.data.datasets import BaseDataset

        dataset = BaseDataset(data.float() / 255, torch.zeros(len(data)))
        trainer = BaseTrainer(model, train_dataset=dataset, eval_dataset=None, training_config=config)
        began = time.perf_counter()
        trainer.train()
        return epochs * len(data) / (time.perf_counter() - began)


def _pythae_networks() -> tuple[Any, Any]:
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.mean, self.log_var = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)

        def forward(self, x: Tensor) -> ModelOutput:
            h = torch.relu(self.inside(x.flatten(1)))
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.outside, self.out = nn.Linear(20, 400), nn.Linear(400, 784)

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=torch.sigmoid(self.out(torch.relu(self.outside(z)))).view(-1, 1, 28, 28))

    return Encoder(), Decoder()


def main() -> int:
    """Print the table, and a line of JSON with every single figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "fast-float32", "bfloat16"])
    parser.add_argument("--without-pythae", action="store_true")
    args = parser.parse_args()

    name, options = pictures()
    data = genus.open_source(name).train.x
    steps = args.epochs * len(data) // BATCH
    names = ["genus", "bare loop", "bare loop, genus' model", *([] if args.without_pythae else ["pythae"])]
    figures: dict[str, list[float]] = {name: [] for name in names}
    hardware.keep_large_blocks()
    bare(data, 100, args.precision)  # warm up
    for _ in range(args.repeats):
        figures["bare loop"].append(bare(data, steps, args.precision))
        figures["bare loop, genus' model"].append(bare(data, steps, args.precision, of_genus=True))
        figures["genus"].append(ours(name, options, steps, args.precision))
        if not args.without_pythae:
            figures["pythae"].append(pythaes(data, args.epochs))
    print(f"VAE 784-400-20 on {name}, batch {BATCH}, {args.epochs} epochs, {args.precision}, "
          f"{torch.get_num_threads()} threads, medians of {args.repeats} (of ratios too: pair by pair)")  # fmt: skip
    for key, values in figures.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(figures["genus"], values, strict=True))
        print(f"  {key:<24} {statistics.median(values):>10,.0f} images/s   genus / {key} = {ratio:.3f}")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
