"""Values of label files: those near an integer are it; others are shown in full."""

import nibabel as nib
import numpy as np
import pytest

from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.data.label_values import load_labels, read_values, to_map
from jaxswap.medical.data.named_labels import make_named_map
from jaxswap.medical.data.volumes import VolumeError, load_volume

MAP = make_label_map("tissue", {"grey": 1, "white": 2})


def _volume(folder, values, dtype=np.float32):
    data = np.zeros((4, 4, 6), dtype)
    data[0, 0, : len(values)] = values
    path = folder / "labels.nii.gz"
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return load_volume(path)


def test_labels_that_were_stored_with_a_slope_are_integers(tmp_path):
    image = nib.Nifti1Image(np.array([[[0, 1, 2.0]]]) * 1.0000001, np.eye(4))
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "scaled.nii")
    volume = load_volume(tmp_path / "scaled.nii")
    assert volume.data[0, 0, 1] != 1
    labels, note = to_map(volume, MAP)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels[0, 0], [0, 1, 2])
    assert note.startswith("0.99998486 is read as 1, 2.0000002 is")
    again = load_labels(tmp_path / "scaled.nii", volume, classes=2)
    np.testing.assert_array_equal(again, labels)


def test_other_values_are_refused_with_the_digits_that_show_why(tmp_path):
    with pytest.raises(VolumeError, match=r"labels\.nii.*it holds 1\.001953"):
        to_map(_volume(tmp_path, [1.001953]), MAP)
    found = read_values(np.array([0, 1 + 2**-20], np.float32))
    assert found.note == "1.000001 is read as 1"


def test_values_above_a_byte_are_read_by_their_names(tmp_path):
    named = make_named_map({"left": [1024, 17], "right": 2035, "background": 99})
    assert named.labels == {"right": 1, "left": 17}
    labels, note = to_map(_volume(tmp_path, [1024, 17, 2035, 99, 1]), named)
    assert labels[0, 0].tolist() == [17, 17, 1, 0, 1, 0]
    assert note == ""


def test_a_value_without_a_name_is_refused_whole(tmp_path):
    named = make_named_map({"left": 1024})
    with pytest.raises(
        VolumeError, match="holds 2035, but labels of the given names are"
    ):
        to_map(_volume(tmp_path, [1024, 2035]), named)


def test_counts_are_of_the_numbers_of_the_map():
    found = read_values(np.array([1024, 17, 0.99999, 0], np.float32))
    named = make_named_map({"left": [1024, 17], "right": 1})
    assert found.count_in(named) == {0: 1, 1: 1, 17: 2}
