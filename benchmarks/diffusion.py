"""How fast genus trains and samples a DDPM beside diffusers and denoising-diffusion-pytorch.

diffusers gets the very network (the folder that `genus export` writes), denoising-diffusion-pytorch its own U-Net of
the width that comes nearest in parameters (with linear attention at every level, which ours has not). Each side trains
as its users do: genus by the steps of its loop, with their running average; diffusers by those of its documentation;
denoising-diffusion-pytorch by those of its Trainer, average included. All in one process in turn, several times;
medians, and medians of ratios round by round. Sampling is 50 steps of DDIM. Peak memory is of a process of its own.
A side whose package is not there is left out (`pip install --no-deps denoising-diffusion-pytorch einops ema-pytorch`:
torchvision and accelerate, which its U-Net does not use, are replaced by empty modules).

    python benchmarks/diffusion.py [--size 28] [--channels 1] [--width 32] [--batch 32] [--steps 12] [--rounds 5]
    python benchmarks/diffusion.py --memory genus        (one side, alone)
"""

import argparse
import contextlib
import importlib.util
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import genus
from genus import hardware
from genus.data import open_source
from genus.exchange import diffusers as exchange
from genus.models.diffusion.ddpm import DDPM
from genus.prob import noise
from genus.runs.config import configure
from genus.runs.run import build
from genus.training.session import Session, View

SAMPLES, DDIM = 16, 50


def data(size: int, channels: int) -> Tensor:
    """Smooth random pictures, ``(2000, channels, size, size)`` uint8: what they show does not matter here."""
    coarse = noise.uniform((2000, channels, 7, 7), noise.stream("pictures"))
    return (255 * F.interpolate(coarse, (size, size), mode="bilinear")).to(torch.uint8)


def model_of(args: argparse.Namespace) -> DDPM:
    return DDPM(
        genus.Grid(args.channels, (args.size, args.size)), width=args.width, multipliers=(1, 2, 2), blocks=1,
        dropout=0.0, attention=(2,),
    )  # fmt: skip


def median_step(step: Callable[[], object], steps: int, before: int = 3) -> float:
    """Seconds of a step, after some to warm up."""
    for _ in range(before):
        step()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


class Genus:
    name = "genus"

    def __init__(self, args: argparse.Namespace, precision: str = "float32"):
        self.args, self.precision, self.model = args, precision, model_of(args)
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "pictures.npy"
        np.save(self.file, data(args.size, args.channels).movedim(1, -1).numpy())

    def train(self) -> float:
        """Images per second of the steps of `genus train`, between validations and checkpoints."""
        config = configure(
            "ddpm", str(self.file), recipe="paper", steps=10**6, batch_size=self.args.batch, precision=self.precision,
            width=self.args.width, multipliers=(1, 2, 2), blocks=1, attention=(2,), dropout=0.0,
        )  # fmt: skip
        source = open_source(config.data, config.data_options)
        model = build(config, source.domain, None)
        session = Session(config, View(source.train, False), View(source.validation, False), model, 10**6)
        return self.args.batch / median_step(session.take_step, self.args.steps)

    def sample(self) -> float:
        """Seconds for 16 pictures by 50 steps of DDIM."""
        return median_step(lambda: self.model.eval().sample(SAMPLES, sampler="ddim", steps=DDIM), 1, before=1)


class Diffusers:
    name = "diffusers"

    def __init__(self, args: argparse.Namespace):
        import diffusers

        with tempfile.TemporaryDirectory() as folder:
            exchange.write(model_of(args), Path(folder))
            self.net = diffusers.UNet2DModel.from_pretrained(str(Path(folder) / "unet")).train()
        self.args, self.library = args, diffusers
        self.x = data(args.size, args.channels).float() / 127.5 - 1

    def train(self) -> float:
        scheduler = self.library.DDPMScheduler(num_train_timesteps=1000)
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4)

        def step() -> None:
            clean = self.x[torch.randint(len(self.x), (self.args.batch,))]
            eps, t = torch.randn_like(clean), torch.randint(1000, (len(clean),))
            loss = F.mse_loss(self.net(scheduler.add_noise(clean, eps, t), t, return_dict=False)[0], eps)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return self.args.batch / median_step(step, self.args.steps)

    def sample(self) -> float:
        pipeline = self.library.DDIMPipeline(self.net.eval(), self.library.DDIMScheduler(num_train_timesteps=1000))
        pipeline.set_progress_bar_config(disable=True)
        seconds = median_step(
            lambda: pipeline(batch_size=SAMPLES, num_inference_steps=DDIM, output_type="np"), 1, before=1
        )
        self.net.train()
        return seconds


