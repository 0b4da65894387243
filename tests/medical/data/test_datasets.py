"""Cases are found in every layout, channels by name, labels by edition."""

import json

import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.label_maps import LABEL_MAPS
from jaxswap.medical.data.reading import read_case

BRAIN = ("t1n", "t1c", "t2w", "t2f")


@pytest.mark.parametrize(
    ("names", "suffixes", "values", "edition"),
    [
        (["Brats17_2013_2_1"], tiny.OLD, (2, 1, 4), "brats2017"),
        (["Brats18_CBICA_ABC_1"], tiny.OLD, (2, 1, 4), "brats2018"),
        (["BraTS19_TCIA01_1"], tiny.OLD, (2, 1, 4), "brats2019"),
        (["BraTS20_Training_001"], tiny.OLD, (2, 1, 4), "brats2020"),
        (["BraTS2021_00000", "BraTS2021_00002"], tiny.OLD, (2, 1, 4), "brats2021"),
        (["BraTS-GLI-00000-000"], tiny.NEW, (2, 1, 3), "brats2023"),
        (["BraTS-SSA-00002-000"], tiny.NEW, (2, 1, 3), "brats2023"),
        (["BraTS-MET-00002-000"], tiny.NEW, (2, 1, 3), "brats2023"),
        (
            ["BraTS-GLI-00005-100", "BraTS-GLI-00005-101"],
            tiny.NEW,
            (4,),
            "brats2024-gli",
        ),
        (["patient_7"], tiny.OLD, (2, 1, 4), "brats2021"),
    ],
)
def test_editions_of_brats_are_told_by_their_names(
    tmp_path, names, suffixes, values, edition
):
    dataset = find_dataset(tiny.brats(tmp_path, names, suffixes, values))
    assert dataset.layout == "brats"
    assert dataset.channels == BRAIN
    assert dataset.label_map is LABEL_MAPS[edition]
    assert [case.name for case in dataset.cases] == names
    ends = [source.path.name for source in dataset.cases[0].images]
    assert ends == [f"{names[0]}{suffix}.nii.gz" for suffix in suffixes]
    assert all(path.exists() for case in dataset.cases for path in case.files)


@pytest.mark.parametrize(
    ("names", "suffixes", "editions"),
    [
        (["BraTS-PED-00002-000"], tiny.NEW, "brats2023 or brats2024-ped"),
        (["BraTS-GLI-00000-000", "BraTS-GLI-00005-100"], tiny.NEW, "brats2024-gli"),
        (["patient_7"], tiny.NEW, "brats2023 or brats2024-gli or brats2024-ped"),
        (["patient_7"], ("_t1", "_t1c", "_t2", "_flair"), "brats2023 or brats2024-gli"),
    ],
)
def test_an_edition_is_never_guessed(tmp_path, names, suffixes, editions):
    tiny.brats(tmp_path, names, suffixes)
    with pytest.raises(ValueError, match=f"{editions}.*`edition`"):
        find_dataset(tmp_path)
    chosen = find_dataset(tmp_path, edition="brats2024-ped")
    assert chosen.label_map is LABEL_MAPS["brats2024-ped"]


def test_cases_without_labels_need_no_edition(tmp_path):
    tiny.brats(tmp_path, ["BraTS-PED-00002-000"], tiny.NEW, values=None)
    dataset = find_dataset(tmp_path)
    assert dataset.label_map is None
    assert dataset.labeled == ()


def test_grades_in_folders_of_their_own(tmp_path):
    tiny.brats(tmp_path / "HGG", ["Brats18_2013_2_1"])
    tiny.brats(tmp_path / "LGG", ["Brats18_2013_0_1"])
    dataset = find_dataset(tmp_path)
    assert [c.name for c in dataset.cases] == ["Brats18_2013_0_1", "Brats18_2013_2_1"]


