"""Panels of pictures: where they lie, and what can be read on them."""

import io
import itertools

import numpy as np
import pytest
from matplotlib.image import imread

from jaxswap.medical.scoring.panels import (
    brightness,
    panel_figure,
    planes_through,
    show_plane,
    to_png,
)

_SHAPE = (20, 30, 12)
_PLANES = planes_through((3, 4, 5), (1.0, 1.0, 2.0), _SHAPE)


def _boxes(axes):
    return [ax.get_position().bounds for ax in axes]


def test_panels_of_both_rows_are_alike_also_after_more_was_drawn():
    _, rows = panel_figure([_PLANES, _PLANES])
    image = np.ones(_SHAPE, np.float32)
    for row in rows:
        for ax, plane in zip(row, _PLANES, strict=True):
            show_plane(ax, plane, image, (0, 1))
    for ax in rows[1]:
        ax.contour(np.pad(np.ones((4, 4)), 1), levels=[0.5])
        ax.plot([-5, 50], [-5, 50])
    for above, below in zip(*rows, strict=True):
        left, _, width, height = above.get_position().bounds
        other_left, _, other_width, other_height = below.get_position().bounds
        found = (left, width, height)
        assert found == pytest.approx((other_left, other_width, other_height))
        assert above.get_xlim() == below.get_xlim()
        assert above.get_ylim() == below.get_ylim()


def test_all_panels_have_one_scale_and_lie_side_by_side():
    figure, (row,) = panel_figure([_PLANES])
    width, height = figure.get_size_inches()
    inches = [
        (w * width / plane.size_mm[0], h * height / plane.size_mm[1])
        for (_, _, w, h), plane in zip(_boxes(row), _PLANES, strict=True)
    ]
    assert np.ptp(inches) < 1e-9
    ends = [(x, x + w) for x, _, w, _ in _boxes(row)]
    assert all(end < x for (_, end), (x, _) in itertools.pairwise(ends))
    middles = [y + h / 2 for _, y, _, h in _boxes(row)]
    assert np.ptp(middles) < 1e-9


def test_planes_say_which_slice_they_are():
    titles = [plane.title for plane in _PLANES]
    assert titles == [
        "axial, slice 6 of 12",
        "coronal, slice 5 of 30",
        "sagittal, slice 4 of 20",
    ]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_right_can_be_read_on_bright_and_on_dark_tissue(value):
    figure, (row,) = panel_figure([_PLANES[:1]])
    image = np.full(_SHAPE, value, np.float32)
    show_plane(row[0], _PLANES[0], image, (0, 1))
    picture = imread(io.BytesIO(to_png(figure)))[..., 0]
    height, width = picture.shape
    x, y, w, h = row[0].get_position().bounds
    right = slice(int((x + 0.93 * w) * width), int((x + w) * width) - 2)
    middle = slice(int((1 - y - 0.55 * h) * height), int((1 - y - 0.45 * h) * height))
    letter = picture[middle, right]
    assert letter.min() < 0.1
    assert letter.max() > 0.9
    assert row[0].texts[-1].get_text() == "R"


def test_few_bright_voxels_do_not_make_all_others_dark():
    image = np.ones((20, 20, 20))
    image[0, 0, :3] = 100
    assert brightness(image) == (0.0, 1.0)
    assert brightness(np.zeros((2, 2, 2))) == brightness(None) == (0.0, 1.0)
    assert brightness(image - 2)[0] == -1.0
