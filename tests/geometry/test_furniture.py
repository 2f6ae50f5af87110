import numpy as np
import pytest
import torch
import trimesh

from genus.geometry.furniture import KINDS, Furniture, bead, beam, box, make
from genus.prob import noise


def some(kind, count=25):
    return [make(kind, noise.stream("test", kind, k)) for k in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_piece_is_watertight_and_faces_outwards(kind):
    for piece in some(kind):
        mesh = piece.mesh()
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        parts = mesh.split()
        assert len(parts) == len(piece.parts)
        assert all(part.volume > 0 for part in parts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_is_convex(kind):
    for piece in some(kind):
        normals, offsets, starts = piece.half_spaces
        ends = [*starts[1:], len(offsets)]
        for part, start, end in zip(piece.parts, starts, ends, strict=True):
            assert (part.vertices @ normals[start:end].T - offsets[start:end]).max() < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_every_piece_stands_on_the_floor_and_hangs_together(kind):
    for piece in some(kind):
        assert abs(piece.vertices[:, 1].min()) < 1e-9
        low = np.array([part.vertices.min(0) for part in piece.parts])
        high = np.array([part.vertices.max(0) for part in piece.parts])
        touches = (low[:, None] <= high[None] + 1e-9).all(-1) & (low[None] <= high[:, None] + 1e-9).all(-1)
        reached = {0}
        while new := {int(j) for i in reached for j in np.nonzero(touches[i])[0]} - reached:
            reached |= new
        assert len(reached) == len(piece.parts)


def test_pieces_are_a_function_of_the_generator_and_differ():
    for kind in KINDS:
        one, same = (make(kind, noise.stream(3)) for _ in range(2))
        assert np.array_equal(one.vertices, same.vertices)
        assert len({(len(p.parts), round(float(p.vertices[:, 1].max()), 3)) for p in some(kind, 20)}) == 20


def test_inside_is_the_union_of_the_parts():
    piece = Furniture("two boxes", (box((0, 0, 0), (1, 1, 1)), box((0.5, 0, 0), (2, 1, 1))))
    points = [[0.1, 0.5, 0.5], [0.7, 0.5, 0.5], [1.9, 0.5, 0.5], [2.1, 0.5, 0.5], [0.5, 1.1, 0.5]]
    assert piece.contains(points).tolist() == [True, True, True, False, False]
    piece = make("chair", noise.stream(0))
    around = np.random.default_rng(0).uniform(piece.vertices.min(0), piece.vertices.max(0), (500, 3))
    hulls = [trimesh.Trimesh(p.vertices, p.faces, process=False).convex_hull for p in piece.parts]
    by_hull = np.any(
        [(np.einsum("pfc,fc->pf", around[:, None] - h.triangles_center, h.face_normals) < 0).all(1) for h in hulls],
        axis=0,
    )
    assert np.array_equal(piece.contains(around), by_hull)


def test_points_are_on_the_visible_surface_and_uniform_on_it():
    piece = Furniture("two boxes", (box((0, 0, 0), (1, 1, 1)), box((0.5, 0, 0), (2, 1, 1))))
    n = 20_000
    points = piece.sample(n, noise.stream(0)).double()
    assert not piece.contains(points.numpy(), margin=1e-5).any()
    hidden = ((points[:, 0] - 0.5).abs() < 1e-6) & (points[:, 1] > 1e-3) & (points[:, 1] < 0.999)
    assert not (hidden & (points[:, 2] > 1e-3) & (points[:, 2] < 0.999)).any()
    end = (points[:, 0] - 2).abs() < 1e-6  # one unit square; the four sides count twice where the boxes overlap
    p = 1 / (2 + 4 * 2.5)
    assert abs(end.double().mean() - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_clouds_fit_the_unit_sphere():
    cloud = make("lamp", noise.stream(1)).cloud(300, noise.stream(2))
    assert cloud.shape == (300, 3)
    assert cloud.dtype == torch.float32
    assert 0.9 < cloud.norm(dim=1).max() <= 1 + 1e-6


def test_round_parts_have_nearly_the_volume_of_a_ball_and_a_cylinder():
    ball = Furniture("ball", (bead((0, 0, 0), 1.0),)).mesh().volume
    pole = Furniture("pole", (beam((0, 0, 0), (0, 1, 0), 1.0, sides=12),)).mesh().volume
    assert 0.85 * 4.19 < ball < 4.19
    assert np.isclose(pole, 3.0)  # a regular 12-gon in the unit circle has area 3


def test_an_unknown_kind_lists_the_kinds():
    with pytest.raises(ValueError, match="expected one of chair, table, lamp, shelf"):
        make("sofa")
