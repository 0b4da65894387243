"""Every fault of a data set is listed at once, and nothing else."""

import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.audit import audit, survey
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.fault_groups import file_of
from jaxswap.medical.preparing.audit_summary import suggest_shape, summarize_survey

NAMES = [f"BraTS2021_{number:05d}" for number in range(4)]


@pytest.fixture
def clean(tmp_path):
    return tiny.brats(tmp_path / "data", NAMES)


def _kinds(faults):
    return sorted((fault.case, fault.kind, fault.severity) for fault in faults)


@pytest.mark.parametrize("make", [tiny.decathlon, tiny.nnunet])
def test_clean_data_sets_have_no_faults(tmp_path, clean, make):
    assert audit(find_dataset(clean)) == ()
    assert audit(find_dataset(make(tmp_path / "other"))) == ()


def _file(root, number, suffix):
    return root / NAMES[number] / f"{NAMES[number]}{suffix}.nii.gz"


def test_all_faults_are_listed_at_once(clean):
    _file(clean, 0, "_t2").unlink()
    _file(clean, 0, "_flair").write_bytes(_file(clean, 0, "_flair").read_bytes()[:-300])
    tiny.write(_file(clean, 1, "_t1"), tiny.head(shape=(12, 14, 11)))
    tiny.write(_file(clean, 1, "_t2"), tiny.head(), np.diag([1, 1, 2, 1]))
    tiny.write(_file(clean, 2, "_seg"), tiny.tumour((2, 1, 3)))
    tiny.write(_file(clean, 3, "_seg"), tiny.tumour() * 0)
    tiny.write(_file(clean, 3, "_t1ce"), tiny.head() * 0 + 7)
    faults = audit(find_dataset(clean))
    assert _kinds(faults) == [
        (NAMES[0], "missing modality", "error"),
        (NAMES[0], "unusable file", "error"),
        (NAMES[1], "affine", "error"),
        (NAMES[1], "shape", "error"),
        (NAMES[2], "label values", "error"),
        (NAMES[3], "constant channel", "error"),
        (NAMES[3], "empty labels", "warning"),
    ]
    by_kind = {fault.kind: fault for fault in faults}
    assert by_kind["missing modality"].file == _file(clean, 0, "_t2")
    assert "t2w is missing" in by_kind["missing modality"].message
    assert by_kind["unusable file"].file == _file(clean, 0, "_flair")
    assert by_kind["unusable file"].message.startswith("cannot be read")
    assert by_kind["affine"].file == _file(clean, 1, "_t2")
    # Two files agree with the labels, so the third image is the odd one.
    assert by_kind["shape"].file == _file(clean, 1, "_t1")
    assert "holds 3, but labels of brats2021" in by_kind["label values"].message


def _swap(path, data, affine=tiny.AFFINE, kind=nib.Nifti1Image):
    tiny.write(path, data, affine, kind)


def _with(value, dtype=np.float32):
    image = tiny.head().astype(dtype)
    image[4, 5, 5] = value
    return image


def _two_transforms(path):
    image = nib.Nifti1Image(tiny.head(), None)
    image.set_sform(np.eye(4), code=2)
    image.set_qform(np.diag([2.0, 2.0, 2.0, 1.0]), code=1)
    nib.save(image, path)


def _singular(path):
    image = nib.Nifti1Image(tiny.head(), None)
    image.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=2)
    nib.save(image, path)


def _outside():
    labels = tiny.tumour()
    labels[0, 0, :3] = 2
    return labels