class DenoisingDiffusionPytorch:
    name = "denoising-diffusion-pytorch"

    def __init__(self, args: argparse.Namespace):
        for missing in ("torchvision", "torchvision.transforms", "torchvision.utils", "accelerate"):
            sys.modules.setdefault(missing, MagicMock())
        import denoising_diffusion_pytorch as library
        from ema_pytorch import EMA

        wanted = sum(p.numel() for p in model_of(args).parameters())

        def net(width: int) -> torch.nn.Module:
            return library.Unet(width, dim_mults=(1, 2, 2), channels=args.channels)

        widths = range(8, 2 * args.width, 4)
        width = min(widths, key=lambda width: abs(sum(p.numel() for p in net(width).parameters()) - wanted))
        self.net = library.GaussianDiffusion(
            net(width), image_size=args.size, objective="pred_noise", beta_schedule="linear", sampling_timesteps=DDIM
        )
        self.args, self.average = args, EMA
        self.x = data(args.size, args.channels).float() / 255

    def train(self) -> float:
        optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-4, betas=(0.9, 0.99))
        average = self.average(self.net, beta=0.995, update_every=10)

        def step() -> None:
            loss = self.net.train()(self.x[torch.randint(len(self.x), (self.args.batch,))])
            loss.item()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            average.update()

        return self.args.batch / median_step(step, self.args.steps)

    def sample(self) -> float:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            return median_step(lambda: self.net.eval().sample(batch_size=SAMPLES), 1, before=1)


SIDES = {side.name: side for side in (Genus, Diffusers, DenoisingDiffusionPytorch)}


def there(name: str) -> bool:
    """Whether a side's package is installed."""
    return name == "genus" or importlib.util.find_spec(name.replace("-", "_")) is not None


def main() -> int:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", nargs="+", default=list(filter(there, SIDES)), choices=list(SIDES))
    parser.add_argument("--memory", choices=list(SIDES), default=None)
    args = parser.parse_args()
    hardware.keep_large_blocks()
    if args.memory:
        SIDES[args.memory](args).train()
        # Linux's own figure: that of getrusage begins with the parent's peak
        status = Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
        return 0
    sides = [SIDES[name](args) for name in args.sides]
    trained: dict[str, list[float]] = {side.name: [] for side in sides}
    sampled: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(args.rounds):
        for side in sides:
            trained[side.name].append(side.train())
            sampled[side.name].append(side.sample())
    own = trained["genus"], sampled["genus"]
    shape = f"{args.channels}x{args.size}x{args.size}"
    print(f"{shape}, batch {args.batch}, {torch.get_num_threads()} threads, {args.rounds} rounds\n")
    print("| | parameters | trained images/s | genus / it | 16 samples, s | it / genus | peak memory, MiB |")
    print("|---|---|---|---|---|---|---|")
    for side in sides:
        net = side.model if isinstance(side, Genus) else side.net
        faster = statistics.median(a / b for a, b in zip(own[0], trained[side.name], strict=True))
        quicker = statistics.median(b / a for a, b in zip(own[1], sampled[side.name], strict=True))
        command = [sys.executable, __file__, *sys.argv[1:], "--memory", side.name]
        memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
        rate, seconds = statistics.median(trained[side.name]), statistics.median(sampled[side.name])
        count = sum(p.numel() for p in net.parameters())
        print(f"| {side.name} | {count:,} | {rate:.1f} | {faster:.2f} | {seconds:.2f} | {quicker:.2f} | {memory} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
