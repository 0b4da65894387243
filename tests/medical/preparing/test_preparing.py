"""From files to the arrays of a network and back onto the files, voxel by voxel."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.brain import brain_mask
from jaxswap.medical.data.datasets import CaseFiles, Dataset, Source, find_dataset
from jaxswap.medical.data.label_maps import LABEL_MAPS, make_label_map
from jaxswap.medical.data.volumes import Volume, VolumeError, load_volume
from jaxswap.medical.preparing.preparing import PrepareConfig, prepare

_ROTATED = np.array([[0, 0, 1.5, -3], [-1.0, 0, 0, 20], [0, 2.0, 0, 7], [0, 0, 0, 1]])
AFFINES = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "LPS": np.diag([-1.0, -2.0, 1.5, 1.0]),
    "LIA": np.array([[-2.0, 0, 0, 5], [0, 0, 3, 6], [0, -4, 0, 7], [0, 0, 0, 1]]),
    "PSR": _ROTATED,
}
SINGLE = make_label_map("x", {f"label {v}": v for v in range(1, 256)})


def _load(path) -> Any:
    return nib.load(path)


def _single(path, labels=None, label_map=SINGLE):
    """A data set of one case with one channel."""
    case = CaseFiles("case", (Source(path),), labels)
    return case, Dataset(path.parent, "datalist", ("image",), label_map, (case,))


@pytest.mark.parametrize("axes", AFFINES)
def test_labels_written_back_overlay_the_input_file(tmp_path, axes):
    affine = AFFINES[axes]
    assert "".join(nib.aff2axcodes(affine)) == axes
    # Nothing about this file is symmetric.
    image = np.random.default_rng(0).integers(50, 250, (9, 11, 13)).astype(np.int16)
    image[:2], image[:, 9:], image[:, :, :3] = 0, 0, 0
    labels = (image % 7).astype(np.uint8)
    path = tiny.write(tmp_path / "image.nii.gz", image, affine)
    truth = tiny.write(tmp_path / "labels.nii.gz", labels, affine)
    prepared = prepare(*_single(path, truth), multiple=8)
    assert prepared.image.shape[:3] == prepared.grid.shape
    assert prepared.labels is not None
    written = _load(prepared.grid.save_labels(tmp_path / "out.nii", prepared.labels))
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)
    np.testing.assert_array_equal(written.affine, _load(path).affine)
    assert written.get_data_dtype() == np.uint8
    # Image and labels of the prepared grid belong to the same millimeters.
    voxel = np.argwhere(prepared.labels > 0)[0]
    at_mm = prepared.grid.affine @ [*voxel, 1]
    i, j, k = np.round(np.linalg.solve(affine, at_mm)[:3]).astype(int)
    assert labels[i, j, k] == prepared.labels[tuple(voxel)]


def test_the_brain_is_cropped_normalized_and_padded(tmp_path):
    dataset = find_dataset(tiny.brats(tmp_path, ["BraTS2021_00000"]))
    prepared = prepare(dataset.cases[0], dataset, multiple=8)
    # The box of the head is 9 x 11 x 7 of 12 x 14 x 10 voxels.
    assert prepared.grid.cropped == (9, 11, 7)
    assert prepared.image.shape == (16, 16, 8, 4)
    assert prepared.image.dtype == np.float32
    brain = prepared.grid.apply((tiny.head() > 0).astype(np.uint8)) > 0
    assert (prepared.image[~brain] == 0).all()
    for channel in range(4):
        inside = prepared.image[brain, channel].astype(np.float64)
        assert abs(inside.mean()) < 1e-6
        assert abs(inside.std() - 1) < 1e-6
    inside = tiny.head(2)[2:-1, 2:-1, 2:-1].astype(float)
    values = inside[inside > 0]
    expected = np.where(inside > 0, (inside - values.mean()) / values.std(), 0)
    np.testing.assert_allclose(prepared.image[3:12, 2:13, :7, 2], expected, atol=1e-5)
    assert prepared.labels is not None
    assert prepared.labels.dtype == np.uint8
    np.testing.assert_array_equal(
        prepared.labels[3:12, 2:13, :7], tiny.tumour()[2:-1, 2:-1, 2:-1]
    )


def test_a_shape_is_taken_or_refused(tmp_path):
    dataset = find_dataset(tiny.brats(tmp_path, ["BraTS2021_00000"]))
    case = dataset.cases[0]
    prepared = prepare(case, dataset, multiple=8, shape=(16, 24, 32))
    assert prepared.image.shape == (16, 24, 32, 4)
    with pytest.raises(
        ValueError, match=r"BraTS2021_00000: .*9x11x7 .*8x16x8; 16x16x8"
    ):
        prepare(case, dataset, multiple=8, shape=(8, 16, 8))


def test_mirrored_files_of_one_head_prepare_the_same(tmp_path):
    image = tiny.head()
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirrored[0, 3] = image.shape[0] - 1
    right = tiny.write(tmp_path / "ras.nii", image)
    left = tiny.write(tmp_path / "las.nii", image[::-1], mirrored)
    one, other = (prepare(*_single(path)) for path in (right, left))
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_allclose(one.grid.affine, other.grid.affine)


def test_nan_is_background(tmp_path):
    image = tiny.head().astype(np.float32)
    image[image == 0] = np.nan
    plain = prepare(*_single(tiny.write(tmp_path / "zero.nii", np.nan_to_num(image))))
    prepared = prepare(*_single(tiny.write(tmp_path / "nan.nii", image)))
    assert prepared.grid.cropped == (9, 11, 7)
    np.testing.assert_array_equal(prepared.image, plain.image)


def test_voxels_are_resampled_only_when_asked(tmp_path):
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    path = tiny.write(tmp_path / "image.nii", tiny.head(), affine)
    truth = tiny.write(tmp_path / "labels.nii", tiny.tumour(), affine)
    as_it_is = prepare(*_single(path, truth), multiple=8)
    assert as_it_is.grid.cropped == as_it_is.grid.resampled
    assert as_it_is.grid.spacing_mm == (1, 1, 3)
    prepared = prepare(*_single(path, truth), multiple=8, spacing_mm=(1, 1, 1))
    grid = prepared.grid
    assert grid.resampled == (9, 11, 21)
    np.testing.assert_allclose(grid.spacing_mm, (1, 1, 1))
    assert prepared.labels is not None
    np.testing.assert_array_equal(grid.restore(prepared.labels), tiny.tumour())
    # The middle of the crop stays where it is in millimeters.
    middle = (np.array(grid.before) + (np.array(grid.resampled) - 1) / 2).tolist()
    first = np.array(grid.start) + (np.array(grid.cropped) - 1) / 2
    np.testing.assert_allclose(
        grid.affine @ [*middle, 1], affine @ [*first.tolist(), 1], atol=1e-9
    )


def test_nibabels_anatomical_image_is_prepared():
    path = Path(nib.__file__).parent / "tests" / "data" / "anatomical.nii"
    if not path.exists():
        pytest.skip("this nibabel comes without its test data")
    volume = load_volume(path)
    assert volume.data.min() < 0 < (volume.data != 0).mean()
    prepared = prepare(*_single(path), mask="brain")
    brain = brain_mask(volume.data[..., None], kind="brain")
    assert not brain.has_background
    assert 0.15 < brain.mask.mean() < 0.8
    inside = prepared.image[prepared.image != 0].astype(np.float64)
    assert abs(inside.mean()) < 1e-3
    assert abs(inside.std() - 1) < 1e-3


def test_the_mni152_head_is_prepared():
    from jaxswap.medical.data import anatomy

    try:
        folder = anatomy.nilearn_data_folder()
    except ModuleNotFoundError:
        pytest.skip("nilearn is not installed")
    name = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
    prepared = prepare(*_single(folder / name.format("t1")))
    assert prepared.grid.cropped == (145, 181, 155)
    assert prepared.image.shape == (160, 192, 160, 1)
    assert prepared.labels is None
    assert prepared.grid.like.data.shape == (197, 233, 189)


def _case(
    tmp_path, image=None, labels=None, affine=tiny.AFFINE, labels_affine=tiny.AFFINE
):
    """A case of two channels, the second and the labels perhaps wrong."""
    image = tiny.head(1) if image is None else image
    labels = tiny.tumour() if labels is None else labels
    first = tiny.write(tmp_path / "a.nii.gz", tiny.head())
    other = tiny.write(tmp_path / "b.nii.gz", image, affine)
    truth = tiny.write(tmp_path / "l.nii.gz", labels, labels_affine)
    case = CaseFiles("case", (Source(first), Source(other)), truth)
    return case, Dataset(
        tmp_path, "brats", ("t1n", "t1c"), LABEL_MAPS["brats2021"], (case,)
    )


INFINITE = tiny.head().astype(np.float32)
INFINITE[3, 3, 3] = np.inf
BAD_CASES = [
    ({"image": tiny.head(shape=(12, 14, 11))}, r"b.nii.gz: has shape \(12, 14, 11\)"),
    ({"affine": np.diag([1, 1, 1.1, 1])}, r"b.nii.gz: its affine .* 0\.9 mm apart"),
    ({"image": tiny.head() * 0}, "case: channel t1c is 0 everywhere in the brain"),
    ({"image": INFINITE}, r"b.nii.gz: 1 of 1680 voxels are NaN or infinite"),
    ({"labels": tiny.tumour((2, 1, 3))}, r"l.nii.gz: holds 3, .* 0, 1, 2, 4\. If"),
    ({"labels": tiny.tumour()[:-1]}, r"l.nii.gz: has shape \(11, 14, 10\), but"),
    ({"labels_affine": np.diag([1, 1, 2, 1])}, "l.nii.gz: its affine differs"),
    ({"labels": tiny.tumour() * 0.5}, r"l.nii.gz: .*integers, but it holds 0\.5"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD_CASES)
def test_cases_that_do_not_fit_are_refused_by_name(tmp_path, wrong, message):
    case, dataset = _case(tmp_path, **wrong)
    with pytest.raises(VolumeError, match=message):
        prepare(case, dataset)


def test_the_editions_that_would_fit_are_named(tmp_path):
    case, dataset = _case(tmp_path, labels=tiny.tumour((2, 1, 3)))
    with pytest.raises(VolumeError, match="is of brats2023 or brats2024-gli or"):
        prepare(case, dataset)


def test_labels_without_a_map_are_refused(tmp_path):
    case, dataset = _case(tmp_path)
    with pytest.raises(ValueError, match=r"l.nii.gz: what its values mean.*`edition`"):
        prepare(case, replace(dataset, label_map=None))


def test_missing_files_and_channels_are_refused(tmp_path):
    case, dataset = _case(tmp_path)
    with pytest.raises(ValueError, match="case: has 2 images for 3 channels"):
        prepare(case, replace(dataset, channels=("t1n", "t1c", "t2w")))
    case.images[1].path.unlink()
    with pytest.raises(FileNotFoundError, match=r"b.nii.gz: no such file"):
        prepare(case, dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multiple": 0}, "`multiple` is 0"),
        ({"shape": (16, 16)}, r"`shape` is \(16, 16\); it needs three"),
        ({"shape": (16, 16, 0)}, "needs three positive numbers"),
        ({"shape": (16, 16, 20)}, "multiple of 16; 16x16x32 would do"),
        ({"spacing_mm": (1, 1)}, r"`spacing_mm` is \(1, 1\)"),
        ({"spacing_mm": (1, 0, 1)}, "three positive numbers"),
        ({"spacing_mm": (1e-3,) * 3}, "`spacing_mm` makes .* voxels, which would take"),
        ({"spacing_mm": (1e-300,) * 3}, "which would take inf GiB of memory, and"),
        ({"shape": (160_000,) * 3}, "`shape` makes 160000x160000x160000 voxels, which"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    case, dataset = _case(tmp_path)
    with pytest.raises(ValueError, match=message):
        prepare(case, dataset, **options)


def test_arrays_of_another_grid_are_refused(tmp_path):
    grid = prepare(*_single(tiny.write(tmp_path / "a.nii", tiny.head()))).grid
    with pytest.raises(ValueError, match="the prepared grid"):
        grid.restore(np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="the file"):
        grid.apply(np.zeros((1, 2, 3)))
    assert isinstance(grid.like, Volume)
    assert grid.like.data.shape == tiny.SHAPE
    assert PrepareConfig().shape is None


def _crop(folder, value):
    """A crop without background, with a label in its darkest part."""
    rng = np.random.default_rng(0)
    image = rng.normal(300, 5, (16, 16, 16)).astype(np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[5:11, 5:11, 0:6] = 1
    image[labels > 0] *= value
    truth = tiny.write(folder / "labels.nii", labels)
    return labels, _single(tiny.write(folder / "image.nii", image), truth)


def test_without_background_no_labelled_voxel_is_blanked(tmp_path):
    labels, (case, dataset) = _crop(tmp_path, 0.2)
    for mask in ("foreground", "none"):
        prepared = prepare(case, dataset, multiple=16, mask=mask)
        assert (prepared.image[labels > 0] != 0).all()
        assert prepared.notes == ()
    with pytest.raises(VolumeError, match=r"case: 212 labeled voxels \(98.15%\) lie"):
        prepare(case, dataset, mask="brain")
    with pytest.raises(ValueError, match="`mask` is 'skull'; choose one of foreground"):
        prepare(case, dataset, mask="skull")


def test_labels_on_background_are_kept_and_told(tmp_path):
    labels = tiny.tumour((1,))
    labels[0, 0, 0] = 1
    truth = tiny.write(tmp_path / "labels.nii", labels)
    case, dataset = _single(tiny.write(tmp_path / "image.nii", tiny.head()), truth)
    prepared = prepare(case, dataset, multiple=4)
    assert prepared.labels is not None
    assert np.count_nonzero(prepared.labels) == np.count_nonzero(labels)
    (note,) = prepared.notes
    assert note.startswith("1 labeled voxels (")
    assert note.endswith("lie where every channel is background.")
