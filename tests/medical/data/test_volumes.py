"""Reading volumes of every kind, writing labels back, and refusing bad files."""

import gzip
import os
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from jaxswap.medical.data import memory
from jaxswap.medical.data.label_values import load_labels
from jaxswap.medical.data.volumes import (
    Volume,
    VolumeError,
    load_channels,
    load_volume,
    save_labels,
)

_AFFINES = {
    "RAS": np.diag([2.0, 3.0, 4.0, 1.0]),
    "LAS": np.diag([-2.0, 3.0, 4.0, 1.0]),
    "LPS": np.diag([-2.0, -3.0, 4.0, 1.0]),
    "LIA": np.array([[-2.0, 0, 0, 5], [0, 0, 3, 6], [0, -4, 0, 7], [0, 0, 0, 1]]),
}


def _load(path) -> Any:
    return nib.load(path)


def _write(path, data, affine=_AFFINES["RAS"], kind=nib.Nifti1Image):
    nib.save(kind(data, affine), path)
    return path


def _ramp(shape=(3, 4, 5), dtype: Any = np.int16):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("axes", _AFFINES)
def test_labels_return_to_the_orientation_of_the_input(tmp_path, axes):
    assert "".join(nib.aff2axcodes(_AFFINES[axes])) == axes
    path = _write(tmp_path / "in.nii.gz", _ramp(), _AFFINES[axes])
    volume = load_volume(path)
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    labels = (volume.data % 7).astype(np.int32)
    written = _load(save_labels(tmp_path / "out.nii.gz", labels, volume))
    np.testing.assert_array_equal(written.affine, _load(path).affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), _ramp() % 7)
    assert written.get_data_dtype() == np.uint8


def test_mirrored_files_of_one_head_give_one_array(tmp_path):
    data = _ramp()
    moved = _AFFINES["LAS"].copy()
    moved[0, 3] = 2.0 * (data.shape[0] - 1)
    right = load_volume(_write(tmp_path / "ras.nii", data))
    left = load_volume(_write(tmp_path / "las.nii", data[::-1], moved))
    np.testing.assert_array_equal(right.data, left.data)
    np.testing.assert_allclose(right.affine, left.affine)


def test_spacing_follows_the_axes(tmp_path):
    volume = load_volume(_write(tmp_path / "a.nii", _ramp(), _AFFINES["LIA"]))
    assert volume.spacing == (2.0, 3.0, 4.0)


def test_spacing_comes_from_the_sform_where_the_qform_differs(tmp_path):
    image = nib.Nifti1Image(_ramp(), None)
    image.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]), code=2)
    image.set_qform(np.eye(4), code=1)
    nib.save(image, tmp_path / "a.nii")
    assert _load(tmp_path / "a.nii").header.get_zooms() == (1.0, 1.0, 1.0)
    assert load_volume(tmp_path / "a.nii").spacing == (2.0, 2.0, 2.0)


def test_slope_and_intercept_apply_to_the_image_but_not_to_labels(tmp_path):
    path = _write(tmp_path / "in.nii", _ramp())
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.5, 3.0], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(content)
    volume = load_volume(tmp_path / "in.nii")
    np.testing.assert_allclose(volume.data, _ramp() * 0.5 + 3)
    written = save_labels(tmp_path / "out.nii", np.ones((3, 4, 5), int), volume)
    assert set(np.unique(_load(written).get_fdata())) == {1.0}


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("a.nii", nib.Nifti1Image, ">i2"),
        ("a.nii.gz", nib.Nifti2Image, "<f4"),
        ("a.mgz", nib.MGHImage, "<f4"),
        ("A.NII.GZ", nib.Nifti1Image, "<u1"),
    ],
)
def test_kinds_of_files_and_numbers(tmp_path, name, kind, dtype):
    volume = load_volume(_write(tmp_path / name, _ramp().astype(dtype), kind=kind))
    np.testing.assert_array_equal(volume.data, _ramp())
    assert volume.data.dtype == np.dtype("float32")
    written = save_labels(tmp_path / "out.nii.gz", _ramp().astype(int), volume)
    np.testing.assert_array_equal(_load(written).get_fdata(), _ramp())


def test_a_fourth_axis_of_one_is_dropped(tmp_path):
    path = _write(tmp_path / "a.nii", _ramp()[..., None])
    assert load_volume(path).data.shape == (3, 4, 5)


def test_channels_of_one_file_are_picked(tmp_path):
    data = np.stack([_ramp(), 10 + _ramp()], axis=-1)
    path = _write(tmp_path / "a.nii.gz", data, _AFFINES["LIA"])
    first, second = load_channels(path, [0, 1])
    np.testing.assert_array_equal(second.data, first.data + 10)
    np.testing.assert_array_equal(load_volume(path, channel=1).data, second.data)
    single = load_volume(_write(tmp_path / "b.nii", _ramp(), _AFFINES["LIA"]))
    np.testing.assert_array_equal(first.data, single.data)
    np.testing.assert_array_equal(first.affine, single.affine)
    with pytest.raises(VolumeError, match="has 2 channels; there is no channel 2"):
        load_volume(path, channel=2)
    with pytest.raises(VolumeError, match=r"expected channels, found .*\(3, 4, 5\)"):
        load_volume(tmp_path / "b.nii", channel=1)