FAULTS = [
    ("_t1", lambda p: _swap(p, _with(np.nan)), "not a number", "1 voxels.*t1n are NaN"),
    ("_t1", lambda p: _swap(p, _with(np.inf)), "unusable file", "NaN or infinite"),
    ("_t1", lambda p: p.write_bytes(b""), "unusable file", "cannot be read"),
    ("_t1", lambda p: p.write_text("text"), "unusable file", "cannot be read"),
    ("_t1", _two_transforms, "qform and sform", "the sform is used"),
    ("_t1", _singular, "unusable file", "cannot be inverted"),
    ("_t1", lambda p: _swap(p, np.zeros((2, 2, 2, 3))), "unusable file", "found shape"),
    (
        "_t1",
        lambda p: _swap(p, tiny.head().astype(np.complex64)),
        "unusable file",
        "pl",
    ),
    ("_t2", lambda p: _swap(p, np.ones((4, 4))), "unusable file", "shape"),
    (
        "_seg",
        lambda p: _swap(p, _outside()),
        "labels on background",
        "3 labeled",
    ),
    ("_seg", lambda p: _swap(p, tiny.tumour() * 0.5), "label values", "holds 0.5"),
    ("_seg", lambda p: _swap(p, tiny.tumour()[:-1]), "shape", r"\(11, 14, 10\), but"),
    ("_seg", lambda p: p.unlink(), "missing labels", "not used for training"),
]


@pytest.mark.parametrize(("suffix", "spoil", "kind", "message"), FAULTS)
def test_each_fault_is_found_and_named(clean, suffix, spoil, kind, message):
    path = _file(clean, 1, suffix)
    spoil(path)
    faults = [fault for fault in audit(find_dataset(clean)) if fault.kind == kind]
    assert len(faults) == 1
    assert faults[0].case == NAMES[1]
    assert faults[0].file in (path, None)
    assert re.search(message, faults[0].message)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_kinds_of_files_that_are_no_faults(clean, kind):
    _swap(_file(clean, 0, "_t1"), tiny.head().astype(">i2")[..., None], kind=kind)
    _swap(_file(clean, 0, "_seg"), tiny.tumour().astype(np.int32), kind=kind)
    for suffix in (*tiny.OLD, "_seg"):
        image = tiny.tumour() if suffix == "_seg" else tiny.head()
        _swap(_file(clean, 1, suffix), image, np.diag([-1, -1, 1, 1]))
    assert audit(find_dataset(clean)) == ()


def test_int64_labels_are_no_fault(clean):
    labels = nib.Nifti1Image(tiny.tumour().astype(np.int64), np.eye(4), dtype=np.int64)
    nib.save(labels, _file(clean, 0, "_seg"))
    assert audit(find_dataset(clean)) == ()


def test_files_of_other_formats_are_refused_with_a_way_out(tmp_path):
    training = [{"image": name, "label": "l.nii"} for name in ("a.nrrd", "b.hdr")]
    for name in ("a.nrrd", "b.hdr", "c.mnc"):
        (tmp_path / name).write_bytes(b"x")
    tiny.write(tmp_path / "l.nii", tiny.tumour())
    path = tiny.write_json(
        tmp_path / "list.json",
        {"labels": {"tumour": 1}, "training": training, "test": ["c.mnc"]},
    )
    faults = [f for f in audit(find_dataset(path)) if f.kind == "unsupported format"]
    assert [file_of(fault, path) for fault in faults] == ["a.nrrd", "b.hdr", "c.mnc"]
    ways = ("SimpleITK.ReadImage", "nibabel.load", "mnc2nii")
    for fault, way in zip(faults, ways, strict=True):
        assert way in fault.message


def test_what_concerns_the_whole_data_set(tmp_path):
    coarse = np.diag([1.0, 1.0, 5.0, 1.0])
    tiny.write(tmp_path / "a" / "image.nii", tiny.head())
    tiny.write(tmp_path / "b" / "image.nii", tiny.head(), coarse)
    tiny.write(tmp_path / "b" / "l.nii", tiny.tumour(), coarse)
    training = [
        {"image": "a/image.nii", "label": "b/l.nii"},
        {"image": "b/image.nii", "label": "b/l.nii"},
    ]
    path = tiny.write_json(tmp_path / "list.json", {"training": training})
    kinds = {fault.kind for fault in audit(find_dataset(path))}
    assert kinds == {
        "affine",
        "anisotropic voxels",
        "file used twice",
        "label map",
        "voxel sizes differ",
    }


