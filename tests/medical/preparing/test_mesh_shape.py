"""Reading and checking the mesh of a run."""

from typing import Any

import pytest

from jaxswap.medical.preparing.mesh_shape import MeshShape, parse_mesh


def test_text_and_mapping_say_the_same() -> None:
    wanted = MeshShape(data=2, depth=4)
    assert parse_mesh("data=2,depth=4") == wanted
    assert parse_mesh(" depth = 4 , data=2") == wanted
    assert parse_mesh({"depth": 4, "data": 2}) == wanted
    assert parse_mesh(str(wanted)) == wanted
    assert parse_mesh(None) is None


def test_axes_that_split_nothing_are_left_out() -> None:
    assert MeshShape(data=1, depth=4, height=2).axes == {"depth": 4, "height": 2}
    assert MeshShape().axes == {"data": 1}
    assert MeshShape(data=3, depth=4, height=2).device_count == 24


WRONG: list[tuple[Any, str]] = [
    ("", "`mesh` is ''; give axes and sizes, such as data=2,depth=4"),
    ("8", "`mesh` is '8'"),
    ("data=2,", "`mesh` is 'data=2,'"),
    ({}, "`mesh` is empty"),
    (8, "`mesh` is 8"),
    ("width=2", "`mesh` has the axis 'width'; choose from data, depth, height"),
    ("data=2,data=2", "`mesh` has the axis 'data' twice"),
    ("data=many", "`mesh` has data=many, which is no number"),
    ("data=-1", "`mesh` has data=-1, which is no number"),
    ("data=1.5", "`mesh` has data=1.5, which is no number"),
    ({"data": True}, "`mesh` has data=True, which is no number"),
    ("depth=0", "`mesh` has depth=0, not 1 or more"),
]


@pytest.mark.parametrize(("value", "message"), WRONG)
def test_wrong_meshes_are_named(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^`mesh`") as caught:
        parse_mesh(value)
    assert message in str(caught.value)


def test_a_batch_is_split_into_equal_parts() -> None:
    MeshShape(data=4).check_batch(8)
    with pytest.raises(ValueError, match=r"`batch` is 5, which data=4 .* batch=8"):
        MeshShape(data=4).check_batch(5)


def test_each_part_of_a_volume_can_be_halved() -> None:
    mesh = MeshShape(depth=4, height=2)
    mesh.check_volume((64, 32, 16), 16, "shape")
    with pytest.raises(
        ValueError, match=r"96 voxels along x, but depth=4 .* 64: .*'\[128, 64, 48\]'"
    ):
        mesh.check_volume((96, 64, 48), 16, "shape")
    with pytest.raises(ValueError, match=r"48 voxels along y, but height=2 .* of 32"):
        mesh.check_volume((64, 48, 48), 16, "shape")
    # A patch has one side for all axes.
    with pytest.raises(ValueError, match=r"--set patch='128' fits"):
        mesh.check_volume((96, 96, 96), 16, "patch")