def test_labels_of_a_file_with_channels_fit_its_geometry(tmp_path):
    data = np.stack([_ramp()] * 4, axis=-1)
    path = _write(tmp_path / "a.nii.gz", data, _AFFINES["LPS"])
    volume = load_volume(path, channel=2)
    written = _load(save_labels(tmp_path / "l.nii", volume.data.astype(int), volume))
    assert written.shape == (3, 4, 5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), _ramp())
    np.testing.assert_array_equal(written.affine, _AFFINES["LPS"])


def test_a_vector_image_has_its_channels_on_the_fifth_axis(tmp_path):
    data = np.stack([_ramp(), _ramp() + 1], axis=-1)[:, :, :, None, :]
    path = _write(tmp_path / "a.nii", data)
    np.testing.assert_array_equal(load_volume(path, channel=1).data, _ramp() + 1)


def test_nan_is_replaced_and_counted_when_asked(tmp_path):
    data = _ramp(dtype=np.float32)
    data[0, 0, :2] = np.nan
    (volume,) = load_channels(
        _write(tmp_path / "a.nii", data), [None], replace_nan=True
    )
    assert volume.nan_voxels == 2
    np.testing.assert_array_equal(volume.data, np.nan_to_num(data))
    data[0, 0, 0] = np.inf
    with pytest.raises(VolumeError, match="1 of 60 voxels are NaN or infinite"):
        load_channels(_write(tmp_path / "b.nii", data), [None], replace_nan=True)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("a.hdr", 'nibabel.load("a.hdr"), "a.nii.gz"'),
        ("a.img", "nibabel.load"),
        ("a.IMG.GZ", "nibabel.load"),
        ("a.mnc", "mnc2nii a.mnc a.nii"),
        ("a.nrrd", 'SimpleITK.ReadImage("a.nrrd"), "a.nii.gz"'),
        ("a.mha", "SimpleITK"),
        ("a.dcm", "dcm2niix"),
        ("a+orig.HEAD", 'nibabel.load("a+orig.HEAD"), "a+orig.nii.gz"'),
        ("a+orig.BRIK.gz", 'nibabel.load("a+orig.BRIK.gz")'),
        ("a.PAR", "parrec2nii a.PAR"),
        ("a.REC", "parrec2nii a.PAR"),
        ("a.mif", "mrconvert a.mif a.nii.gz"),
    ],
)
def test_other_formats_are_refused_with_what_to_do(tmp_path, name, way):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(VolumeError) as caught:
        load_volume(tmp_path / name)
    message = str(caught.value)
    suffix = name[name.index(".") :].lower()
    assert message.startswith(f"{tmp_path / name}: {suffix} files are not")
    assert way in message


def test_labels_may_have_any_known_values(tmp_path):
    image = load_volume(_write(tmp_path / "image.nii", _ramp()))
    path = _write(tmp_path / "labels.nii", 4 * (_ramp() % 2))
    labels = load_labels(path, image, classes=(0, 1, 2, 4))
    np.testing.assert_array_equal(labels, 4 * (_ramp() % 2))
    with pytest.raises(VolumeError, match=r"to be \[0, 1\], but it also holds 4"):
        load_labels(path, image, classes=(1, 0))


def test_nibabels_own_files_are_read():
    folder = os.path.join(os.path.dirname(nib.__file__), "tests", "data")
    if not os.path.exists(os.path.join(folder, "anatomical.nii")):
        pytest.skip("this nibabel comes without its test data")
    volume = load_volume(os.path.join(folder, "anatomical.nii"))
    assert volume.data.shape == (33, 41, 25)
    assert volume.data.min() < 0
    with pytest.raises(VolumeError, match=r"\(17, 21, 3, 20\)\. .*four_to_three"):
        load_volume(os.path.join(folder, "functional.nii"))
    with pytest.raises(VolumeError, match="it holds a Cifti2Image, not voxels"):
        load_volume(os.path.join(folder, "row_major.dconn.nii"))


def _truncated(path):
    _write(path, np.random.default_rng(0).random((9, 9, 9)))
    path.write_bytes(path.read_bytes()[:-200])


