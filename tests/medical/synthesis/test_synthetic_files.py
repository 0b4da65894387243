import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.data.volumes import load_volume
from jaxswap.medical.synthesis import synthetic_files
from jaxswap.medical.synthesis.synthetic_case import SyntheticCase
from jaxswap.medical.synthesis.synthetic_files import (
    is_whole,
    record_path,
    synthetic_name,
    write_brats,
    write_dataset_json,
    write_nnunet,
    write_table,
)

SHAPE = (5, 6, 7)
AFFINE = np.array([[2.0, 0, 0, -8], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])


def make_case(orientation: str = "LPS", arm: str = "glioma") -> SyntheticCase:
    random = np.random.default_rng(0)
    names = ("t1n",) if arm == "parcellation" else ("t1n", "t1c", "t2w", "t2f")
    images = {name: random.integers(0, 900, SHAPE).astype(np.int16) for name in names}
    labels = random.integers(0, 4, SHAPE).astype(np.uint8)
    record = {
        "index": 3,
        "arm": arm,
        "head": {"is_mirrored": True, "size": 0.97},
        "volume_ml": {"Left Caudate": 1.5},
    }
    if arm != "parcellation":
        record["tumour"] = {"extent_mm": [1.0, 2.0, 3.0], "volume_ml": {"1": 0.5}}
        record["foci"] = [
            {"kind": "focus", "is_tumour": True, "to_core_mm": 61.0},
            {"kind": "satellite", "is_tumour": True, "to_core_mm": 21.0},
        ]
    return SyntheticCase(images, labels, 0 * labels, AFFINE, orientation, record)


@pytest.mark.parametrize("orientation", ["LPS", "LAS", "RAS"])
def test_files_read_back_to_the_same_case_in_any_orientation(
    tmp_path: Path, orientation: str
) -> None:
    case = make_case(orientation)
    write_brats(tmp_path, case, 3)
    folder = tmp_path / "BraTS-GLI-00003-000"
    arrays = {**case.images, "seg": case.labels}
    for name, array in arrays.items():
        path = folder / f"BraTS-GLI-00003-000-{name}.nii.gz"
        volume = load_volume(path)
        np.testing.assert_array_equal(volume.data, array)
        np.testing.assert_allclose(volume.affine, AFFINE)
        stored = nib.load(path)
        assert isinstance(stored, nib.Nifti1Image)
        assert "".join(nib.aff2axcodes(stored.affine)) == orientation
        assert stored.get_data_dtype() == array.dtype
        assert int(stored.header["qform_code"]) == int(stored.header["sform_code"]) == 1
        np.testing.assert_allclose(stored.get_qform(), stored.get_sform(), atol=1e-5)


def test_lps_files_lie_as_those_of_brats(tmp_path: Path) -> None:
    write_brats(tmp_path, make_case("LPS"), 3)
    stored = nib.load(tmp_path / "BraTS-GLI-00003-000/BraTS-GLI-00003-000-t1n.nii.gz")
    assert isinstance(stored, nib.Nifti1Image)
    assert stored.affine is not None
    np.testing.assert_allclose(np.diag(stored.affine)[:3], [-2, -2, 2])
    np.testing.assert_allclose(stored.affine[:3, 3], [0, 10, 0])


def test_half_written_cases_never_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case()
    saved = synthetic_files._save

    def fail_at_labels(path: Path, data: np.ndarray, case: SyntheticCase) -> None:
        if path.name.endswith("seg.nii.gz"):
            raise OSError("disk full")
        saved(path, data, case)

    monkeypatch.setattr(synthetic_files, "_save", fail_at_labels)
    with pytest.raises(OSError, match="disk full"):
        write_brats(tmp_path, case, 3)
    assert list(tmp_path.iterdir()) == []
    assert not is_whole(tmp_path, "glioma", 3)


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".writing-BraTS-GLI-00003-000"
    left.mkdir()
    (left / "rubbish.nii.gz").write_text("half")
    write_brats(tmp_path, make_case(), 3)
    assert [path.name for path in tmp_path.iterdir()] == ["BraTS-GLI-00003-000"]
    assert len(list((tmp_path / "BraTS-GLI-00003-000").iterdir())) == 6


def test_missing_files_of_a_case_are_put_back(tmp_path: Path) -> None:
    write_brats(tmp_path, make_case(), 3)
    assert is_whole(tmp_path, "glioma", 3)
    folder = tmp_path / "BraTS-GLI-00003-000"
    (folder / "BraTS-GLI-00003-000-t2f.nii.gz").unlink()
    assert not is_whole(tmp_path, "glioma", 3)
    write_brats(tmp_path, make_case(), 3)
    assert is_whole(tmp_path, "glioma", 3)


def test_parcellations_are_laid_out_for_nnunet(tmp_path: Path) -> None:
    case = make_case(arm="parcellation")
    assert not is_whole(tmp_path, "parcellation", 3)
    write_nnunet(tmp_path, case, 3)
    assert is_whole(tmp_path, "parcellation", 3)
    image = load_volume(tmp_path / "imagesTr" / "MNI152_00003_0000.nii.gz")
    labels = load_volume(tmp_path / "labelsTr" / "MNI152_00003.nii.gz")
    np.testing.assert_array_equal(image.data, case.images["t1n"])
    np.testing.assert_array_equal(labels.data, case.labels)
    assert record_path(tmp_path, "parcellation", 3).is_file()


def test_dataset_json_names_channels_and_labels(tmp_path: Path) -> None:
    write_dataset_json(tmp_path, make_label_map("two", {"a": 1, "b": 2}), 7, "not real")
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "a": 1, "b": 2}
    assert content["channel_names"] == {"0": "T1"}
    assert content["numTraining"] == 7
    assert content["file_ending"] == ".nii.gz"


def test_table_has_a_line_for_each_case(tmp_path: Path) -> None:
    write_brats(tmp_path, make_case(), 3)
    record = json.loads(record_path(tmp_path, "glioma", 3).read_text())
    write_table(tmp_path, [record, record | {"case": "other"}])
    with (tmp_path / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [synthetic_name("glioma", 3), "other"]
    row = rows[0]
    assert (row["right_mm"], row["superior_mm"], row["ml_1"]) == ("1.0", "3.0", "0.5")
    assert (row["foci"], row["satellites"], row["tumour_foci"]) == ("2", "1", "2")
    assert (row["nearest_focus_mm"], row["farthest_focus_mm"]) == ("21.0", "61.0")
