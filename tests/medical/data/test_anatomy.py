"""The head and its ways from one grid to another."""

import importlib.util

import numpy as np
import pytest

from jaxswap.medical.data import anatomy
from jaxswap.medical.data.anatomy import Case, fit_to_cube, load_mni152, resample_scores
from jaxswap.medical.data.volumes import Volume, VolumeError


def _ball(shape=(24, 20, 16), spacing=(1.0, 1.0, 2.0)):
    grid = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    radius = np.sqrt(np.square(grid * np.reshape(spacing, (3, 1, 1, 1))).sum(0))
    labels = (radius < 9).astype(np.uint8) + (radius < 6) + (radius < 3)
    affine = np.diag([*spacing, 1.0])
    return Case(Volume.from_array(40.0 * labels, affine), labels)


def test_the_mni152_head_has_three_tissues():
    if importlib.util.find_spec("nilearn") is None:
        pytest.skip("nilearn is not installed")
    head = load_mni152()
    assert head.labels.shape == head.image.data.shape == (197, 233, 189)
    shares = np.bincount(head.labels.ravel(), minlength=4) / head.labels.size
    assert 0.7 < shares[0] < 0.85
    assert shares[2] > shares[3] > shares[1] > 0.01
    white, grey = (head.image.data[head.labels == label].mean() for label in (3, 2))
    assert white > grey


def test_without_nilearn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(anatomy.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "jaxswap\[data\]"'):
        load_mni152()


def test_the_cube_is_isotropic_and_keeps_millimeters():
    case = _ball()
    cube = fit_to_cube(case, 32)
    assert cube.labels.shape == cube.image.data.shape == (32, 32, 32)
    assert np.ptp(cube.image.spacing) < 1e-6

    def center_mm(case):
        voxels = np.argwhere(case.labels > 0).mean(0)
        return case.image.affine[:3, :3] @ voxels + case.image.affine[:3, 3]

    np.testing.assert_allclose(center_mm(cube), center_mm(case), atol=0.3)
    volume_mm3 = (cube.labels > 0).sum() * np.prod(cube.image.spacing)
    assert volume_mm3 == pytest.approx((case.labels > 0).sum() * 2.0, rel=0.1)


def test_an_empty_label_map_is_refused():
    case = _ball()
    with pytest.raises(VolumeError, match="all labels are background"):
        fit_to_cube(Case(case.image, np.zeros_like(case.labels)), 16)


def test_scores_carried_to_another_grid_give_its_labels():
    case = _ball()
    cube = fit_to_cube(case, 48)
    scores = np.stack([cube.labels == label for label in (1, 2, 3)], -1) - 0.5
    labels = resample_scores(scores, cube.image, case.image)
    assert labels.dtype == np.uint8
    assert (labels == case.labels).mean() > 0.95