def _not_finite(path):
    data = _ramp(dtype=np.float32)
    data[0, 0, :2] = np.nan, np.inf
    _write(path, data)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.nii.gz", _truncated, "cannot be read"),
        ("a.nii", _truncated, "cannot be read"),
        ("a.nii", lambda path: path.write_text("not a volume"), "cannot be read"),
        ("a.nii.gz", lambda path: path.write_bytes(b""), "cannot be read"),
        (
            "a.nii.gz",
            lambda path: path.write_bytes(gzip.compress(b"not a volume")),
            "cannot be read",
        ),
        ("a.png", lambda path: path.write_text(""), "expected a file ending in"),
        ("a.nii", _not_finite, "2 of 60 voxels are NaN or infinite"),
        ("a.nii", lambda path: _write(path, _ramp((3, 4))), r"shape \(3, 4\)"),
        ("a.nii", lambda path: _write(path, _ramp((2, 2, 2, 3))), r"\(2, 2, 2, 3\)"),
        (
            "a.nii",
            lambda path: _write(path, np.zeros((2, 2, 2), np.complex64)),
            "plain numbers",
        ),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(VolumeError, match=message) as caught:
        load_volume(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii", "b.nii", "a.mgz"])
def test_damaged_headers_are_read_or_refused_by_name(tmp_path, name):
    kinds = {"a.nii": nib.Nifti1Image, "b.nii": nib.Nifti2Image, "a.mgz": nib.MGHImage}
    path = _write(tmp_path / name, _ramp(), kind=kinds[name])
    whole = path.read_bytes()
    if name.endswith("z"):
        whole = gzip.decompress(whole)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        content[rng.integers(min(len(whole), 300))] = rng.integers(256)
        path.write_bytes(gzip.compress(content) if name.endswith("z") else content)
        message = _refusal(path)
        assert message is None or message.startswith(str(path))
        refused += message is not None
    assert 2 < refused < 58


def _refusal(path):
    try:
        load_volume(path)
    except VolumeError as error:
        return str(error)
    return None


def test_a_volume_that_memory_cannot_hold_is_not_read(tmp_path, monkeypatch):
    path = _write(tmp_path / "a.nii", _ramp(dtype=np.float32))
    monkeypatch.setattr(memory, "available_ram_bytes", lambda: 479)
    with pytest.raises(VolumeError, match=r"a\.nii: .*its voxels would take 0\.0 GiB"):
        load_volume(path)
    monkeypatch.setattr(memory, "available_ram_bytes", lambda: 480)
    assert load_volume(path).data.size == 60


def test_a_stream_that_does_not_end_is_not_read_to_its_end(tmp_path):
    path = _write(tmp_path / "a.nii.gz", _ramp())
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(65 * 2**20), 1))
    with pytest.raises(VolumeError, match="more follows than its header says"):
        load_volume(path)


def test_a_header_cannot_ask_for_all_memory(tmp_path):
    path = _write(tmp_path / "a.nii.gz", _ramp())
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([30_000] * 3, "<i2").tobytes()  # dim[1..3]
    path.write_bytes(gzip.compress(content))
    with pytest.raises(VolumeError, match="header promises 54000000000000 bytes"):
        load_volume(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.nii: no such file"):
        load_volume(tmp_path / "gone.nii")


@pytest.mark.parametrize(
    ("labels", "affine", "message"),
    [
        (np.full((3, 4, 5), 4, np.int16), None, "to be 0..3, but it also holds 4"),
        (np.full((3, 4, 5), 0.5, np.float32), None, "also holds 0.5"),
        (np.full((3, 4, 5), -1, np.int16), None, "also holds -1"),
        (np.zeros((3, 4, 6), np.int16), None, r"\(3, 4, 6\), the image \(3, 4, 5\)"),
        (np.zeros((3, 4, 5), np.int16), np.eye(4), "affine differs"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, affine, message):
    image = load_volume(_write(tmp_path / "image.nii", _ramp()))
    affine = _AFFINES["RAS"] if affine is None else affine
    path = _write(tmp_path / "labels.nii", labels, affine)
    with pytest.raises(VolumeError, match=message):
        load_labels(path, image, classes=3)


def test_labels_of_another_orientation_fit(tmp_path):
    image = load_volume(_write(tmp_path / "image.nii", _ramp()))
    labels = _ramp() % 4
    moved = _AFFINES["LAS"].copy()
    moved[0, 3] = 2.0 * (labels.shape[0] - 1)
    path = _write(tmp_path / "labels.nii", labels[::-1], moved)
    np.testing.assert_array_equal(load_labels(path, image, classes=3), labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 4, 4), int), "has shape"),
        (np.full((3, 4, 5), 256), "integers in 0..255"),
        (np.full((3, 4, 5), 1.5), "integers in 0..255"),
    ],
)
def test_bad_labels_leave_no_file(tmp_path, labels, message):
    volume = Volume.from_array(np.zeros((3, 4, 5)), np.eye(4))
    with pytest.raises(ValueError, match=message):
        save_labels(tmp_path / "out.nii.gz", labels, volume)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    volume = Volume.from_array(np.zeros((3, 4, 5)), np.eye(4))
    path = save_labels(tmp_path / "out.nii.gz", np.ones((3, 4, 5), int), volume)
    before = path.read_bytes()

    def fail(image, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_labels(path, np.zeros((3, 4, 5), int), volume)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "kind"), [("a.nii.gz", nib.Nifti1Image), ("a.mgz", nib.MGHImage)]
)
def test_a_wrong_checksum_of_a_compressed_file_is_found(tmp_path, name, kind):
    data = np.random.default_rng(0).random((32, 32, 32), np.float32)
    path = tmp_path / name
    nib.save(kind(data, np.eye(4)), path)
    np.testing.assert_array_equal(load_volume(path).data, data)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # The last eight bytes are checksum and length.
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=rf"{name}: cannot be read \(CRC"):
        load_volume(path)
