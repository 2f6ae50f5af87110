"""What the picture options make of a source: its pictures and, where they are pictures as well, its conditions."""

from dataclasses import replace

import torch
from torch import Generator, Tensor

from genus.data.source import DataOptions, Source, TensorSplit, Transform, limited
from genus.errors import SettingsError
from genus.kinds import Domain, Grid, grid_of
from genus.prob import noise


def as_asked(source: Source, options: DataOptions) -> Source:
    """The picture options and the limit, applied to any source; each leaves its mark in the name.

    A condition that is a picture goes with its datum: it is resized with it where both have one shape (an outline,
    a copy at a quarter of the side: the ratio stays), and recoloured where it has as many channels and levels.
    Binarizing is for the data alone.
    """
    if options.limit is not None:
        name, limit = limited(source.name, map(len, source.splits.values()), options.limit), options.limit
        source = replace(source.with_splits(lambda split: split.first(limit)), name=name)
    if (grid := grid_of(source.domain)) and options.colour is not None:
        source = _coloured(source, grid, {"grey": 1, "rgb": 3}[options.colour])
    if (grid := grid_of(source.domain)) and options.size is not None:
        source = _resized(source, grid, options.size)
    if (grid := grid_of(source.domain)) and options.binarize is not None:
        source = _binarized(source, grid, options.binarize == "dynamic")
    return source


def _coloured(source: Source, grid: Grid, channels: int) -> Source:
    if channels == grid.channels:
        return source
    given, beside = source.condition, grid_of(source.condition)
    follows = beside is not None and beside.is_picture and beside.ordered
    follows = follows and (beside.channels, beside.levels) == (grid.channels, grid.levels)  # type: ignore[union-attr]

    def change(split: TensorSplit) -> TensorSplit:
        y = with_channels(split.condition, channels) if follows and split.condition is not None else split.condition
        return replace(split, x=with_channels(split.x, channels), condition=y)

    note = "in grey" if channels == 1 else f"{channels} channels"
    condition = replace(given, channels=channels) if follows else given  # type: ignore[type-var]
    return source.with_splits(change, note, replace(grid, channels=channels), condition)


def _resized(source: Source, grid: Grid, size: int) -> Source:
    if set(grid.size[-2:] if grid.is_clip else grid.size) == {size}:
        return source
    if not grid.is_picture:
        raise SettingsError(f"{source.name}: the option 'size' fits pictures; got {grid}.")
    given = _beside(source.condition, grid, size, source.name)

    def change(split: TensorSplit) -> TensorSplit:
        y = split.condition
        if given is not source.condition and (beside := grid_of(given)) and y is not None:
            y = resize(y, beside.size[0], beside.ordered)
        return replace(split, x=resize(split.x, size), condition=y)

    return source.with_splits(change, f"{size}x{size}", replace(grid, size=(size, size)), given)


def _beside(given: Domain | None, grid: Grid, size: int, name: str) -> Domain | None:
    """The condition of pictures of ``grid`` when these become ``size x size``."""
    beside = grid_of(given)
    if beside is None or not beside.is_picture:
        return given
    (height, width), (h, w) = grid.size, beside.size
    if height * w != width * h:  # of another shape: no copy of the datum
        return given
    side, rest = divmod(size * min(h, w), min(height, width))
    if rest or not side:
        raise SettingsError(
            f"{name}: the condition has {h}x{w} pixels for {height}x{width} of the data, which {size}x{size} cannot "
            f"keep; give a size that is a multiple of {min(height, width) // min(h, w)}."
        )
    return replace(beside, size=(side, side))


def _binarized(source: Source, grid: Grid, dynamic: bool) -> Source:
    if grid.levels == 2:
        raise SettingsError(f"{source.name} is binary already; leave out the option 'binarize'.")
    levels, grid = grid.levels, replace(grid, levels=2)
    if dynamic:
        drawn = dynamic_binarization(levels)
        return source.with_splits(lambda split: replace(split, transform=drawn), "binarized dynamically", grid)
    return source.with_splits(
        lambda split: replace(split, x=(split.x >= levels / 2).to(torch.uint8)), "thresholded", grid
    )


def dynamic_binarization(levels: int) -> Transform:
    """Each pixel is 1 with probability ``grey value / (levels - 1)``
    (Salakhutdinov & Murray 2008. On the quantitative analysis of deep belief networks)."""

    def binarize(x: Tensor, generator: Generator | None) -> Tensor:
        return noise.bernoulli(x.float() / (levels - 1), generator).to(torch.uint8)

    return binarize


def with_channels(x: Tensor, channels: int) -> Tensor:
    """Pictures ``(N, C, H, W)`` in grey (luma of ITU-R BT.601) or with the grey channel repeated."""
    if channels == x.shape[1]:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, *x.shape[2:]).contiguous()
    if channels != 1 or x.shape[1] != 3:
        raise SettingsError(f"pictures of {x.shape[1]} channels cannot be turned into {channels}.")
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, *(1,) * (x.ndim - 2))
    return torch.cat([(block.float() * luma).sum(1, keepdim=True).round().to(x.dtype) for block in x.split(4096)])


def resize(x: Tensor, size: int, ordered: bool = True) -> Tensor:
    """Pictures ``(N, C, H, W)`` cut to the central square, resized with antialiasing to ``size x size``; codes without
    an order have nothing in between, and take the nearest."""
    if not len(x):
        return x.new_empty((0, x.shape[1], size, size))
    height, width = x.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    x = x[..., top : top + side, left : left + side]
    if not ordered:
        return torch.nn.functional.interpolate(x.float(), (size, size), mode="nearest-exact").to(x.dtype)
    blocks = [
        torch.nn.functional.interpolate(block.float(), (size, size), mode="bilinear", antialias=True)
        .round()
        .to(x.dtype)
        for block in x.split(4096)
    ]
    return torch.cat(blocks)
