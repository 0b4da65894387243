"""Who trains and who validates is recorded, and stays so."""

from pathlib import Path

import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.splitting import split
from jaxswap.medical.runs.recorded_split import load_split, record_split

NAMES = [f"BraTS2021_{number:05d}" for number in range(4)]


def _recorded(root: Path):
    dataset = find_dataset(tiny.brats(root / "data", NAMES))
    return dataset, record_split(*split(dataset, folds=2), dataset.root)


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    _, recorded = _recorded(tmp_path)
    recorded.save(tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == recorded
    assert load_split(tmp_path / "none.json") is None
    assert {*recorded.training, *recorded.validation} == set(NAMES)
    files = recorded.training[sorted(recorded.training)[0]]
    assert len(files) == 5
    assert all(len(state.sha256) == 64 for state in files.values())
    (tmp_path / "split.json").write_text("{}")
    with pytest.raises(ValueError, match=r"split\.json: is damaged"):
        load_split(tmp_path / "split.json")


def test_a_case_that_is_added_changes_nothing(tmp_path: Path) -> None:
    dataset, recorded = _recorded(tmp_path)
    for number in range(4, 9):
        tiny.brats_case(dataset.root, f"BraTS2021_{number:05d}")
    now = find_dataset(dataset.root)
    dealt = split(now, folds=2)
    training, validation, notes = recorded.divide(now)
    assert [case.name for case in training] == sorted(recorded.training)
    assert [case.name for case in validation] == sorted(recorded.validation)
    assert set(recorded.training) & {case.name for case in dealt[1]}  # They move.
    (note,) = notes
    assert note.startswith("New since the run began, and not used: BraTS2021_00004")


def test_a_case_that_is_gone_is_named(tmp_path: Path) -> None:
    dataset, recorded = _recorded(tmp_path)
    (dataset.root / NAMES[2]).rename(dataset.root / "elsewhere")
    for file in (dataset.root / "elsewhere").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=f"cases of the run are gone: {NAMES[2]}"):
        recorded.divide(find_dataset(dataset.root))


def test_files_that_changed_are_named_and_others_not_read_again(tmp_path: Path) -> None:
    dataset, recorded = _recorded(tmp_path)
    tiny.brats_case(dataset.root, NAMES[1], seed=99)
    parts = split(dataset, folds=2)
    now = record_split(*parts, dataset.root, recorded)
    assert recorded.changes(now) == [
        f"Changed since the run began: files of {NAMES[1]}."
    ]
    assert recorded.changes(record_split(*parts, dataset.root)) == recorded.changes(now)
    known = {**recorded.training, **recorded.validation}
    same = {**now.training, **now.validation}[NAMES[0]]
    assert all(same[file] is state for file, state in known[NAMES[0]].items())
