"""One file a paper, one folder a family. `genus.models.VAE` finds a class by its name."""

from typing import Any


def __getattr__(name: str) -> Any:
    from genus import registry

    for key in registry.names():
        if key.replace("_", "") == name.lower():
            return registry.get(key)
    raise AttributeError(f"genus.models has no model {name!r}")
