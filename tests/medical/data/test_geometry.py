"""Grids are compared by where their voxels lie."""

import numpy as np
import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.audit import audit
from jaxswap.medical.data.case_files import CaseFiles, Dataset, Source
from jaxswap.medical.data.geometry import distance_mm, odd_spacing, voxels_apart
from jaxswap.medical.data.reading import read_case
from jaxswap.medical.data.volumes import VolumeError


def _moved(*shift_mm):
    affine = np.eye(4)
    affine[:3, 3] = shift_mm
    return affine


def _turned(degrees):
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [
        [np.cos(angle), -np.sin(angle)],
        [np.sin(angle), np.cos(angle)],
    ]
    return affine


def test_half_a_degree_moves_the_far_corner_of_a_brats_volume():
    grids = _turned(0.5), np.eye(4), (240, 240, 155)
    expected = 2 * np.sin(np.deg2rad(0.25)) * 239 * np.sqrt(2)
    assert distance_mm(*grids) == pytest.approx(expected) == pytest.approx(2.95, 1e-2)
    assert voxels_apart(*grids) == pytest.approx(expected)
    flat = np.diag([2, 2, 4, 1.0])
    assert voxels_apart(flat + _moved(1, 0, 0) - np.eye(4), flat, (9, 9, 9)) == 0.5


@pytest.mark.parametrize(
    ("affine", "severities"),
    [
        (_moved(0.011, 0.011, 0.011), []),
        (_moved(0, 0, 0.06), ["warning"]),
        (_turned(0.5), ["warning"]),  # 0.16 mm at the corner of this small volume.
        (_turned(5), ["error"]),
        (_moved(0, 0.5, 0), ["error"]),
    ],
)
def test_files_are_compared_by_the_place_of_their_voxels(tmp_path, affine, severities):
    files = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    for index, file in enumerate(files):
        tiny.write(file, tiny.head(index), affine if index else np.eye(4))
    case = CaseFiles("a", tuple(map(Source, files)))
    faults = audit(Dataset(tmp_path, "nnunet", ("t1n", "t2w"), None, (case,)))
    assert [fault.severity for fault in faults] == severities
    assert all(fault.kind == "affine" for fault in faults)
    if severities == ["error"]:
        with pytest.raises(VolumeError, match=r"b.nii.gz: its affine .* mm apart"):
            read_case(case, ("t1n", "t2w"))
    else:
        assert read_case(case, ("t1n", "t2w")).image.shape == (*tiny.SHAPE, 2)


def test_sizes_that_no_scanner_makes_are_told():
    assert odd_spacing((0.1, 1.0, 20.0)) == ""
    assert "0.0005 x 1 x 1 mm" in odd_spacing((0.0005, 1, 1))
    assert "1 x 1 x 20.004 mm, not in 0.1..20 mm" in odd_spacing((1, 1, 20.004))