def test_a_name_that_is_used_twice(clean):
    tiny.brats_case(clean / "copy", NAMES[0])
    (fault,) = audit(find_dataset(clean))
    assert (fault.case, fault.kind) == (NAMES[0], "name used twice")


def test_notes_of_the_layout_are_faults(tmp_path):
    (fault,) = audit(find_dataset(tiny.nnunet(tmp_path, numTraining=7)))
    assert "`numTraining` is 7, but there are 2" in fault.message
    assert fault.severity == "warning"


def test_an_image_without_background_is_a_warning(clean):
    noise = np.random.default_rng(0).normal(0, 5, tiny.SHAPE)
    for suffix in tiny.OLD:
        _swap(_file(clean, 0, suffix), (tiny.head() + noise).astype(np.float32))
    (fault,) = audit(find_dataset(clean))
    assert (fault.kind, fault.severity) == ("no background", "warning")


def test_a_label_file_that_is_missing_labels_nothing(tmp_path):
    tiny.decathlon(tmp_path)
    next((tmp_path / "labelsTr").iterdir()).unlink()
    summary = summarize_survey(survey(find_dataset(tmp_path)))
    assert summary["labeled_cases"] == 1


def test_statistics_of_a_data_set(clean):
    labels = tiny.tumour()
    found = survey(find_dataset(clean), workers=2)
    summary = summarize_survey(found)
    assert summary["cases"] == summary["labeled_cases"] == 4
    assert summary["shapes"] == {"12x14x10": 4}
    assert summary["spacings_mm"] == {"1x1x1": 4}
    assert summary["axes"] == {"RAS": 4}
    assert summary["labels"] == "brats2021"
    assert summary["largest_brain"] == [9, 11, 7]
    assert summary["suggested_shape"] == [16, 16, 16]
    assert suggest_shape(found, multiple=4) == (12, 12, 8)
    counts = {int(key.split()[0]): n for key, n in summary["voxels_by_label"].items()}
    for value in (0, 1, 2, 4):
        assert counts[value] == 4 * (labels == value).sum()
    core = summary["regions"]["tumour core"]
    assert core["cases"] == 4
    assert core["median_ml"] == pytest.approx(np.isin(labels, (1, 4)).sum() / 1000)


def test_volumes_take_the_voxel_size_into_account(tmp_path):
    affine = np.array([[0, 2.0, 0, 0], [-1, 0, 0, 0], [0, 0, 1.5, 0], [0, 0, 0, 1]])
    tiny.write(tmp_path / "a.nii", tiny.head(), affine)
    tiny.write(tmp_path / "l.nii", tiny.tumour((1,)), affine)
    content = {
        "labels": {"lesion": 1},
        "training": [{"image": "a.nii", "label": "l.nii"}],
    }
    dataset = find_dataset(tiny.write_json(tmp_path / "list.json", content))
    (report,) = survey(dataset).reports
    assert report.spacing_mm == (2.0, 1.0, 1.5)
    assert report.volumes_ml == {
        "lesion": pytest.approx((tiny.tumour((1,)) > 0).sum() * 3 / 1000)
    }


def test_every_case_advances_the_bar(clean):
    steps = []
    survey(find_dataset(clean), advance=lambda: steps.append(1))
    assert len(steps) == 4
    with pytest.raises(ValueError, match="`workers` is 0"):
        survey(find_dataset(clean), workers=0)


def test_an_unknown_map_still_gives_counts(clean):
    dataset = replace(find_dataset(clean), label_map=None)
    found = survey(dataset)
    assert [fault.kind for fault in found.errors] == ["label map"]
    assert summarize_survey(found)["regions"] == {}
    assert "4 unknown" in summarize_survey(found)["voxels_by_label"]
