"""Specs say how arrays are split; a placement says into how many parts."""

import dataclasses

from jaxswap._graph.placement import Placement, axes_of

MESH = Placement((("data", 2), ("depth", 3)), ("depth",), ())


def test_devices_are_the_product_of_the_axes() -> None:
    assert MESH.device_count == 6
    assert MESH.shards(("depth",)) == 3
    assert MESH.shards(()) == 1


def test_an_array_is_split_into_equal_parts_or_not_at_all() -> None:
    assert MESH.fitting((4, 6), (("data",), ("depth",))) == (("data",), ("depth",))
    assert MESH.fitting((3, 6), (("data",), ("depth",))) == ((), ("depth",))
    assert MESH.fitting((12,), (("data", "depth"),)) == (("data", "depth"),)
    assert MESH.fitting((0,), (("data",),)) == ((),)


def test_an_axis_splits_one_dimension_only() -> None:
    assert MESH.fitting((4, 4), (("data",), ("data",))) == (("data",), ())


def test_axes_are_listed_in_the_order_of_dimensions() -> None:
    assert axes_of((("depth",), (), ("data",))) == ("depth", "data")


def test_placements_are_plain_data() -> None:
    assert dataclasses.asdict(MESH)["axes"] == (("data", 2), ("depth", 3))
