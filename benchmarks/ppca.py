"""Probabilistic PCA on MNIST: the known figures, scikit-learn's score, and a linear VAE that must reach it.

All are fitted to the 60,000 digits for training and scored on the 10,000 for testing. The first table is
of the digits themselves: bits/dim with uniform dequantization, sigma^2 of (x + u) / 256. The second is of
one draw of (x + u) / 256, the same for all three, in nats of its density. scikit-learn divides the
covariance by N - 1, which is undone. The linear VAE (no hidden layers, one scale for all pixels) is the
same family of distributions with another way to find the maximum: its bound on the training digits may come near
the exact likelihood of ppca, but not above it.

    python benchmarks/ppca.py [--latents 50 200] [--linear 50] [--steps 4000] [--threads 2]
"""

import argparse
import json
import math
import sys
import time

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from genus.contract import Batch, batches
from genus.data import open_source
from genus.data.source import DataOptions, TensorSplit
from genus.kinds import Vectors
from genus.models.latent.ppca import PPCA
from genus.models.latent.vae import VAE
from genus.prob import noise

PIXELS, LEVELS = 784, 256


def dequantized(x: Tensor, name: str) -> Tensor:
    """(x + u) / 256 as rows of float32."""
    return (x.flatten(1) + noise.uniform((len(x), PIXELS), noise.stream("benchmark", name))) / LEVELS


@torch.no_grad()
def mean_log_prob(model: PPCA | VAE, x: Tensor) -> float:
    """Of all data, in nats: ppca's is exact, a VAE's the ELBO with one draw a datum."""
    parts = batches(TensorSplit(x, None), 1000)
    nats = [model.log_prob(batch.x, generator=noise.stream("elbo", k)).double() for k, batch in enumerate(parts)]
    return float(torch.cat(nats).mean())


def fitted(model: PPCA, x: Tensor) -> tuple[PPCA, float]:
    """The model after its fit, and the seconds that it took."""
    began = time.perf_counter()
    model.fit(TensorSplit(x, None))
    return model, time.perf_counter() - began


def score_of_sklearn(train: Tensor, test: Tensor, latents: int) -> tuple[float, float]:
    """scikit-learn's mean log-likelihood of the test rows with the covariance divided by N, and its seconds."""
    began = time.perf_counter()
    pca = PCA(latents, svd_solver="covariance_eigh").fit(train.double().numpy())
    seconds = time.perf_counter() - began
    scale = (len(train) - 1) / len(train)
    pca.explained_variance_ *= scale
    pca.noise_variance_ *= scale
    return float(np.mean(pca.score_samples(test.double().numpy()))), seconds


def trained(model: VAE, x: Tensor, steps: int, size: int = 250, rate: float = 1e-2) -> VAE:
    """The linear VAE after ``steps`` of Adam with a cosine rate."""
    model.initialise(TensorSplit(x, None))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    per_epoch = len(x) // size
    for step in range(steps):
        if step % per_epoch == 0:
            order = noise.permutation(len(x), noise.stream("order", step))
        items = order[size * (step % per_epoch) :][:size]
        loss = model.losses(Batch(x[items]), noise.stream("draws", step))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def main() -> int:
    """Print both tables, and a line of JSON with every figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latents", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--linear", type=int, nargs="*", default=[50], help="of these, also train a linear VAE")
    parser.add_argument("--steps", type=int, default=4000, help="of the linear VAE")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = open_source("mnist", DataOptions(holdout=0))
    raw, raw_test = (part.batch(torch.arange(len(part))).x for part in (source.train, source.test))
    train, test = dequantized(raw, "train"), dequantized(raw_test, "test")
    figures: dict[int, dict[str, float]] = {}
    for latents in args.latents:
        of = figures[latents] = {}
        model, of["seconds"] = fitted(PPCA(source.domain, latent_features=latents), raw)
        of["bits/dim"] = -mean_log_prob(model, raw_test) / (PIXELS * math.log(2))
        of["sigma^2"] = float(model.variance) / LEVELS**2
        print(f"ppca K = {latents:<3}  test {of['bits/dim']:.4f} bits/dim, sigma^2 {of['sigma^2']:.6f}, "
              f"fitted in {of['seconds']:.1f} s", flush=True)  # fmt: skip
        rows, _ = fitted(PPCA(Vectors(PIXELS), latent_features=latents), train)
        of["train nats"], of["test nats"] = mean_log_prob(rows, train), mean_log_prob(rows, test)
        of["sklearn test nats"], of["sklearn seconds"] = score_of_sklearn(train, test, latents)
        print(f"  one draw     train {of['train nats']:.4f} nats, test {of['test nats']:.4f}; scikit-learn's score "
              f"{of['sklearn test nats']:.4f}, fitted in {of['sklearn seconds']:.1f} s", flush=True)  # fmt: skip
        if latents in args.linear:
            torch.manual_seed(0)
            began = time.perf_counter()
            linear = VAE(Vectors(PIXELS), latent_features=latents, hidden=(), decoder="gaussian", scale="shared")
            trained(linear, train, args.steps)
            of["vae seconds"] = time.perf_counter() - began
            of["vae train nats"], of["vae test nats"] = mean_log_prob(linear, train), mean_log_prob(linear, test)
            gap = of["train nats"] - of["vae train nats"]
            print(f"  linear VAE   train >= {of['vae train nats']:.4f} nats, test >= {of['vae test nats']:.4f}: on "
                  f"train {gap:.4f} nats, {gap / abs(of['train nats']):.3%}, below ppca; "
                  f"{args.steps:,} steps in {of['vae seconds']:.0f} s", flush=True)  # fmt: skip
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
