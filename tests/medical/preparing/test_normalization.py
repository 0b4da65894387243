"""Channels are brought to scale by their names, CT alike in all cases."""

import numpy as np
import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.volumes import VolumeError
from jaxswap.medical.preparing.normalization import (
    Normalization,
    choose_schemes,
    measure,
    normalize,
)


def test_the_name_of_a_channel_says_its_scheme():
    assert choose_schemes(["CT", "ct", "T1", "noNorm"]) == (
        "ct",
        "ct",
        "zscore",
        "none",
    )
    assert choose_schemes(["CT", "PET"], "none") == ("none", "none")
    assert choose_schemes(["CT", "PET"], {"PET": "ct"}) == ("ct", "ct")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("minmax", "`normalization` is 'minmax'; choose one of zscore, ct, none"),
        ({"MR": "ct"}, "names the channel 'MR'; the data has CT"),
    ],
)
def test_wrong_schemes_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        choose_schemes(["CT"], given)


def _scans(folder, count=3):
    """Cases of nnU-Net whose voxels are -1000 but for a labeled ramp."""
    ramps = []
    for number in range(count):
        image = np.full((8, 8, 8), -1000, np.int16)
        labels = np.zeros((8, 8, 8), np.uint8)
        labels[2:6, 2:6, 2:6] = 1
        ramp = np.arange(64) * (number + 1)
        image[labels > 0] = ramp
        tiny.write(folder / "imagesTr" / f"c{number}_0000.nii", image)
        tiny.write(folder / "labelsTr" / f"c{number}.nii", labels)
        ramps.append(ramp)
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1},
        "file_ending": ".nii",
    }
    tiny.write_json(folder / "dataset.json", content)
    return find_dataset(folder), np.concatenate(ramps)


def test_ct_is_measured_on_labeled_voxels_of_all_cases(tmp_path):
    dataset, values = _scans(tmp_path)
    seen = []
    (how,) = measure(dataset, ["ct"], advance=lambda: seen.append(1))
    assert len(seen) == 3
    assert how.low == pytest.approx(np.percentile(values, 0.5))
    assert how.high == pytest.approx(np.percentile(values, 99.5))
    assert how.mean == pytest.approx(values.mean())
    assert how.deviation == pytest.approx(values.std())


def test_ct_is_clipped_and_scaled_alike_everywhere():
    image = np.array([-1000.0, 0, 50, 900], np.float32).reshape(4, 1, 1, 1)
    mask = np.array([False, True, True, True]).reshape(4, 1, 1)
    how = Normalization("ct", -10, 100, 40, 20)
    scaled = normalize(image, mask, ["CT"], [how])
    assert scaled.ravel().tolist() == [-2.5, -2, 0.5, 3]
    as_it_is = normalize(image, mask, ["x"], [Normalization("none")])
    np.testing.assert_array_equal(as_it_is, image)
    standard = normalize(image, mask, ["x"]).ravel()
    assert standard[0] == 0
    assert standard.mean() == pytest.approx(0, abs=1e-6)


def test_ct_without_a_label_cannot_be_scaled(tmp_path):
    dataset, _ = _scans(tmp_path)
    for path in (tmp_path / "labelsTr").iterdir():
        tiny.write(path, np.zeros((8, 8, 8), np.uint8))
    with pytest.raises(VolumeError, match="no voxel is labeled"):
        measure(dataset, ["ct"])
