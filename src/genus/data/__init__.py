"""Data sources: what one datum is, and three disjoint splits of it. They know domains, never models."""

from typing import TYPE_CHECKING

from genus.data.named import list_sources, open_source
from genus.data.source import DataOptions, Source, TensorSplit, data_options

if TYPE_CHECKING:
    from genus.data.show import describe, preview

__all__ = ["DataOptions", "Source", "TensorSplit", "data_options", "describe", "list_sources", "open_source", "preview"]


def __getattr__(name: str) -> object:
    if name in ("describe", "preview"):  # they need Pillow, which takes a while to import
        from genus.data import show

        return getattr(show, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
