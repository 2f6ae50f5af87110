"""Completion: keep a part of a datum, redraw the rest. Which part, in words or as a picture."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genus.contract import GenerativeModel, IsEditable, require
from genus.errors import DataFormatError, SettingsError
from genus.kinds import Domain, Grid, picture_of

AT_ONCE = 64  # data that are completed together
PICTURES = ("top", "bottom", "left", "right", "centre", "border")
SEQUENCES = ("first", "last")
GREY = (196, 203, 214)  # what is not kept


def complete(
    model: GenerativeModel,
    x: Tensor,
    keep: Tensor,
    count: int,
    *,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``count`` completions of each datum, ``(B, count, *shape)``: ``keep`` (of one datum's shape) stays, bit for bit.

    Raises `CapabilityError` unless the model signs `IsEditable`.
    """
    require(model, IsEditable, "edit")
    if keep.dtype != torch.bool or keep.shape != x.shape[1:]:
        raise ValueError(
            f"keep: expected booleans of shape {tuple(x.shape[1:])}; got {keep.dtype}, {tuple(keep.shape)}."
        )
    if count < 1:
        raise ValueError(f"count: expected at least 1; got {count}.")
    many = x.repeat_interleave(count, 0).to(model.device)
    labels = None if condition is None else condition.repeat_interleave(count, 0).to(model.device)
    kept = keep.to(model.device)
    done = [
        model.edit(
            many[index],
            kept.expand(len(index), *kept.shape),
            condition=None if labels is None else labels[index],
            generator=generator,
        )
        for index in torch.arange(len(many), device=many.device).split(AT_ONCE)
    ]
    return torch.cat(done).unflatten(0, (len(x), count))


def keep_mask(domain: Domain, part: str, share: float = 0.5) -> Tensor:
    """Which entries of a datum are kept: booleans ``(*domain.shape)``.

    part: ``top``, ``bottom``, ``left``, ``right``, ``centre`` or ``border`` of a picture,
    ``box=TOP,LEFT,BOTTOM,RIGHT`` in pixels (the last two are not in it), the path of a picture
    of the same size (kept where it is lighter than half grey); ``first`` or ``last`` entries of anything.
    share: how much of the datum that is; of its area for ``centre`` and ``border``.
    """
    if not 0 < share < 1:
        raise SettingsError(f"share: expected a number between 0 and 1; got {share}.")
    if part in SEQUENCES:
        kept = max(1, round(share * domain.num_dims))
        flat = torch.arange(domain.num_dims)
        mask = (flat < kept if part == "first" else flat >= domain.num_dims - kept).view(domain.shape)
    elif not domain.is_picture:
        raise SettingsError(f"keep: {part!r} is for pictures; of {domain} keep {' or '.join(SEQUENCES)}.")
    else:
        mask = _in_picture((domain.shape[1], domain.shape[2]), part, share).expand(domain.shape).clone()
    if mask.all() or not mask.any():
        extent = "all of" if mask.all() else "nothing of"
        raise SettingsError(f"keep: {part!r} keeps {extent} {domain}; expected some of it.")
    return mask


def _in_picture(size: tuple[int, int], part: str, share: float) -> Tensor:
    """The same for pictures of a size, ``(H, W)``."""
    height, width = size
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width).view(1, -1)
    mask = torch.zeros(height, width, dtype=torch.bool)
    if part in ("top", "bottom"):
        kept = round(share * height)
        return mask | (rows < kept if part == "top" else rows >= height - kept)
    if part in ("left", "right"):
        kept = round(share * width)
        return mask | (columns < kept if part == "left" else columns >= width - kept)
    if part in ("centre", "border"):
        area = share if part == "centre" else 1 - share
        tall, wide = round(area**0.5 * height), round(area**0.5 * width)
        top, left = (height - tall) // 2, (width - wide) // 2
        mask[top : top + tall, left : left + wide] = True
        return mask if part == "centre" else ~mask
    if part.startswith("box="):
        mask[_box(part, size)] = True
        return mask
    return _read_mask(Path(part), size)


def _box(part: str, size: tuple[int, int]) -> tuple[slice, slice]:
    try:
        top, left, bottom, right = (int(number) for number in part.removeprefix("box=").split(","))
    except ValueError:
        raise SettingsError(f"keep: expected box=TOP,LEFT,BOTTOM,RIGHT in pixels; got {part!r}.") from None
    if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
        raise SettingsError(f"keep: {part!r} does not lie in a picture of {size[0]} rows and {size[1]} columns.")
    return slice(top, bottom), slice(left, right)


def _read_mask(path: Path, size: tuple[int, int]) -> Tensor:
    """A picture of exactly this size: kept where it is lighter than half grey."""
    if not path.is_file():
        raise SettingsError(
            f"keep: expected one of {', '.join((*PICTURES, *SEQUENCES))}, box=TOP,LEFT,BOTTOM,RIGHT, or the path of a "
            f"picture; got {str(path)!r}."
        )
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as picture:
            found = (picture.height, picture.width)
            mask = torch.from_numpy(np.asarray(picture.convert("L")) > 127) if found == size else None
    except Exception as error:  # decoders of foreign bytes may raise anything
        raise DataFormatError(f"{path}: not a readable picture ({str(error)[:200]}).") from None
    if mask is None:
        raise DataFormatError(
            f"{path}: expected a picture of the data's size, {size[1]} x {size[0]}; got {found[1]} x {found[0]}."
        )
    return mask


def with_grey(x: Tensor, keep: Tensor, domain: Domain) -> tuple[Tensor, Tensor, Domain]:
    """Data in colour, the same with what is not kept in grey, and the domain of both.

    Pictures of one or three channels become RGB, where a blueish grey cannot be taken for a
    value; others keep their domain, and the middle level stands for what is missing.
    """
    grid = picture_of(domain, 1, 3)
    if grid is None:
        return x, torch.where(keep, x, (domain.levels or 0) // 2), domain
    rgb = (x.double() * (255 / (grid.levels - 1))).round().to(torch.uint8).expand(-1, 3, -1, -1)
    grey = torch.tensor(GREY, dtype=torch.uint8).view(3, 1, 1)
    return rgb, torch.where(keep.expand(3, *grid.size), rgb, grey), Grid(3, grid.size)
