import io

import numpy as np
import pytest
import torch
from PIL import Image

from genus.drawing import turn
from genus.kinds import Grid, Label, Points, Pyramid, Sheet, Vectors
from genus.kinds.grid import voxels
from genus.prob import noise
from genus.report.pictures import pairs, sheet
from genus.report.plots import curves, losses_of, svg_of


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 17), (3, 256)])
def test_pictures_are_enlarged_pixel_by_pixel(channels: int, levels: int) -> None:
    x = noise.integers(levels, (6, channels, 4, 5), noise.stream("x")).to(torch.uint8)
    page = pixels(sheet(x, Grid(channels, (4, 5), levels), columns=3, width=120))
    scale = round(120 / (3 * 7))
    gap = max(2, scale // 2)
    assert page.shape == (2 * (4 * scale + gap) - gap, 3 * (5 * scale + gap) - gap, 3)
    top, left = 4 * scale + gap, 2 * (5 * scale + gap)  # the last datum
    tile = page[top : top + 4 * scale : scale, left : left + 5 * scale : scale]
    expected = (x[5].double() * 255 / (levels - 1)).round().numpy().transpose(1, 2, 0).repeat(3 // channels, 2)
    assert np.abs(tile - expected).max() <= (0 if channels == 1 else 24)  # colour pages have a palette
    assert (page[4 * scale : 4 * scale + gap] == 255).all()


@pytest.mark.parametrize(
    ("domain", "count"),
    [
        (Grid(1, (6,), 9), 3),
        (Grid(2, (6, 5), 9), 10),
        (Grid(1, (5, 5, 5), 2), 3),
        (Grid(3, (6, 8, 8), 256), 2),
        (Grid(1, (5, 8, 8), 2, axes="tyx"), 2),
        (Pyramid((5, 8), 3, 300), 3),
        (Points(50, 3), 5),
        (Points(50, 2), 1),
        (Vectors(1), 30),
        (Vectors(2, ("$a$", "b_c")), 30),
        (Vectors(6), 30),
    ],
    ids=str,
)
def test_every_domain_has_a_picture(domain, count: int) -> None:
    if domain.levels is None:
        x = noise.normal((count, *domain.shape), noise.stream("x"))
    else:
        x = noise.integers(domain.levels, (count, *domain.shape), noise.stream("x")).to(domain.dtype)
    real = x + 0.1 if isinstance(domain, Vectors) else None
    first = sheet(x, domain, real=real)
    page = pixels(first)
    assert 100 < page.shape[1] < 2500
    assert page.std() > 3  # something is drawn
    assert sheet(x, domain, real=real) == first


def test_a_degenerate_cloud_and_no_data() -> None:
    assert pixels(sheet(torch.zeros(1, 9, 3), Points(9))).size
    with pytest.raises(ValueError, match="at least one"):
        sheet(torch.zeros(0, 9, 3), Points(9))
    with pytest.raises(ValueError, match="no picture"):
        sheet(torch.zeros(2, dtype=torch.int64), Label(("a",)))
    with pytest.raises(ValueError, match="expected shape"):
        sheet(torch.zeros(2, 8, 3), Points(9))


def test_a_clip_is_never_drawn_as_voxels() -> None:
    x = noise.integers(2, (1, 1, 5, 6, 7), noise.stream("clip")).to(torch.uint8)
    clip = pixels(sheet(x, Grid(1, (5, 6, 7), 2, axes="tyx"), width=5 * 7 + 2))
    assert np.array_equal(clip[..., 0], 255 * np.concatenate(list(x[0, 0].numpy()), 1))  # its frames, side by side
    solid = pixels(sheet(x, Grid(1, (5, 6, 7), 2), width=5 * 7 + 2))
    assert solid.shape != clip.shape and solid.std(2).max() > 10  # in colours


def test_captions_stand_under_their_pictures() -> None:
    x = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    plain = np.asarray(Grid(1, (8, 8), 2).draw(x, Sheet(3, 300)))
    named = np.asarray(Grid(1, (8, 8), 2).draw(x, Sheet(3, 300, captions=["one", "", "three"])))
    assert np.array_equal(named[: len(plain)], plain)
    assert [(part.min() < 200) for part in np.array_split(named[len(plain) :], 3, axis=1)] == [True, False, True]


def test_pairs_put_items_beside_their_query() -> None:
    domain = Grid(1, (2, 2), 256)
    queries, items = torch.full((2, 1, 2, 2), 10), torch.full((2, 3, 1, 2, 2), 200)
    page = pixels(pairs(queries.to(torch.uint8), items.to(torch.uint8), domain, width=64))
    assert page[0, 0, 0] == 10 and page[-1, 0, 0] == 10
    assert page[0, -1, 0] == 200 and page[-1, -1, 0] == 200


def test_turning_is_a_rotation_that_keeps_up_up() -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    seen = turn(points, 40, 25)
    assert np.allclose(np.linalg.norm(seen, axis=1), np.linalg.norm(points, axis=1))
    assert np.linalg.det(turn(np.eye(3), 40, 25)) == pytest.approx(1)
    assert turn(np.array([[0.0, 1, 0]]), 40, 25)[0, 1] > 0.9
    assert np.allclose(turn(np.eye(3), 0, 0), np.eye(3))


def test_voxels_show_the_top_brightest_and_hide_what_is_inside() -> None:
    solid = np.ones((4, 4, 4), bool)
    hollow = solid.copy()
    hollow[1:3, 1:3, 1:3] = False
    assert np.array_equal(voxels(solid), voxels(hollow))
    assert not np.array_equal(voxels(solid), voxels(solid & (np.arange(4) < 2)[None, :, None]))
    assert (voxels(np.zeros((4, 4, 4), bool)) == 255).all()


METRICS = [
    {"step": step, "train/loss": 100 / (step + 1), "train/kl": float("nan") if step == 3 else 1.0, "time": "10:00"}
    | ({"validation/loss": 110 / (step + 1)} if step % 5 == 0 else {})
    for step in range(30)
]


def test_curves_draw_train_and_validation_and_leave_gaps() -> None:
    figure = curves(METRICS)
    assert figure is not None
    loss, kl = figure.axes[:2]
    assert [axis.get_title("left") for axis in (loss, kl)] == ["loss", "kl"]
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    assert len(loss.lines[1].get_xdata()) == 6
    assert len(kl.lines[0].get_xdata()) == 29
    svg = svg_of(figure)
    assert svg == svg_of(curves(METRICS)) and b"<svg" in svg
    assert curves([]) is None and curves([{"step": 1, "note": "x"}]) is None


def test_losses_of_several_models_have_panels_of_their_own() -> None:
    figure = losses_of([("a $x$ <b>", METRICS), ("none", []), ("c", METRICS)])
    assert figure is not None
    assert [axis.get_title("left") for axis in figure.axes] == [r"a \$x\$ <b>", "c"]
    assert b"<svg" in svg_of(figure)
