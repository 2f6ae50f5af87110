"""Lossless compression with a model: the file is as short as the model's ``-log2 p(x)``."""

from genus.compress.archive import compress, decompress

__all__ = ["compress", "decompress"]
