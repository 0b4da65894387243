"""One name for one case, in every layout and command."""

import json
from dataclasses import replace

import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.case_names import require_unique_names, unique_names
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.scoring.prediction_pairs import find_pairs


def _visits(root):
    """Two visits of three patients, whose files have the same names."""
    places = [f"p{i}/{visit}" for i in (1, 2, 3) for visit in ("pre", "post")]
    training = [
        {"image": f"{place}/t1.nii.gz", "label": f"{place}/seg.nii.gz"}
        for place in places
    ]
    for entry in training:
        tiny.write(root / entry["image"], tiny.head())
        tiny.write(root / entry["label"], tiny.tumour((2, 1)))
    content = {"labels": {"background": 0, "a": 1, "b": 2}, "training": training}
    (root / "list.json").write_text(json.dumps(content))
    return [place.replace("/", "_") for place in places]


@pytest.mark.parametrize(
    ("files", "names", "expected"),
    [
        (["a/t1", "b/t1"], ["t1", "t1"], ["a", "b"]),
        (["s1/p/t1", "s2/p/t1"], ["t1", "t1"], ["s1_p", "s2_p"]),
        (["tr/A", "ts/A", "tr/B"], ["A", "A", "B"], ["tr_A", "ts_A", "B"]),
        (["a_b/c/t", "a/b_c/t", "x/t"], ["t"] * 3, ["c", "b_c", "x"]),
        (["a/t", "a/t"], ["t", "t"], ["t", "t"]),
        (["a/t", "b/t"], ["BraTS2021_00001"] * 2, ["BraTS2021_00001"] * 2),
        (["t", "a/t"], ["t", "t"], ["t", "t"]),
    ],
)
def test_names_get_as_many_folders_as_it_takes(tmp_path, files, names, expected):
    assert unique_names(names, [tmp_path / f for f in files], tmp_path) == expected


def test_every_command_knows_visits_by_patient_and_visit(tmp_path):
    names = _visits(tmp_path)
    dataset = find_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == sorted(names)
    for case in dataset.cases:
        folder = case.images[0].path.parent
        assert case.labels == folder / "seg.nii.gz"
        assert case.name == "_".join(folder.parts[-2:])
    predicted = tiny.write(tmp_path / "out/p2_pre.nii.gz", tiny.tumour((2, 1)))
    stray = tiny.write(tmp_path / "out/pre_t1.nii.gz", tiny.tumour((2, 1)))
    pairing = find_pairs(tmp_path / "out", dataset)
    found = {pair.reference: pair.predictions for pair in pairing.pairs}
    assert found.pop(tmp_path / "p2/pre/seg.nii.gz") == (predicted,)
    assert set(found.values()) == {()}
    assert pairing.unmatched == (stray,)


def test_a_name_of_two_cases_is_refused(tmp_path):
    _visits(tmp_path)
    dataset = find_dataset(tmp_path)
    first, second, *_ = dataset.cases
    doubled = replace(dataset, cases=(first, replace(second, name=first.name)))
    with pytest.raises(ValueError, match=r"2 cases have the name p1_post: .*p1/pre/t1"):
        require_unique_names(doubled)
    with pytest.raises(ValueError, match="2 cases have the name"):
        find_pairs(tmp_path, doubled)


def test_two_references_of_one_case_are_refused(tmp_path):
    for name in ("A", "A-seg"):
        tiny.write(tmp_path / f"labels/{name}.nii.gz", tiny.tumour())
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="A has 2 references"):
        find_pairs(tmp_path / "out", tmp_path / "labels", "brats2021")
