"""Lists of the decathlon whose files are named as nnU-Net v1 names them."""

from pathlib import Path
from typing import Any

import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.datasets import find_dataset

CHANNELS = ("FLAIR", "T1w", "t1gd", "T2w")


def numbered(root: Path, listed: str, **entry: Any) -> Path:
    """A folder with a file for each channel, which the list names in its own way."""
    for name in ("a", "b"):
        for index in range(len(CHANNELS)):
            tiny.write(
                root / "imagesTr" / f"{name}_{index:04d}.nii.gz", tiny.head(index)
            )
        tiny.write(root / "labelsTr" / f"{name}.nii.gz", tiny.tumour((1, 2, 3)))
    training = [
        {"image": listed.format(name), "label": f"./labelsTr/{name}.nii.gz"} | entry
        for name in ("a", "b")
    ]
    content = {
        "modality": dict(enumerate(CHANNELS)),
        "labels": {"0": "background", "1": "core"},
        "training": training,
    }
    tiny.write_json(root / "dataset.json", content)
    return root


@pytest.mark.parametrize("listed", ["./imagesTr/{}.nii.gz", "imagesTr/{}_0000.nii.gz"])
def test_channels_may_be_files_whose_names_end_in_numbers(
    tmp_path: Path, listed: str
) -> None:
    dataset = find_dataset(numbered(tmp_path, listed))
    assert dataset.channels == ("t1n", "t1c", "t2w", "t2f")
    assert [case.name for case in dataset.cases] == ["a", "b"]
    files = [source.path.name for source in dataset.cases[0].images]
    assert files == [f"a_{index:04d}.nii.gz" for index in (1, 2, 3, 0)]
    assert all(source.path.exists() for source in dataset.cases[0].images)


def test_the_list_may_name_folds(tmp_path: Path) -> None:
    listed = "imagesTr/{}.nii.gz"
    dataset = find_dataset(numbered(tmp_path, listed, fold=3))
    assert [case.fold for case in dataset.cases] == [3, 3]
    with pytest.raises(ValueError, match="`fold` -1; expected 0, 1"):
        find_dataset(numbered(tmp_path, listed, fold=-1))
    with pytest.raises(
        ValueError, match=r"`training` has the key `folds`.*mean `fold`"
    ):
        find_dataset(numbered(tmp_path, listed, folds=1))


def test_a_file_for_each_channel_may_be_listed(tmp_path: Path) -> None:
    images = [f"imagesTr/a_{index:04d}.nii.gz" for index in range(4)]
    dataset = find_dataset(numbered(tmp_path, "", image=images, fold="1"))
    assert dataset.layout == "datalist"
    assert len(dataset.cases[0].images) == 4
    assert dataset.cases[0].fold == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": []}, r"json: has the key `train`; did you mean `training`"),
        ({"training": [{"images": "a"}]}, "has the key `images`; did you mean `image`"),
        (
            {"training": [{"image": "a.nii", "Label": "b.nii"}]},
            "has the key `Label`; did you mean `label`",
        ),
    ],
)
def test_keys_of_a_list_that_are_nearly_right_are_refused(
    tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find_dataset(tiny.write_json(tmp_path / "list.json", content))


def test_other_keys_of_a_list_are_no_fault(tmp_path: Path) -> None:
    entry = {"image": "a.nii", "label": "b.nii", "age": 3, "label2": "c.nii"}
    content = {"training": [entry], "numTraining": 1, "site": "x"}
    dataset = find_dataset(tiny.write_json(tmp_path / "list.json", content))
    assert len(dataset.cases) == 1


def test_a_folder_without_a_description_says_what_it_lacks(tmp_path: Path) -> None:
    root = numbered(tmp_path, "imagesTr/{}.nii.gz")
    tiny.write_json(root / "dataset.json", {"labels": {"core": 1}})
    with pytest.raises(ValueError, match=r"neither `channel_names` .* nor `modality`"):
        find_dataset(root)
    (root / "dataset.json").unlink()
    with pytest.raises(ValueError, match="imagesTr is there, but no"):
        find_dataset(root)
