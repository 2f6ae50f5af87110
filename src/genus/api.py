"""The Python interface: the same words as the command line."""

from pathlib import Path
from typing import Any

import torch

from genus import data as sources
from genus.data import DataOptions, Source
from genus.runs import Run, open_run
from genus.training import configure
from genus.training import train as train_run


def train(
    model: str,
    data: str | None = None,
    *,
    out: str | Path | None = None,
    recipe: str = "quick",
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    seed: int = 0,
    conditional: bool = False,
    quiet: bool = False,
    strict: bool = False,
    **settings: Any,
) -> Run:
    """Train a model on a data source, in a run folder; the same call again resumes.

    Args:
        model: A registry name, e.g. ``"vae"`` (``genus models`` lists them); or two stages, the second of
            the first's latents: ``"vqvae+gated_pixelcnn"``.
        data: A named source, the path of a file or folder, or ``"run:PATH"``: the codes of a run.
        out: The run folder; by default one under ``runs/`` named after the configuration.
        recipe: One of the model's recipes: ``"quick"`` or ``"paper"``.
        steps: Training length in steps. At most one of steps, epochs, minutes.
        epochs: Training length in passes over the training split.
        minutes: Training length in minutes on this machine.
        seed: Everything random is a function of it.
        conditional: Model the data given its label.
        quiet: Show no progress.
        strict: Refuse to fall back to an older checkpoint where the newest is damaged.
        settings: Any setting of the model, field of the recipe, option of the data or of the
            run, by its own name, e.g. ``latent_features=8, batch_size=64, size=16, workers=2``. Of two
            stages, a stage's own have its name before them (``**{"vqvae.codes": 64}``); ``share`` is the
            first stage's part of the budget, ``first`` the path of a finished run that is the first stage
            (then ``data`` are that run's).

    Returns:
        The finished `Run`: ``run.model``, ``run.sample(16)``, ``run.metrics``.

    Raises:
        GenusError: one sentence on what was expected, what came and what to do.
    """
    adopted = {"first": settings["first"]} if "first" in settings else {}
    config = configure(
        model, data, recipe=recipe, steps=steps, epochs=epochs, minutes=minutes, seed=seed, conditional=conditional,
        **settings,
    )  # fmt: skip
    return train_run(config, out, quiet=quiet, strict=strict, **adopted)


def open_source(source: str, options: DataOptions | None = None) -> Source:
    """Open a named set, a file or folder by its path, or the codes of a run (``run:PATH``).

    Raises `GenusError`: one sentence on what was expected, what came and what to do.
    """
    return sources.open_source(source, options)


def load(path: str | Path, device: torch.device | str = "cpu") -> Run:
    """Open a run folder, its model on ``device``. Raises `CheckpointError` if it is none or is damaged."""
    return open_run(path, device)
