"""The brain is found with and without a background of its own."""

import numpy as np
import pytest

from jaxswap.medical.data.brain import brain_mask, otsu_threshold
from jaxswap.medical.data.volumes import VolumeError


def test_a_head_in_noise_is_found_by_its_brightness():
    rng = np.random.default_rng(0)
    image = rng.normal(0, 10, (30, 30, 30)).astype(np.float32)  # negative values too
    image[8:22, 9:21, 10:20] += 300
    image[12:15, 12:15, 12:15] -= 300  # a dark ventricle
    image[2:4, 2:4, 2:4] += 300  # and something bright elsewhere
    assert brain_mask(image[..., None]).mask.all()
    brain = brain_mask(image[..., None], kind="brain")
    assert not brain.has_background
    inside = np.zeros(image.shape, bool)
    inside[8:22, 9:21, 10:20] = True
    assert (brain.mask & inside).sum() > 0.97 * inside.sum()
    assert (brain.mask & ~inside).sum() < 0.25 * inside.sum()
    assert brain.mask[13, 13, 13]
    assert not brain.mask[3, 3, 3]


def test_a_background_need_not_be_zero():
    image = np.full((6, 6, 6, 2), -3.0, np.float32)
    image[..., 1] = 0
    image[2:4, 2:4, 2:4] = 0, 5
    image[4, 4, 4, 1] = 7
    for kind in ("foreground", "brain"):
        brain = brain_mask(image, kind=kind)
        assert brain.has_background
        assert brain.mask.sum() == 9
    assert brain_mask(image, kind="none").mask.all()


def test_a_brain_that_touches_the_border_keeps_zero_as_background():
    image = np.zeros((6, 6, 6, 1), np.float32)
    image[:, 1:5, 1:5] = 5
    assert brain_mask(image).mask.sum() == 6 * 16


def test_otsu_separates_two_groups():
    values = np.concatenate([np.linspace(0, 1, 50), np.linspace(9, 12, 20)])
    assert 1 < otsu_threshold(values) < 9


@pytest.mark.parametrize("value", [0, 5])
def test_an_image_of_one_value_has_no_brain(value):
    image = np.full((4, 4, 4, 2), value, np.float32)
    with pytest.raises(VolumeError, match="case: every voxel has the same value"):
        brain_mask(image, "case")


def test_a_single_slice_has_a_brain():
    image = np.zeros((8, 8, 1, 1), np.float32)
    image[2:5, 2:5] = 3
    assert brain_mask(image).mask.sum() == 9
