"""genus: every family of deep generative model behind one contract.

    import genus

    run = genus.train("vae", data="digits", minutes=1)
    run.model.sample(16)  # integers 0..16, shape (16, 1, 8, 8)
    run.model.log_prob(x)  # nats, shape (B,); run.model.likelihood says of which kind

A model is a plain `torch.nn.Module` and works in anybody's own loop:

    model = genus.models.VAE(genus.Grid(1, (8, 8), levels=17), latent_features=8)
    model.losses(genus.Batch(x))["loss"].mean().backward()
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from genus import models
    from genus.api import load, open_source, train
    from genus.contract import Batch
    from genus.kinds import Grid, Label, Points, Tokens, Vectors, Waveform

__all__ = [
    "Batch",
    "Grid",
    "Label",
    "Points",
    "Tokens",
    "Vectors",
    "Waveform",
    "load",
    "models",
    "open_source",
    "train",
]

_HOME = {"Batch": "contract", "Grid": "kinds", "Label": "kinds", "Points": "kinds", "Tokens": "kinds",
         "Vectors": "kinds", "Waveform": "kinds",
         "load": "api", "train": "api", "open_source": "api"}  # fmt: skip


def __getattr__(name: str) -> Any:
    # torch takes a second or two to import; `genus --help` should not.
    import pkgutil

    if name in _HOME:
        return pkgutil.resolve_name(f"genus.{_HOME[name]}:{name}")
    if name == "models":
        return pkgutil.resolve_name("genus.models")
    raise AttributeError(f"module 'genus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
