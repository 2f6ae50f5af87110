import numpy as np
import pytest
import torch
import trimesh

from genus.errors import DataFormatError
from genus.geometry.mesh import check_mesh, face_areas, load_mesh, normalise, sample_surface
from genus.prob import noise


def test_samples_lie_on_the_faces_they_name():
    mesh = trimesh.creation.icosphere(subdivisions=2)
    points, face = sample_surface(mesh.vertices, mesh.faces, 2000, noise.stream(0))
    corners = mesh.vertices[mesh.faces[face.numpy()]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    assert np.abs(((points.numpy() - corners[:, 0]) * normal).sum(1)).max() < 1e-6
    inside = trimesh.triangles.points_to_barycentric(corners, points.numpy().astype(np.float64))
    assert inside.min() > -1e-5


def test_samples_are_uniform_by_area():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [10, 0, 0], [13, 0, 0], [10, 1, 0]], float)
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    n = 40_000
    points, face = sample_surface(vertices, faces, n, noise.stream(1))
    z = (face.double().mean() - 0.75) / (0.75 * 0.25 / n) ** 0.5  # areas 0.5 and 1.5
    assert abs(z) < 4
    first = points[face == 0].double()
    z = (first[:, :2].mean(0) - 1 / 3) / ((1 / 18) / len(first)) ** 0.5  # the variance along an edge is 1/18
    assert (z.abs() < 4).all()


def test_samples_are_a_function_of_the_generator():
    box = trimesh.creation.box()
    one, same, other = (sample_surface(box.vertices, box.faces, 50, noise.stream(k))[0] for k in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.dtype == torch.float32


def test_areas():
    box = trimesh.creation.box((1, 2, 3))
    assert np.isclose(face_areas(box.vertices, box.faces).sum(), 22)


@pytest.mark.parametrize("scheme", ["unit_sphere", "bbox"])
def test_normalisation_is_undone_by_centre_and_scale(scheme):
    vertices = np.random.default_rng(0).normal(size=(50, 3)) * (1, 2, 5) + (7, 0, -3)
    normal, centre, scale = normalise(vertices, scheme)
    assert np.allclose(normal * scale + centre, vertices)
    assert np.allclose(normal.min(0) + normal.max(0), 0)
    size = np.linalg.norm(normal, axis=1).max() if scheme == "unit_sphere" else np.abs(normal).max()
    assert np.isclose(size, 1)


def test_what_cannot_be_normalised_or_sampled_is_said():
    with pytest.raises(ValueError, match="unknown scheme 'cube'"):
        normalise(np.eye(3), "cube")
    with pytest.raises(ValueError, match="all 4 are one point"):
        normalise(np.ones((4, 3)))
    with pytest.raises(ValueError, match="some area"):
        sample_surface(np.ones((3, 3)), np.array([[0, 1, 2]]), 5)


def test_a_checked_mesh_names_the_flaw():
    vertices, faces = np.eye(3), np.array([[0, 1, 2]])
    check_mesh(vertices, faces, "m")
    with pytest.raises(DataFormatError, match="m: face 0 names vertex 3, but there are 3"):
        check_mesh(vertices, faces + 1, "m")
    with pytest.raises(DataFormatError, match="m: vertex 1 is not finite"):
        check_mesh(np.where(np.arange(3)[:, None] == 1, np.nan, vertices), faces, "m")


@pytest.mark.parametrize("ending", ["obj", "ply", "stl", "off", "glb"])
def test_every_format_is_read(tmp_path, ending):
    mesh = trimesh.creation.icosphere(subdivisions=1)
    mesh.export(tmp_path / f"m.{ending}")
    read = load_mesh(tmp_path / f"m.{ending}")
    assert len(read.faces) == 80
    assert np.isclose(read.area, mesh.area, rtol=1e-5)


def test_a_missing_mesh_and_another_ending(tmp_path):
    with pytest.raises(DataFormatError, match=r"m\.obj: cannot be read"):
        load_mesh(tmp_path / "m.obj")
    with pytest.raises(DataFormatError, match="expected a mesh as obj, ply"):
        load_mesh(tmp_path / "m.blend")
