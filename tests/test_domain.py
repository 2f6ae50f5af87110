import json

import pytest
import torch

from genus.kinds import Domain, Grid, Label, Parts, Pyramid, Tokens, Vectors, from_json
from genus.testing.subjects import TINY_DOMAINS

PARTS = Parts((("map", Grid(1, (2, 3), 300, ordered=False)), ("style", Vectors(2)), ("class_", Label(("a", "b")))))


@pytest.mark.parametrize(
    "domain", [*TINY_DOMAINS, Grid(1, (7, 7), 512, ordered=False), Grid(3, (4, 8, 8), axes="tyx"), PARTS], ids=str
)
def test_what_is_written_is_read(domain: Domain) -> None:
    assert from_json(json.loads(json.dumps(domain.to_json()))) == domain


def test_old_descriptions_of_grids_are_read() -> None:
    assert from_json({"kind": "grid", "channels": 1, "size": [8, 8], "levels": 17}) == Grid(1, (8, 8), 17)
    assert Grid(1, (8, 8), 17).to_json() == {"kind": "grid", "channels": 1, "size": (8, 8), "levels": 17}


def test_a_pyramid_is_its_grids() -> None:
    domain = Pyramid((5, 8), scales=3, levels=300)
    assert domain.sizes == ((2, 2), (3, 4), (5, 8))
    assert domain.shape == (4 + 12 + 40,) and domain.dtype == torch.int64
    x = torch.arange(2 * 56).view(2, 56)
    assert [tuple(grid.shape) for grid in domain.grids(x)] == [(2, 2, 2), (2, 3, 4), (2, 5, 8)]
    assert torch.equal(domain.join(domain.grids(x)), x)
    domain.check(x)
    assert {name: part.shape for name, part in domain.split(x).items()} == {
        "2x2": (2, 1, 2, 2), "3x4": (2, 1, 3, 4), "5x8": (2, 1, 5, 8)
    }  # fmt: skip
    assert len(Pyramid((2, 2), 3).split(torch.zeros(1, 6))) == 3  # grids of one cell come twice


@pytest.mark.parametrize("domain", TINY_DOMAINS, ids=str)
def test_a_datum_is_its_members(domain: Domain) -> None:
    x = domain.toy(torch.arange(5) % 3)
    domain.check(x)
    pieces, members = domain.split(x), dict(domain.members)
    assert list(pieces) == list(members) and sum(part.num_dims for part in members.values()) == domain.num_dims
    for name, piece in pieces.items():
        members[name].check(piece)


@pytest.mark.parametrize("make", [lambda: Pyramid((0, 2), 1), lambda: Pyramid((4, 4), 0), lambda: Pyramid((4,), 1, 1),
                                  lambda: Tokens(0), lambda: Vectors(0)])  # fmt: skip
def test_what_cannot_be(make) -> None:
    with pytest.raises(ValueError, match="need"):
        make()


def test_a_clip_is_no_voxels() -> None:
    clip, voxels = Grid(1, (4, 8, 8), 2, axes="tyx"), Grid(1, (4, 8, 8), 2)
    assert clip != voxels and clip.is_clip and not voxels.is_clip and voxels.axes == "zyx"
    assert str(clip).startswith("clip")
    with pytest.raises(ValueError, match="a letter of its own"):
        Grid(1, (4, 8), axes="tyx")


def test_parts_are_split_and_joined_without_loss() -> None:
    parts = {
        "map": torch.tensor([[[[0, 1, 299], [5, 6, 7]]]]), "style": torch.tensor([[0.1, -3.0]]),
        "class_": torch.tensor([1]),
    }  # fmt: skip
    x = PARTS.join(parts)
    assert x.shape == (1, *PARTS.shape) and PARTS.num_dims == 9
    back = PARTS.split(x)
    assert all(torch.equal(back[name], part) and back[name].dtype == part.dtype for name, part in parts.items())
    PARTS.check(x)
    with pytest.raises(ValueError, match=r"part 'class_': expected values 0\.\.1"):
        PARTS.check(PARTS.join({**parts, "class_": torch.tensor([2])}))
    with pytest.raises(ValueError, match="expected the parts map, style, class_; got map"):
        PARTS.join({"map": parts["map"]})


@pytest.mark.parametrize(
    "parts",
    [3, [["a", 3]], [["a", {"kind": "label", "names": ["x"]}]] * 2, [["a", {"kind": "parts", "parts": []}]],
     [["a b", {"kind": "vectors", "features": 2}]]],
)  # fmt: skip
def test_descriptions_of_parts_that_are_none_are_refused(parts: object) -> None:
    with pytest.raises(ValueError, match="parts"):
        from_json({"kind": "parts", "parts": parts})
