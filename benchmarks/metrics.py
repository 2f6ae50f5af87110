"""Every metric of genus beside a reference on the same data: values, relative difference, time.

The references: prdc, torch-fidelity and pytorch-fid where they are installed (their formulas
alone, no network is loaded), forms written out from the definitions, and scipy. The equal
items of the two sides are float64; a reference in float32 is marked.

    python benchmarks/metrics.py [--items 500] [--size 64]
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import mannwhitneyu, norm
from torch import Tensor

from genus.evaluate.fidelity import density_coverage, frechet, kernel_distance, precision_recall
from genus.evaluate.memorisation import data_copying
from genus.evaluate.shapes import emd_matrix, jsd, set_metrics
from genus.geometry.clouds import chamfer_matrix
from genus.prob import noise

Line = tuple[str, Callable[[], Sequence[float]], str, Callable[[], Sequence[float]]]


def _stand_in(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def library(name: str) -> types.ModuleType | None:
    """A module of formulas; torchvision, which pytorch-fid and torch-fidelity import but the formulas do
    not need, is stood in for where it is missing."""
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        for part in ("", ".transforms", ".transforms.functional", ".models", ".models.inception", ".datasets"):
            missing = f"torchvision{part}"
            stand_in: Any = types.ModuleType(missing)
            stand_in.__path__ = []
            stand_in.__getattr__ = _stand_in
            sys.modules[missing] = stand_in
            parent, _, name_there = missing.rpartition(".")
            if parent:
                setattr(sys.modules[parent], name_there, stand_in)
    try:
        return importlib.import_module(name)
    except Exception as error:  # another's package may fail in any way
        print(f"left out: {name} ({type(error).__name__}: {error})")
        return None


def feature_lines(items: int, size: int) -> Iterator[Line]:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(size, size)) / size  # a few directions hold most of the variance, as in features
    mix *= 1 / np.arange(1, size + 1)[:, None]
    real, fake = rng.normal(size=(items, size)) @ mix, 0.98 * rng.normal(size=(items, size)) @ mix + 0.3 * mix[0]
    moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in (real, fake)]
    (m, s), (n, t) = moments

    def root() -> list[float]:
        return [float(((m - n) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real))]

    def kernel() -> list[float]:
        k = [((x @ y.T) / size + 1) ** 3 for x, y in ((real, real), (fake, fake), (real, fake))]
        inside = sum(part.sum() - np.trace(part) for part in k[:2]) / (items * (items - 1))
        return [inside - 2 * k[2].mean()]

    def counting() -> list[float]:
        across = cdist(real, fake)
        reals, fakes = (np.sort(cdist(x, x), 1) for x in (real, fake))
        inside, wide = across < reals[:, 3:4], across < reals[:, 5:6]
        return [
            inside.any(0).mean(),
            (across < fakes[:, 3]).any(1).mean(),
            wide.sum() / (5 * items),
            wide.any(1).mean(),
        ]

    ours = {
        "Fréchet": lambda: [frechet(real, fake)],
        "kernel (KID)": lambda: [kernel_distance(real, fake)[0]],
        "prec rec dens cov": lambda: [*precision_recall(real, fake), *density_coverage(real, fake)],
    }
    yield "Fréchet", ours["Fréchet"], "scipy sqrtm, float64", root
    if fid := library("pytorch_fid.fid_score"):
        yield "Fréchet", ours["Fréchet"], "pytorch-fid", lambda: [fid.calculate_frechet_distance(m, s, n, t)]
    if metric_fid := library("torch_fidelity.metric_fid"):
        stats = [{"mu": mean, "sigma": covariance} for mean, covariance in moments]
        key = "frechet_inception_distance"
        yield (
            "Fréchet",
            ours["Fréchet"],
            "torch-fidelity",
            lambda: [metric_fid.fid_statistics_to_metric(*stats, verbose=False)[key]],
        )
    yield "kernel (KID)", ours["kernel (KID)"], "all pairs", kernel
    if metric_kid := library("torch_fidelity.metric_kid"):
        settings = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_coef0": 1.0}

        def mmd() -> list[float]:
            k = [metric_kid.kernel_poly(x, y, **settings) for x, y in ((real, real), (real, fake), (fake, fake))]
            return [metric_kid.mmd2(*k)]

        yield "kernel (KID)", ours["kernel (KID)"], "torch-fidelity", mmd
    yield "prec rec dens cov", ours["prec rec dens cov"], "written out", counting
    if prdc := library("prdc"):

        def at_both() -> list[float]:
            with contextlib.redirect_stdout(io.StringIO()):
                near, wide = (prdc.compute_prdc(real, fake, nearest_k=k) for k in (3, 5))
            return [near["precision"], near["recall"], wide["density"], wide["coverage"]]

        yield "prec rec dens cov", ours["prec rec dens cov"], "prdc", at_both
    if metric_prc := library("torch_fidelity.metric_prc"):

        def both() -> Sequence[float]:
            return metric_prc.calculate_precision_recall_full(torch.from_numpy(fake), torch.from_numpy(real), 3)

        yield "prec rec", lambda: precision_recall(real, fake), "torch-fidelity", both


def written_out(x: Tensor, y: Tensor) -> float:
    d = cdist(x.numpy(), y.numpy(), "sqeuclidean")
    return float(d.min(0).mean() + d.min(1).mean())


def assigned(x: Tensor, y: Tensor) -> float:
    d = cdist(x.numpy(), y.numpy())
    return float(d[linear_sum_assignment(d)].mean())


def sets_of(s: Tensor, r: Tensor, form: Callable[[Tensor, Tensor], float]) -> list[float]:
    d = np.array([[form(x, y) for y in [*s, *r]] for x in [*s, *r]])
    count = len(s)
    across = d[:count, count:]
    np.fill_diagonal(d, np.inf)
    right = (d.argmin(1) < count) == (np.arange(2 * count) < count)
    return [across.min(0).mean(), len(set(across.argmin(1))) / count, right.mean()]


def cloud_lines(clouds: int = 30, points: int = 64) -> Iterator[Line]:
    s, r = (noise.normal((clouds, points, 3), noise.stream(key)).double() * 0.15 for key in ("s", "r"))
    r = r * 1.1

    def sets(name: str) -> list[float]:
        found = {score.name: score.value for score in set_metrics(s, r)}
        return [found[f"{key}-{name}"] for key in ("MMD", "COV", "1-NNA")]

    def occupied() -> list[float]:
        axis = np.linspace(-0.5, 0.5, 28)
        cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        cells = cells[np.linalg.norm(cells, axis=1) <= 0.5]
        shares = [np.bincount(cdist(x.reshape(-1, 3), cells).argmin(1), minlength=len(cells)) for x in (s, r)]
        return [float(jensenshannon(*shares, base=2) ** 2)]

    def pairs(form: Callable[[Tensor, Tensor], float]) -> list[float]:
        return [form(x, y) for x in s for y in r]

    single = "all pairs of points"
    yield "Chamfer", lambda: chamfer_matrix(s, r).flatten().tolist(), single, lambda: pairs(written_out)
    yield (
        "Chamfer, float32",
        lambda: chamfer_matrix(s.float(), r.float()).flatten().tolist(),
        single,
        lambda: pairs(written_out),
    )
    yield "EMD", lambda: emd_matrix(s, r).flatten().tolist(), "scipy's assignment", lambda: pairs(assigned)
    yield "MMD COV 1-NNA (CD)", lambda: sets("CD"), "written out", lambda: sets_of(s, r, written_out)
    yield "MMD COV 1-NNA (EMD)", lambda: sets("EMD"), "written out", lambda: sets_of(s, r, assigned)
    yield "JSD", lambda: [jsd(s, r, compat="luo2021").value], "scipy jensenshannon", occupied


def copying_lines(items: int) -> Iterator[Line]:
    rng = np.random.default_rng(1)
    samples, unseen = rng.gamma(3, size=items), rng.gamma(3.3, size=items)
    cells = [rng.integers(5, size=items) for _ in range(2)]

    def by_scipy() -> list[float]:
        total = 0.0
        for cell in range(5):
            a, b = samples[cells[0] == cell], unseen[cells[1] == cell]
            test = mannwhitneyu(a, b, alternative="less", use_continuity=False, method="asymptotic")
            total += len(b) / items * norm.ppf(test.pvalue)
        return [total]

    found = lambda: [(data_copying(samples, cells[0], unseen, cells[1]) or (np.nan,))[0]]  # noqa: E731
    yield "C_T", found, "scipy mannwhitneyu", by_scipy


def timed(form: Callable[[], Sequence[float]]) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    return np.asarray(form(), np.float64), time.perf_counter() - start


def main() -> int:
    """Print the table; exit 1 where a metric differs from a reference."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--size", type=int, default=64)
    chosen = parser.parse_args()
    lines = [*feature_lines(chosen.items, chosen.size), *cloud_lines(), *copying_lines(chosen.items)]
    heads = "ours", "reference", "rel. diff.", "ours, ms", "ref., ms"
    print(f"{'metric':<21}{'reference':<22}" + "".join(f"{head:>12}" for head in heads))
    wrong = 0
    for name, ours, reference, form in lines:
        (a, mine), (b, theirs) = timed(ours), timed(form)
        difference = float((abs(a - b) / np.maximum(abs(b), 1e-12)).max())
        wrong += difference > (1e-3 if "float32" in name else 1e-6)
        print(
            f"{name:<21}{reference:<22}{a.ravel()[0]:>12.6g}{b.ravel()[0]:>12.6g}{difference:>12.1e}"
            f"{1e3 * mine:>12.1f}{1e3 * theirs:>12.1f}"
        )
    print("all agree" if not wrong else f"{wrong} differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
