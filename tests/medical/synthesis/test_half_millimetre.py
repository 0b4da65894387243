import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.synthesis import half_millimetre
from jaxswap.medical.synthesis.half_millimetre import (
    extract_templates,
    fetch_templates,
    has_templates,
    load_templates,
    mirrored_labels,
)

NAMES = "ROIid;ROIabbr;ROIname\n41;rWM;Right White\n2;lWM;Left White\n14;v;Both Third\n"
INSIDE = "deepmriprep/data/templates"


def write_templates(folder: Path, names: str = NAMES, shift_mm: float = 0.0) -> None:
    """An image of 0.5 mm and labels of 1 mm, stored from right to left."""
    folder.mkdir(parents=True, exist_ok=True)
    image = np.zeros((24, 28, 20), np.uint8)
    image[4:20, 4:24, 4:16] = 200
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = [-6, -7, -5]
    nib.save(nib.Nifti1Image(image, affine), folder / "Template_05mm_bet.nii.gz")
    labels = np.zeros((12, 14, 10), np.uint8)
    labels[6:10, 2:12, 2:8] = 2  # the file's first axis points to the left
    labels[2:6, 2:12, 2:8] = 41
    labels[5:7, 6:8, 4:6] = 14
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = [5.25 + shift_mm, -6.75, -4.75]
    nib.save(nib.Nifti1Image(labels, affine), folder / "ibsr.nii.gz")
    (folder / "ibsr.csv").write_text(names)


