import numpy as np
import pytest

from jaxswap.medical.data.masks import (
    bounding_box,
    depth_mm,
    distance_mm,
    largest_piece,
    sides_mm,
)


def box(shape: tuple[int, ...], *window: slice) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[window] = True
    return mask


def test_bounding_box_is_tight_and_margins_stop_at_the_edge() -> None:
    window = (slice(1, 3), slice(4, 5), slice(0, 2))
    mask = box((6, 6, 6), *window)
    assert bounding_box(mask) == window
    assert bounding_box(mask, margin=2) == (slice(0, 5), slice(2, 6), slice(0, 4))


def test_sides_are_in_millimeters_and_zero_where_nothing_is() -> None:
    mask = box((6, 6, 6), slice(1, 3), slice(4, 5), slice(0, 6))
    assert sides_mm(mask, 2.5) == (5.0, 2.5, 15.0)
    assert sides_mm(~np.ones((3, 3, 3), bool), 1.0) == (0.0, 0.0, 0.0)


def test_depth_and_distance_count_millimeters_from_the_other_side() -> None:
    mask = box((9, 9, 9), slice(2, 7), slice(2, 7), slice(2, 7))
    depth, distance = depth_mm(mask, 2.0), distance_mm(mask, 2.0)
    assert depth[4, 4, 4] == pytest.approx(6)
    assert depth[0, 4, 4] == 0
    assert distance[0, 4, 4] == pytest.approx(4)
    assert distance[4, 4, 4] == 0


def test_distance_from_nothing_is_infinite() -> None:
    nothing = np.zeros((3, 3, 3), bool)
    assert np.isinf(distance_mm(nothing, 1.0)).all()
    assert np.isinf(depth_mm(~nothing, 1.0)).all()


def test_largest_piece_drops_the_others() -> None:
    large = box((9, 9, 9), slice(0, 3), slice(0, 3), slice(0, 3))
    small = box((9, 9, 9), slice(5, 7), slice(5, 7), slice(5, 7))
    np.testing.assert_array_equal(largest_piece(large | small), large)
    assert not largest_piece(np.zeros((3, 3, 3), bool)).any()