def test_the_mask_of_case_355_is_found(tmp_path):
    folder = tiny.brats_case(tmp_path, "BraTS20_Training_355", values=None)
    mask = tiny.write(folder / "W39_1998.09.19_Segm.nii", tiny.tumour())
    (case,) = find_dataset(tmp_path).cases
    assert case.labels == mask


def test_a_missing_sequence_keeps_its_place(tmp_path):
    tiny.brats(tmp_path, ["BraTS2021_00000", "BraTS2021_00001"])
    (tmp_path / "BraTS2021_00000" / "BraTS2021_00000_t2.nii.gz").unlink()
    case = find_dataset(tmp_path).cases[0]
    missing = [source.path for source in case.images if not source.path.exists()]
    assert [path.name for path in missing] == ["BraTS2021_00000_t2.nii.gz"]
    assert case.images.index(next(s for s in case.images if s.path in missing)) == 2


def test_two_files_of_one_sequence_are_noted(tmp_path):
    folder = tiny.brats_case(tmp_path, "BraTS2021_00000")
    tiny.write(folder / "BraTS2021_00000_t1.nii", tiny.head())
    (note,) = find_dataset(tmp_path).notes
    assert "BraTS2021_00000_t1.nii and BraTS2021_00000_t1.nii.gz" in note


def test_hidden_files_are_no_cases(tmp_path):
    folder = tiny.brats_case(tmp_path, "BraTS2021_00000")
    (folder / "._BraTS2021_00000_t1.nii.gz").write_bytes(b"resource fork")
    (tmp_path / ".trash").mkdir()
    tiny.brats_case(tmp_path / ".trash", "BraTS2021_00009")
    (case,) = find_dataset(tmp_path).cases
    assert all(path.name.startswith("BraTS2021") for path in case.files)


def test_channels_of_the_decathlon_come_in_the_fixed_order(tmp_path):
    dataset = find_dataset(tiny.decathlon(tmp_path))
    assert dataset.layout == "decathlon"
    assert dataset.channels == BRAIN
    assert dataset.label_map is LABEL_MAPS["msd-task01"]
    assert [case.name for case in dataset.labeled] == ["BRATS_001", "BRATS_002"]
    assert [case.name for case in dataset.cases][-1] == "BRATS_900"
    assert [s.index for s in dataset.cases[0].images] == [1, 2, 3, 0]
    image = read_case(dataset.cases[0], dataset.channels).image
    for position, channel in enumerate((1, 2, 3, 0)):
        assert (image[..., position] == tiny.head(channel)).all()


def test_other_tasks_of_the_decathlon_keep_their_names(tmp_path):
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    tiny.decathlon(tmp_path, modality=("MRI",), labels=labels)
    dataset = find_dataset(tmp_path / "dataset.json")
    assert dataset.channels == ("MRI",)
    assert dataset.cases[0].images[0].index is None
    assert dataset.label_map is not None
    assert dict(dataset.label_map.labels) == {"Anterior": 1, "Posterior": 2}


def test_regions_and_channels_of_nnunet(tmp_path):
    dataset = find_dataset(
        tiny.nnunet(tmp_path, channels=("FLAIR", "T1", "T1ce", "T2"))
    )
    assert dataset.layout == "nnunet"
    assert dataset.channels == BRAIN
    files = [source.path.name for source in dataset.cases[0].images]
    assert files == [f"a_{index:04d}.nii.gz" for index in (1, 2, 3, 0)]
    assert dataset.label_map is not None
    assert list(dataset.label_map.regions) == list(tiny.NNUNET_REGIONS)[1:]


