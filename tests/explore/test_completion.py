"""Masks by counting; completions keep what they should."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from genus.errors import CapabilityError, DataFormatError, SettingsError
from genus.explore import complete, keep_mask
from genus.explore.completion import GREY, with_grey
from genus.kinds import Grid, Label, Points, Tokens, Vectors
from genus.models.latent.vae import VAE
from genus.prob import noise
from genus.testing.mutants import Chain
from genus.testing.mutants.editing import RedrawsKeptPart

PICTURE = Grid(3, (4, 6), 5)


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ("top", lambda r, c: r < 2),
        ("bottom", lambda r, c: r >= 2),
        ("left", lambda r, c: c < 3),
        ("right", lambda r, c: c >= 3),
        ("centre", lambda r, c: 0 < r < 4 and 1 <= c < 5),  # about half the area: 3 x 4
        ("box=1,2,3,6", lambda r, c: 1 <= r < 3 and c >= 2),
    ],
)
def test_parts_of_a_picture(part: str, where: Callable[[int, int], bool]) -> None:
    mask = keep_mask(PICTURE, part)
    expected = torch.tensor([[where(r, c) for c in range(6)] for r in range(4)])
    if part == "centre":
        assert mask[0].sum() == 12 and mask[0].any(1).sum() == 3 and mask[0].any(0).sum() == 4
    else:
        assert torch.equal(mask, expected.expand(3, 4, 6))


def test_border_and_centre_share_out_the_picture() -> None:
    assert torch.equal(keep_mask(PICTURE, "border", 0.3), ~keep_mask(PICTURE, "centre", 0.7))


@pytest.mark.parametrize("domain", [Tokens(10, 3), Vectors(10), Points(5, 2), Grid(1, (5, 2, 1), 2)], ids=str)
def test_first_and_last_are_for_anything(domain) -> None:
    first, last = (keep_mask(domain, part, 0.3).flatten() for part in ("first", "last"))
    assert first.tolist() == [True] * 3 + [False] * 7
    assert last.tolist() == [False] * 7 + [True] * 3
    with pytest.raises(SettingsError, match=r"'top' is for pictures.*first or last"):
        keep_mask(domain, "top")


def test_a_picture_says_what_is_kept(tmp_path: Path) -> None:
    light = np.zeros((4, 6), np.uint8)
    light[1, 2:] = 200
    Image.fromarray(light).save(tmp_path / "mask.png")
    assert torch.equal(keep_mask(PICTURE, str(tmp_path / "mask.png")), torch.from_numpy(light > 0).expand(3, 4, 6))
    Image.fromarray(light.T.copy()).save(tmp_path / "turned.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    for name, sentence in {"turned": "size, 6 x 4; got 4 x 6", "broken": "not a readable picture"}.items():
        with pytest.raises(DataFormatError, match=sentence):
            keep_mask(PICTURE, str(tmp_path / f"{name}.png"))


@pytest.mark.parametrize(
    ("part", "share", "sentence"),
    [
        ("middle", 0.5, "expected one of top, bottom"),
        ("box=1,2,3", 0.5, "box=TOP,LEFT,BOTTOM,RIGHT"),
        ("box=0,0,5,6", 0.5, "4 rows and 6 columns"),
        ("box=0,0,4,6", 0.5, "keeps all of"),
        ("top", 0.01, "keeps nothing of"),
        ("top", 1.0, "between 0 and 1"),
    ],
)
def test_what_is_refused(part: str, share: float, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        keep_mask(PICTURE, part, share)


def kept_comes_back(model: Chain, x: Tensor, keep: Tensor) -> bool:
    done = complete(model, x, keep, 5, generator=noise.stream("complete"))
    assert done.shape == (len(x), 5, *x.shape[1:])
    return bool((done == x.unsqueeze(1))[:, :, keep].all())


def test_what_is_kept_comes_back_bit_for_bit_and_the_rest_is_drawn() -> None:
    domain = Grid(1, (4, 4), 8)
    x = noise.integers(8, (20, 1, 4, 4), noise.stream("x")).to(torch.uint8)  # 100 completions: more than at once
    keep = keep_mask(domain, "top")
    assert kept_comes_back(Chain(domain), x, keep)
    assert not kept_comes_back(RedrawsKeptPart(domain), x, keep)
    done = complete(Chain(domain), x, keep, 5, generator=noise.stream("complete"))
    assert len(done[0, :, ~keep].unique(dim=0)) == 5
    assert torch.equal(done, complete(Chain(domain), x, keep, 5, generator=noise.stream("complete")))


def test_completions_follow_their_own_label() -> None:
    domain = Grid(1, (2, 2), 2)
    model = Chain(domain, Label(("dark", "light")))
    with torch.no_grad():
        model.start[0, :, 0] = model.start[1, :, 1] = 50.0
    x = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    keep = keep_mask(domain, "top")
    done = complete(model, x, keep, 3, condition=torch.tensor([0, 1]))
    assert torch.equal(done[:, :, ~keep], torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1).expand(2, 3, 2))


def test_completion_refuses_models_that_cannot_and_masks_that_do_not_fit() -> None:
    domain = Grid(1, (4, 4), 8)
    x = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(CapabilityError, match=r"vae cannot edit.*IsEditable"):
        complete(VAE.tiny(domain), x, keep_mask(domain, "top"), 1)
    with pytest.raises(ValueError, match="booleans of shape"):
        complete(Chain(domain), x, torch.ones(4, 4), 1)
    with pytest.raises(ValueError, match="at least 1"):
        complete(Chain(domain), x, keep_mask(domain, "top"), 0)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_grey_stands_for_what_is_missing(channels: int) -> None:
    domain = Grid(channels, (4, 4), 3)
    x = torch.ones(2, channels, 4, 4, dtype=torch.uint8) * 2
    keep = keep_mask(domain, "left")
    shown, kept, shown_as = with_grey(x, keep, domain)
    shown_as.check(shown)
    shown_as.check(kept)
    assert torch.equal(kept[..., :2], shown[..., :2])
    missing = [GREY[k] for k in range(3)] if channels != 2 else [1, 1]
    assert kept[0, :, 0, 3].tolist() == missing