def write_wheel(path: Path, source: Path, without: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for file in source.iterdir():
            if file.name != without:
                wheel.write(file, f"{INSIDE}/{file.name}")
    return path


def test_labels_lie_on_the_grid_of_the_image_with_left_on_the_left(
    tmp_path: Path,
) -> None:
    write_templates(tmp_path)
    atlas = load_templates(tmp_path)
    assert atlas.labels.shape == atlas.image.data.shape == (24, 28, 20)
    assert atlas.labels.dtype == np.uint8
    assert atlas.label_map.labels == {
        "Left White": 1,
        "Both Third": 2,
        "Right White": 3,
    }
    assert atlas.label_map.is_exclusive
    left, right = (np.argwhere(atlas.labels == value)[:, 0] for value in (1, 3))
    assert left.max() < right.min()  # arrays point to the right
    # Each voxel of 1 mm becomes eight, and the label lies where it was.
    assert (atlas.labels == 2).sum() == 8 * 8
    center = np.argwhere(atlas.labels == 2).mean(0)
    np.testing.assert_allclose(atlas.image.affine[:3, :3] @ center, [5.75, 6.75, 4.75])


def test_nothing_outside_the_brain_has_a_label(tmp_path: Path) -> None:
    write_templates(tmp_path)
    atlas = load_templates(tmp_path)
    assert not atlas.labels[atlas.image.data == 0].any()
    assert atlas.labels[atlas.image.data > 0].any()


def test_labels_of_another_space_are_refused(tmp_path: Path) -> None:
    write_templates(tmp_path, shift_mm=6.0)
    with pytest.raises(ValueError, match=r"ibsr\.nii\.gz: only \d+% of the labels"):
        load_templates(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("ROIid;ROIname\n2;Left White\n41;Right White\n", "label 14 has no name"),
        ("a;b\n1;2\n", "expected columns ROIid and ROIname"),
        ("ROIid;ROIname\nx;Left White\n", "expected columns ROIid and ROIname"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    tmp_path: Path, names: str, message: str
) -> None:
    write_templates(tmp_path, names)
    with pytest.raises(ValueError, match=message):
        load_templates(tmp_path)


@pytest.mark.parametrize(
    "name", ["Template_05mm_bet.nii.gz", "ibsr.nii.gz", "ibsr.csv"]
)
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    write_templates(tmp_path)
    assert has_templates(tmp_path)
    (tmp_path / name).unlink()
    assert not has_templates(tmp_path)
    with pytest.raises(FileNotFoundError, match=name):
        load_templates(tmp_path)


def test_templates_are_copied_out_of_the_wheel(tmp_path: Path) -> None:
    write_templates(tmp_path / "source")
    wheel = write_wheel(tmp_path / "fake.whl", tmp_path / "source")
    extract_templates(wheel, tmp_path / "out", None)
    for name in ("Template_05mm_bet.nii.gz", "ibsr.nii.gz", "ibsr.csv"):
        copied = (tmp_path / "out" / name).read_bytes()
        assert copied == (tmp_path / "source" / name).read_bytes()


def test_wheel_of_another_digest_is_refused(tmp_path: Path) -> None:
    write_templates(tmp_path / "source")
    wheel = write_wheel(tmp_path / "fake.whl", tmp_path / "source")
    with pytest.raises(ValueError, match=r"fake\.whl: its SHA-256 is [0-9a-f]{64}"):
        extract_templates(wheel, tmp_path / "out", "0" * 64)
    assert not (tmp_path / "out").exists()


def test_wheel_without_the_files_is_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    write_templates(tmp_path / "source")
    wheel = write_wheel(tmp_path / "fake.whl", tmp_path / "source", without="ibsr.csv")
    with pytest.raises(ValueError, match=r"templates are not in it.*ibsr\.csv"):
        extract_templates(wheel, tmp_path / "out", None)
    (tmp_path / "broken.whl").write_text("no zip")
    with pytest.raises(ValueError, match=r"broken\.whl: the templates are not in it"):
        extract_templates(tmp_path / "broken.whl", tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_templates_that_are_there_are_not_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_templates(tmp_path)
    monkeypatch.setattr(half_millimetre.sys, "executable", "/no/such/python")
    assert fetch_templates(tmp_path).labels.any()


def test_failed_download_says_why_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_millimetre, "PACKAGE", "deepmriprep==0.3.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as if offline
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(ConnectionError, match=r"not download deepmriprep==0\.3\.0"):
        fetch_templates(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mirroring_exchanges_sides_and_keeps_the_middle() -> None:
    label_map = make_label_map(
        "m", {"Left A": 5, "Right A": 1, "Both": 2, "Left B": 3, "Right B": 4}
    )
    table = mirrored_labels(label_map)
    assert table[[0, 1, 2, 3, 4, 5]].tolist() == [0, 5, 2, 4, 3, 1]
    np.testing.assert_array_equal(table[table], np.arange(256))


def test_side_without_its_partner_is_refused() -> None:
    with pytest.raises(ValueError, match="'Left A' has no 'Right A'"):
        mirrored_labels(make_label_map("m", {"Left A": 1, "Right B": 2, "Left B": 3}))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    try:
        with_wheel = half_millimetre._download(tmp_path_factory.mktemp("wheel"))
    except ConnectionError as error:
        pytest.skip(str(error))
    extract_templates(with_wheel, folder, half_millimetre.WHEEL_SHA256)
    return folder


@pytest.mark.slow
def test_real_head_has_half_millimetre_voxels_and_32_labels(real: Path) -> None:
    atlas = load_templates(real)
    assert atlas.image.data.shape == (339, 411, 339)
    assert atlas.image.spacing == (0.5, 0.5, 0.5)
    assert len(atlas.label_map.labels) == 32
    assert set(np.unique(atlas.labels)) == set(range(33))
    brain = atlas.image.data > 0
    assert (atlas.labels[brain] > 0).mean() > 0.95
    half = brain.shape[0] // 2
    hippocampus = {
        side: atlas.label_map.labels[f"{side} Hippocampus"]
        for side in ("Left", "Right")
    }
    assert (np.argwhere(atlas.labels == hippocampus["Left"])[:, 0] < half).all()
    assert (np.argwhere(atlas.labels == hippocampus["Right"])[:, 0] > half).all()
