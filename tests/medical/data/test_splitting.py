"""Folds: complete, apart, the same every time, and as the data set says."""

from dataclasses import replace
from pathlib import Path

import pytest

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.splitting import leave_out, shared_patients, split

LABELS = Path("l.nii")


def _dataset(names, folds=None):
    folds = folds or [None] * len(names)
    cases = tuple(
        CaseFiles(name, (), LABELS, fold)
        for name, fold in zip(names, folds, strict=True)
    )
    return Dataset(Path("data"), "brats", (), None, cases)


def _names(cases):
    return [case.name for case in cases]


NAMES = [f"case{number:02d}" for number in range(13)]


def test_every_case_validates_once():
    parts = [split(_dataset(NAMES), fold) for fold in range(5)]
    for training, validation in parts:
        assert sorted(_names(training) + _names(validation)) == NAMES
        assert len(validation) in (2, 3)
    assert sorted(name for _, v in parts for name in _names(v)) == NAMES


def test_folds_depend_on_names_and_seed_alone():
    one = split(_dataset(NAMES), 2, seed=1)
    other = split(_dataset(NAMES[::-1]), 2, seed=1)
    assert [_names(part) for part in one] == [_names(part) for part in other]
    assert _names(split(_dataset(NAMES), 2, seed=2)[1]) != _names(one[1])


def test_time_points_of_a_patient_stay_together():
    names = [f"BraTS-GLI-{p:05d}-{t}" for p in range(6) for t in (100, 101)]
    for fold in range(3):
        _, validation = split(_dataset(names), fold, folds=3)
        patients = [name[:-4] for name in _names(validation)]
        assert len(patients) == 2 * len(set(patients)) == 4


def test_visits_of_a_patient_stay_together():
    names = [f"p{p}_{visit}" for p in range(6) for visit in ("pre", "post")]
    for fold in range(3):
        parts = split(_dataset(names), fold, folds=3)
        assert len(parts[1]) == 4
        assert shared_patients(parts) == []
    numbered = [f"p{p}_{visit}" for p in range(6) for visit in (1, 2)]
    parts = split(_dataset(numbered), 0, folds=3, patient="(.+)_[0-9]")
    assert shared_patients(parts, "(.+)_[0-9]") == []
    given = split(_dataset(["p1_pre", "p1_post"], [0, 1]), 0)
    assert shared_patients(given) == ["p1"]


def test_given_folds_are_respected():
    dataset = _dataset(["a", "b", "c", "d"], [0, 1, None, 1])
    training, validation = split(dataset, 1, folds=5, seed=3)
    assert (_names(training), _names(validation)) == (["a", "c"], ["b", "d"])
    with pytest.raises(ValueError, match="`fold` is 2; data has folds 0, 1"):
        split(dataset, 2)


def test_cases_without_labels_take_no_part():
    dataset = _dataset(["a", "b", "c"])
    without = replace(dataset.cases[0], labels=None)
    dataset = replace(dataset, cases=(without, *dataset.cases[1:]))
    training, validation = split(dataset, 0, folds=2)
    assert sorted(_names(training) + _names(validation)) == ["b", "c"]


def test_all_cases_train_and_none_validates_with_all_folds():
    dataset = _dataset(["b", "a"], [0, 1])
    training, validation = split(dataset, "all")
    assert (_names(training), _names(validation)) == (["a", "b"], [])
    with pytest.raises(ValueError, match="data: has no labeled case"):
        split(replace(dataset, cases=()), "all")


def test_cases_are_left_out_by_name():
    dataset = _dataset(["head_01", "head_02", "c"])
    assert _names(leave_out(dataset, ("c", "head_01")).cases) == ["head_02"]
    with pytest.raises(ValueError, match=r"`exclude` has 'haed_02'.*mean head_02\?"):
        leave_out(dataset, ("haed_02",))
    with pytest.raises(ValueError, match="'zzz', which is no case of data; 3 others"):
        leave_out(dataset, ("zzz",))


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (_dataset(NAMES), {"fold": 5}, "`fold` is 5; with 5 folds it is 0..4"),
        (_dataset(NAMES), {"fold": -1}, "`fold` is -1"),
        (_dataset(NAMES), {"folds": 1}, "`folds` is 1"),
        (_dataset(NAMES[:3]), {}, "data: has 3 labeled patients, too few for 5"),
        (_dataset(["a", "b"], [0, 0]), {}, "all 2 labeled cases are in fold 0"),
    ],
)
def test_folds_that_do_not_exist_are_refused(dataset, options, message):
    with pytest.raises(ValueError, match=message):
        split(dataset, **options)