def test_nnunet_finds_what_is_missing_and_keeps_tests_apart(tmp_path):
    tiny.nnunet(tmp_path, names=("a", "b", "c"))
    (tmp_path / "labelsTr" / "a.nii.gz").unlink()
    for index in range(4):
        (tmp_path / "imagesTr" / f"b_{index:04d}.nii.gz").unlink()
        tiny.write(tmp_path / "imagesTs" / f"t_{index:04d}.nii.gz", tiny.head())
    dataset = find_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["a", "b", "c", "t"]
    assert [case.name for case in dataset.labeled] == ["a", "b", "c"]
    assert dataset.cases[3].labels is None
    missing = {p.name for case in dataset.cases for p in case.files if not p.exists()}
    assert missing == {"a.nii.gz", *(f"b_{index:04d}.nii.gz" for index in range(4))}


def test_nnunet_may_list_its_files_and_folds(tmp_path):
    tiny.nnunet(tmp_path, names=("a", "b"), channels=("CT",))
    entry = {"images": ["imagesTr/b_0000.nii.gz"], "label": "labelsTr/b.nii.gz"}
    tiny.nnunet(tmp_path, names=("a", "b"), channels=("CT",), dataset={"b": entry})
    tiny.write_json(
        tmp_path / "splits_final.json",
        [{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}],
    )
    dataset = find_dataset(tmp_path)
    (case,) = dataset.cases
    assert (case.name, case.fold) == ("b", 1)
    assert "`numTraining` is 2, but there are 1" in dataset.notes[0]


def _datalist(tmp_path, **content):
    images = [
        f"x/case{{}}{suffix}.nii.gz" for suffix in ("_flair", "_t1ce", "_t1", "_t2")
    ]
    training = [
        {
            "image": [i.format(n) for i in images],
            "label": f"x/{n}.nii.gz",
            "fold": n % 2,
        }
        for n in range(3)
    ]
    return tiny.write_json(tmp_path / "list.json", {"training": training} | content)


def test_a_datalist_names_channels_by_its_files(tmp_path):
    dataset = find_dataset(_datalist(tmp_path), edition="brats2021")
    assert dataset.layout == "datalist"
    assert dataset.channels == BRAIN
    assert [case.name for case in dataset.cases] == ["case0", "case1", "case2"]
    assert [case.fold for case in dataset.cases] == [0, 1, 0]
    files = [source.path.name for source in dataset.cases[1].images]
    assert files == [f"case1{suffix}.nii.gz" for suffix in tiny.OLD]
    assert dataset.cases[1].images[0].path.parent == tmp_path / "x"


def test_a_datalist_names_channels_and_labels_itself(tmp_path):
    path = tiny.write_json(
        tmp_path / "list.json",
        {
            "channel_names": {"0": "PD", "1": "T2"},
            "labels": {"lesion": 5},
            "training": [{"image": "case1/image.nii.gz", "label": "case1/l.nii.gz"}],
            "validation": [{"image": "case2/image.nii.gz", "label": "case2/l.nii.gz"}],
            "test": ["case3/image.nii.gz"],
        },
    )
    dataset = find_dataset(tmp_path)  # the only JSON file of the folder
    assert dataset == find_dataset(path)
    assert dataset.channels == ("PD", "T2")
    assert dataset.label_map is not None
    assert dataset.label_map.values == (0, 5)
    assert [case.name for case in dataset.cases] == ["case1", "case2", "case3"]
    assert [case.fold for case in dataset.cases] == [None, 0, None]
    assert [case.name for case in dataset.labeled] == ["case1", "case2"]
    assert [source.index for source in dataset.cases[0].images] == [0, 1]


def test_a_datalist_that_does_not_say_what_labels_mean_has_no_map(tmp_path):
    path = tiny.write_json(
        tmp_path / "l.json", {"training": [{"image": "a.nii", "label": "b.nii"}]}
    )
    assert find_dataset(path).label_map is None
    assert find_dataset(path).channels == ("image",)


def _edit(path, **changes):
    tiny.write_json(path, json.loads(path.read_text()) | changes)


