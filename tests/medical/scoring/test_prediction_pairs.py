"""Finding the prediction of each reference."""

import json

import numpy as np
import pytest
from evaluation_folders import case_name, tumour, write, write_case

from jaxswap.medical.data.case_names import PROBABILITIES_ENDING
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.label_maps import LABEL_MAPS, make_label_map
from jaxswap.medical.scoring.prediction_pairs import find_pairs


def _names(paths):
    return [path.name for path in paths]


@pytest.mark.parametrize(
    "name", ["{}.nii", "{}.nii.gz", "{}.NII.GZ", "{}-seg.nii.gz", "{0}/{0}_seg.nii"]
)
def test_predictions_are_found_by_the_name_of_the_case(tmp_path, name):
    write_case(tmp_path / "data", case_name(1))
    file = write(tmp_path / "predictions" / name.format(case_name(1)), tumour())
    pairing = find_pairs(tmp_path / "predictions", tmp_path / "data")
    (pair,) = pairing.pairs
    assert (pair.case, pair.predictions) == (case_name(1), (file,))
    assert pair.reference.name == f"{case_name(1)}-seg.nii.gz"
    assert pairing.label_map is LABEL_MAPS["brats2023"]
    assert not pairing.unmatched


def test_other_files_are_no_predictions(tmp_path):
    write_case(tmp_path / "data", case_name(1))
    out = tmp_path / "predictions"
    for name in (
        f"{case_name(1)}_probs.nii.gz",
        f"{case_name(1)}{PROBABILITIES_ENDING}.nii.gz",
        f"{case_name(1)}.json",
        f".{case_name(1)}.nii.gz",
        f"elsewhere/{case_name(1)}.nii.gz",
    ):
        write(out / "x.nii", tumour()).rename(out / "x")
        (out / name).parent.mkdir(exist_ok=True)
        (out / "x").rename(out / name)
    pairing = find_pairs(out, tmp_path / "data")
    assert pairing.pairs[0].predictions == pairing.unmatched == ()


def test_several_and_unmatched_predictions_are_kept_apart(tmp_path):
    write_case(tmp_path / "data", case_name(1))
    out = tmp_path / "predictions"
    for name in (f"{case_name(1)}.nii", f"{case_name(1)}.nii.gz", "stranger.nii.gz"):
        write(out / name, tumour())
    pairing = find_pairs(out, tmp_path / "data")
    assert len(pairing.pairs[0].predictions) == 2
    assert _names(pairing.unmatched) == ["stranger.nii.gz"]


def test_folders_of_labels_alone_need_a_label_map(tmp_path):
    for case in ("b", "a"):
        write(tmp_path / "labelsTr" / f"{case}.nii.gz", tumour())
        write(tmp_path / "predictions" / f"{case}.nii.gz", tumour())
    arguments = (tmp_path / "predictions", tmp_path / "labelsTr")
    pairing = find_pairs(*arguments, "BRATS2023")
    assert [pair.case for pair in pairing.pairs] == ["a", "b"]
    assert pairing.pairs[0].image is None
    own = make_label_map("own", {"one": 1})
    assert find_pairs(*arguments, own).label_map is own
    with pytest.raises(ValueError, match=r"give `label_map` .*--edition"):
        find_pairs(*arguments)


_DESCRIPTION = {"labels": {"background": 0, "one": 1, "two": 2}}


@pytest.mark.parametrize("place", ["labelsTr", "predictions", "."])
def test_a_description_beside_the_labels_says_what_they_mean(tmp_path, place):
    for folder in ("labelsTr", "predictions"):
        write(tmp_path / folder / "a.nii.gz", tumour())
    text = json.dumps(_DESCRIPTION)
    (tmp_path / place / "dataset.json").write_text(text)
    pairing = find_pairs(tmp_path / "predictions", tmp_path / "labelsTr")
    assert dict(pairing.label_map.regions) == {"one": (1,), "two": (2,)}


def test_a_copied_list_of_files_does_not_hide_the_labels_beside_it(tmp_path):
    for folder in ("labels", "predictions"):
        write(tmp_path / folder / "a.nii.gz", tumour())
    elsewhere = [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]
    listed = {"modality": {"0": "MRI"}, "training": elsewhere}
    text = json.dumps(_DESCRIPTION | listed)
    (tmp_path / "labels" / "dataset.json").write_text(text)
    (pair,) = find_pairs(tmp_path / "predictions", tmp_path / "labels").pairs
    assert pair.reference == tmp_path / "labels" / "a.nii.gz"


def test_case_folders_without_images_are_references_too(tmp_path):
    write_case(tmp_path / "data", case_name(1), image=False)
    (tmp_path / "predictions").mkdir()
    (pair,) = find_pairs(tmp_path / "predictions", tmp_path / "data", "brats2023").pairs
    assert pair.case == case_name(1)


def test_images_to_draw_on_come_from_the_data_set_or_the_caller(tmp_path):
    write_case(tmp_path / "data", case_name(1))
    (tmp_path / "predictions").mkdir()
    dataset = find_dataset(tmp_path / "data")
    (pair,) = find_pairs(tmp_path / "predictions", dataset).pairs
    assert pair.image is not None
    assert pair.image.path.name == f"{case_name(1)}-t2f.nii.gz"
    other = write(tmp_path / "images" / f"{case_name(1)}.nii.gz", np.ones((3, 3, 3)))
    arguments = (tmp_path / "predictions", dataset)
    (pair,) = find_pairs(*arguments, images=tmp_path / "images").pairs
    assert pair.image is not None
    assert pair.image.path == other


def test_what_is_not_there_is_refused_by_name(tmp_path):
    write_case(tmp_path / "data", case_name(1))
    (tmp_path / "empty").mkdir()
    file = write(tmp_path / "file.nii", tumour())
    with pytest.raises(FileNotFoundError, match=r"`predictions`: .*gone"):
        find_pairs(tmp_path / "gone", tmp_path / "data")
    with pytest.raises(FileNotFoundError, match=r"`references`: .*gone"):
        find_pairs(tmp_path / "empty", tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"`images`: .*gone"):
        find_pairs(tmp_path / "empty", tmp_path / "data", images=tmp_path / "gone")
    with pytest.raises(ValueError, match="is a file; a folder is needed"):
        find_pairs(file, tmp_path / "data")
    with pytest.raises(ValueError, match="empty: no data set is here"):
        find_pairs(tmp_path / "empty", tmp_path / "empty", "brats2023")
    with pytest.raises(ValueError, match="`edition` is 'brats1999'"):
        find_pairs(tmp_path / "empty", tmp_path / "data", "brats1999")
