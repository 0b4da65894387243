"""Pictures of a case: where they cut, and what they draw."""

import io

import numpy as np
import pytest
from evaluation_folders import tumour
from matplotlib.image import imread

from jaxswap.medical.data.label_maps import LABEL_MAPS, make_label_map
from jaxswap.medical.scoring.outlines import central_voxel, outlines_png

_UNIT = (1.0, 1.0, 1.0)
_MAP = LABEL_MAPS["brats2023"]
_BLUE = np.array([0x4E, 0xA8, 0xDE]) / 255


def _picture(*arguments, **named):
    return imread(io.BytesIO(outlines_png(*arguments, **named)))[..., :3]


def _blue(picture, share=1.0):
    """Where a share of the whole tumour's colour is, the legend aside."""
    close = np.abs(picture - share * _BLUE).max(-1) < 0.1
    return close[:-40]


def test_cuts_go_through_the_largest_piece():
    labels = np.zeros((30, 20, 20), np.uint8)
    labels[2:5, 10:13, 10:13] = 3
    labels[20:27, 3:10, 4:11] = 2
    assert central_voxel(labels) == (23, 6, 7)
    hollow = np.zeros((21, 21, 21), np.uint8)
    hollow[2:19, 2:19, 2:19] = 1
    hollow[4:17, 4:17, 4:17] = 0
    assert hollow[central_voxel(hollow)] == 1
    assert central_voxel(np.zeros((4, 6, 8), np.uint8)) == (2, 3, 4)


def test_outlines_are_drawn_on_the_image_and_not_above_it():
    image = np.full(tumour().shape, 100.0, np.float32)
    picture = _picture(tumour(), tumour(), _MAP, _UNIT, image)
    blue = _blue(picture)
    middle = len(blue) // 2
    assert blue[middle:].sum() > 300
    assert blue[:middle].sum() == 0
    alone = _picture(tumour(), tumour(), _MAP, _UNIT)
    assert len(alone) < 0.7 * len(picture)


def test_a_prediction_elsewhere_adds_its_own_outline():
    nothing = np.zeros_like(tumour())
    missed = _picture(tumour(), nothing, _MAP, _UNIT)
    made_up = _picture(nothing, tumour(), _MAP, _UNIT)
    both = _picture(tumour(), tumour(4), _MAP, _UNIT)
    band, dashes = _blue(missed, 0.5).sum(), _blue(made_up).sum()
    assert min(band, dashes) > 500
    assert _blue(missed).sum() == 0
    assert _blue(made_up, 0.5).sum() < 0.3 * band
    assert _blue(both, 0.5).sum() > 0.8 * band
    assert _blue(both).sum() > 0.8 * dashes


def test_what_is_missed_does_not_look_like_what_is_found():
    nothing = np.zeros_like(tumour())
    missed = _picture(tumour(), nothing, _MAP, _UNIT)[:-60]
    found = _picture(tumour(), tumour(), _MAP, _UNIT)[:-60]
    band = missed.max(-1) > 0.2
    change = np.abs(found - missed).max(-1) > 0.25
    assert change[band].mean() > 0.2
    assert change[~band].mean() < 0.01


def test_the_case_stands_above_its_picture():
    plain = _picture(tumour(), tumour(), _MAP, _UNIT)
    titled = _picture(tumour(), tumour(), _MAP, _UNIT, title="BraTS-GLI-00000-000")
    more = len(titled) - len(plain)
    assert titled[:more].max() > 0.9
    np.testing.assert_array_equal(titled[more:], plain)


def test_thick_slices_are_drawn_in_millimetres():
    thin = _picture(tumour(), tumour(), _MAP, _UNIT)
    thick = _picture(tumour(), tumour(), _MAP, (1.0, 1.0, 3.0))
    assert thick.shape[0] / thick.shape[1] > 1.3 * thin.shape[0] / thin.shape[1]


def test_empty_labels_and_many_regions_are_drawn():
    nothing = np.zeros((8, 8, 8), np.uint8)
    assert _blue(_picture(nothing, nothing, _MAP, _UNIT)).sum() == 0
    labels = np.repeat(np.arange(32, dtype=np.uint8), 16).reshape(8, 8, 8)
    names = {f"region {value}": value for value in range(1, 32)}
    many = _picture(labels, labels, make_label_map("many", names), _UNIT)
    colors = {tuple(color) for color in np.round(many.reshape(-1, 3) * 8)}
    assert len(colors) > 12


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        outlines_png(tumour(), tumour()[:-1], _MAP, _UNIT)
    with pytest.raises(ValueError, match="differ in shape"):
        outlines_png(tumour(), tumour(), _MAP, _UNIT, np.zeros((2, 2, 2)))