BAD_JSON = [
    (tiny.nnunet, {"file_ending": ".png"}, "`file_ending` is '.png'"),
    (tiny.nnunet, {"channel_names": {"0": "T1", "2": "T2"}}, "has keys 0, 2; exp"),
    (tiny.nnunet, {"channel_names": {}}, "names no channel"),
    (tiny.nnunet, {"channel_names": {"0": 1}}, "needs the name of each channel"),
    (tiny.nnunet, {"channel_names": ["T1", "t1w"]}, "two channels are called t1n"),
    (
        tiny.nnunet,
        {"regions_class_order": None},
        "give `regions_class_order`, the value",
    ),
    (tiny.nnunet, {"regions_class_order": [1, 2]}, "2 values for 3 regions"),
    (tiny.nnunet, {"labels": {"background": 0, "ignore": 1}}, "ignore label"),
    (tiny.nnunet, {"labels": {"a": [1, "2"]}}, "`labels` has 'a'"),
    (tiny.nnunet, {"labels": {"background": 0, "a": 300}}, "labels are 1..255"),
    (tiny.nnunet, {"labels": None}, "needs a name and a number for each"),
    (tiny.nnunet, {"labels": {"a": "b"}}, "'a': 'b'; each label needs"),
    (tiny.nnunet, {"dataset": {"a": {"images": ["x"]}}}, "4 `images` and one `label`"),
    (tiny.decathlon, {"training": [{"image": "x"}]}, "expected .*label"),
    (tiny.decathlon, {"training": ["x"]}, "expected .*label"),
    (tiny.decathlon, {"test": [{"image": 3}]}, "`test` holds"),
    (tiny.decathlon, {"modality": {}}, "names no channel"),
]


@pytest.mark.parametrize(("make", "changes", "message"), BAD_JSON)
def test_a_bad_dataset_json_is_refused_by_name(tmp_path, make, changes, message):
    make(tmp_path)
    _edit(tmp_path / "dataset.json", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        find_dataset(tmp_path)
    assert str(tmp_path / "dataset.json") in str(caught.value)


BAD_LISTS = [
    ("[1, 2]", "expected a JSON object, found list"),
    ("{", "not readable as JSON"),
    ('{"training": 3}', "`training` is no list"),
    ('{"training": []}', "lists no case"),
    ('{"training": [{"image": []}]}', "`image` needs a file"),
    ('{"training": [{"image": "a.nii", "label": 3}]}', "`label` needs one file"),
    ('{"training": [{"image": "a.nii", "fold": -1}]}', "has `fold` -1"),
    ('{"training": [{"image": ["a_t1.nii", "b_t1.nii"]}]}', "two images of t1n"),
    (
        '{"training": [{"image": ["a_t1.nii"]}, {"image": ["b_t2.nii"]}]}',
        "a lists no t2w",
    ),
    (
        '{"training": [{"image": ["a.nii"]}, {"image": ["b.nii", "c.nii"]}]}',
        "b has 2 images; expected 1: image",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD_LISTS)
def test_a_bad_datalist_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        find_dataset(tmp_path / "list.json", layout="datalist")
    assert str(tmp_path / "list.json") in str(caught.value)


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no data set is here\. Expected folders"):
        find_dataset(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone: no such file or folder"):
        find_dataset(tmp_path / "gone")
    tiny.brats(tmp_path, ["BraTS2021_00000"])
    with pytest.raises(ValueError, match="no data set of layout nnunet"):
        find_dataset(tmp_path, layout="nnunet")
    with pytest.raises(ValueError, match="choose one of decathlon, nnunet, brats"):
        find_dataset(tmp_path, layout="bids")
    with pytest.raises(ValueError, match="`edition` is 'brats2016'; choose one of"):
        find_dataset(tmp_path, edition="brats2016")


def test_several_lists_in_a_folder_leave_a_choice(tmp_path):
    for name in ("a.json", "b.json"):
        tiny.write_json(tmp_path / name, {"training": [{"image": "x.nii"}]})
    with pytest.raises(ValueError, match=r"2 JSON files \(a.json, b.json\)"):
        find_dataset(tmp_path)
