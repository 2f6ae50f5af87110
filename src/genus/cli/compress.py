"""genus compress RUN FILE"""

import dataclasses
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from genus.cli import flags
from genus.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from genus.runs import Run

DRAWS = 16  # of the ELBO, for each datum
ABOUT = """Code data without loss, as short as the run's likelihood or bound says.

examples:
  genus compress runs/nade-... pictures.npy             writes pictures.npy.gnsz
  genus compress runs/nade-... folder                   pictures of the run's size, in the order of their names
  genus compress runs/nade-... --split test --limit 1000 --out test.gnsz
  genus decompress runs/nade-... pictures.npy.gnsz      and back, with the same run

Any model with an exact likelihood of discrete data, entry by entry, can do it: nade, markov, histogram, ...;
and models with latents do it by bits-back coding, near to their bound: vae, iwae, ...
The run is the code book: keep it. docs/compression.md says what is guaranteed."""


@dataclasses.dataclass
class CompressFlags:
    """What to compress, and where to."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    file: tyro.conf.Positional[Path | None] = None
    """An .npy, .npz or IDX file, a WAV or FLAC recording, or a folder of pictures; all of the run's domain."""
    split: Literal["train", "validation", "test"] | None = None
    """Instead of a file, a split of the data that the run was trained on."""
    limit: int | None = None
    """The first so many items only."""
    out: Path | None = None
    """The file to write (default: FILE.gnsz, or RUN/SPLIT.gnsz)."""
    block: int | None = None
    """Data worked off side by side (default: 128; bits back: 16): more is faster and takes more memory."""
    rivals: bool = True
    """Also print what PNG, WebP, FLAC and xz make of the same data; takes a while for many."""


def main(arguments: list[str]) -> int:
    """Write the file, and print its size beside what the likelihood says and what others take."""
    chosen = flags.parse(CompressFlags, arguments or ["--help"], "genus compress", ABOUT)

    from genus.compress import compress
    from genus.runs import open_run

    run = open_run(chosen.run)
    with flags.warnings_told():
        x, labels = _data(run, chosen)
    out = chosen.out or (run.path / f"{chosen.split}.gnsz" if chosen.file is None else _beside(chosen.file))
    before = time.perf_counter()
    content = compress(run, x, labels, block=chosen.block)
    seconds = time.perf_counter() - before
    part = out.with_name(f".{out.name}.part")
    part.write_bytes(content)
    part.replace(out)
    _show(run, x, labels, content, chosen.rivals)
    print(f"{out}  {len(x):,} data in {seconds:.1f} s")
    return 0


def _beside(file: Path) -> Path:
    return file.resolve().with_name(f"{file.resolve().name}.gnsz")


def _data(run: "Run", chosen: CompressFlags) -> tuple["Tensor", "Tensor | None"]:
    """The items to compress, and their labels if the run needs them."""
    import torch

    from genus.compress.archive import codable
    from genus.compress.items import read_items

    codable(run.model)
    if (chosen.file is None) == (chosen.split is None):
        raise SettingsError("expected a file or folder to compress, or --split; one of the two.")
    if chosen.limit is not None and chosen.limit < 1:
        raise SettingsError(f"--limit: expected 1 or more; got {chosen.limit}.")
    if chosen.file is not None:
        x, labels = read_items(chosen.file, run.domain)
    else:
        split = run.source.splits[str(chosen.split)]
        x, labels, _ = split.batch(torch.arange(len(split)))
    if run.condition is None:
        labels = None
    elif labels is None:
        raise SettingsError(f"{run.path} was trained on labels: give an .npz file of x and the labels y.")
    return x[: chosen.limit], None if labels is None else labels[: chosen.limit]


def _show(run: "Run", x: "Tensor", labels: "Tensor | None", content: bytes, with_rivals: bool) -> None:
    from genus.compress.container import unpack
    from genus.compress.rivals import rivals

    size, words = len(content), unpack(content, "the file").header.initial
    bits = _information(run, x, labels, 0 if words is None else DRAWS)
    name, initial = ("-log2 p(x)", 0) if words is None else ("-ELBO", 4 * words)
    rows = {"this file": float(size)} | ({"of it initial bits": initial} if initial else {}) | {name: bits / 8}
    if with_rivals and run.domain.discrete:
        rows |= rivals(x, run.domain)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "bytes", "bits/dim", "of this file"):
        table.add_column(column, justify="left" if not column else "right")
    for row, count in rows.items():
        table.add_row(row, f"{count:,.0f}", f"{8 * count / x.numel():.4f}", f"{count / size:.3f}")
    console = Console()
    console.print(table)
    gap = size - initial - bits / 8
    share = f" ({100 * gap / (bits / 8):+.2f} %)" if 0 < bits < math.inf else ""
    between = f"the file and {name}"
    if initial:
        between = f"the file less its initial bits, {8 * (size - initial) / len(x):,.2f} bits a datum, and {name}"
    console.print(f"gap: {gap:+,.0f} bytes{share} between {between}", highlight=False, soft_wrap=True)


def _information(run: "Run", x: "Tensor", labels: "Tensor | None", draws: int) -> float:
    """``-log2 p`` of the data by `log_prob`, or with ``draws`` the mean of so many of -ELBO by `log_weight` (and of
    labels that are all alike); not by the coder."""
    import torch

    from genus.prob import noise

    model, nats, generator = run.model, 0.0, noise.stream("compress")
    with torch.no_grad():
        for index in torch.arange(len(x)).split(256) * max(1, draws):
            label = None if labels is None else labels[index]
            if draws:
                q = model.posterior(x[index], label)
                log_p = model.log_weight(x[index], q.sample(1, generator), q, label)[0] / draws
            else:
                log_p = model.log_prob(x[index], condition=label)
            nats -= float(log_p.double().sum())
    known = 0.0 if labels is None else len(x) * math.log2(model.condition.count)  # type: ignore[union-attr]
    return nats / math.log(2) + known
