"""Images to predict, found as data sets, folders and files; labels never matter."""

from pathlib import Path

import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.case_files import Source
from jaxswap.medical.data.images import find_images
from jaxswap.medical.data.label_maps import make_label_map

MAP = make_label_map("any", {"one": 1})


def _touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def _files(dataset):
    return {c.name: [s.path.name for s in c.images] for c in dataset.cases}


def test_a_folder_of_numbered_files_in_the_order_of_training(tmp_path):
    _touch(tmp_path, "A_0000.nii.gz", "A_0001.nii.gz", "B_0000.nii", "B_0001.nii")
    _touch(tmp_path, "notes.txt", "C_0001.nii.gz")
    found = find_images(tmp_path, ("t1n", "t2f"), (1, 0), MAP)
    assert _files(found) == {
        "A": ["A_0001.nii.gz", "A_0000.nii.gz"],
        "B": ["B_0001.nii", "B_0000.nii"],
        "C": ["C_0001.nii.gz", "C_0000.nii.gz"],
    }
    assert found.channels == ("t1n", "t2f")


def test_files_without_numbers_are_a_case_each(tmp_path):
    _touch(tmp_path, "A.nii.gz", "B.mgz")
    assert _files(find_images(tmp_path, ("CT",), (), MAP)) == {
        "A": ["A.nii.gz"],
        "B": ["B.mgz"],
    }
    (case, _) = find_images(tmp_path, ("t1n", "t2f"), (1, 0), MAP).cases
    assert case.images == tuple(Source(tmp_path / "A.nii.gz", i) for i in (1, 0))


def test_one_file_is_one_case_with_its_other_channels(tmp_path):
    _touch(tmp_path, "A_0000.nii.gz", "A_0001.nii.gz", "B_0000.nii.gz")
    found = find_images(tmp_path / "A_0000.nii.gz", ("t1n", "t2f"), (), MAP)
    assert _files(found) == {"A": ["A_0000.nii.gz", "A_0001.nii.gz"]}


def test_labels_of_a_data_set_are_not_looked_for(tmp_path):
    tiny.nnunet(tmp_path, labels={"odd": 1000}, regions_class_order=None)
    for path in (tmp_path / "labelsTr").iterdir():
        path.unlink()
    found = find_images(tmp_path, ("t1n", "t2f"), (0, 1), MAP)
    assert [case.labels for case in found.cases] == [None, None]
    assert found.cases[0].images[1].path.name == "a_0003.nii.gz"


def test_names_that_fit_several_editions_do_not_matter(tmp_path):
    tiny.brats(tmp_path, ["BraTS-PED-00002-000"], tiny.NEW, (4, 2, 1))
    assert len(find_images(tmp_path, ("t1c",), (), MAP).cases) == 1


def test_channels_of_a_list_without_names_are_taken_by_position(tmp_path):
    content = {"testing": [{"image": ["x.nii", "y.nii"]}]}
    listed = tiny.write_json(tmp_path / "list.json", content)
    found = find_images(listed, ("A", "B"), (), MAP)
    assert _files(found) == {"x": ["x.nii", "y.nii"]}
    with pytest.raises(ValueError, match="has no channel A; the network was trained"):
        find_images(listed, ("A",), (), MAP)


def test_what_holds_no_image_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"Or images alone, such as CASE_0000"):
        find_images(tmp_path, ("A",), (), MAP)
    with pytest.raises(FileNotFoundError, match="gone: no such file or folder"):
        find_images(tmp_path / "gone", ("A",), (), MAP)


def test_a_number_that_is_no_channel_belongs_to_the_name(tmp_path):
    _touch(tmp_path, "scan_2019.nii.gz", "scan_2020.nii.gz")
    assert _files(find_images(tmp_path, ("CT",), (0,), MAP)) == {
        "scan_2019": ["scan_2019.nii.gz"],
        "scan_2020": ["scan_2020.nii.gz"],
    }
    found = find_images(tmp_path / "scan_2020.nii.gz", ("CT",), (), MAP)
    assert _files(found) == {"scan_2020": ["scan_2020.nii.gz"]}


def test_files_that_are_not_used_are_named(tmp_path):
    _touch(tmp_path, "A_0000.nii.gz", "A_0001.nii.gz", "B.nii.gz")
    found = find_images(tmp_path, ("CT",), (0,), MAP)
    assert _files(found) == {"A": ["A_0000.nii.gz"]}
    (note,) = found.notes
    assert note == "Not used, of other channels or none: A_0001.nii.gz, B.nii.gz."


def test_a_label_without_images_is_no_case(tmp_path):
    tiny.nnunet(tmp_path)
    for path in (tmp_path / "imagesTr").glob("b_*"):
        path.unlink()
    (tmp_path / "imagesTr" / "a_0003.nii.gz").unlink()
    found = find_images(tmp_path, ("t1n", "t2f"), (0, 3), MAP)
    assert _files(found) == {"a": ["a_0000.nii.gz", "a_0003.nii.gz"]}
    assert found.notes == ("Not used, no image: b.",)
    for path in (tmp_path / "imagesTr").glob("a_*"):
        path.unlink()
    with pytest.raises(ValueError, match="holds labels, but no images"):
        find_images(tmp_path, ("t1n", "t2f"), (0, 3), MAP)
