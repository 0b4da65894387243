"""Prepared cases are kept, taken again, and made anew when anything has changed."""

import json
import os
import shutil
from typing import Any, cast

import numpy as np
import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.preparing import prepared_cache
from jaxswap.medical.preparing.prepared_cache import (
    CacheConfig,
    prepare_all,
    prepare_cached,
)
from jaxswap.medical.preparing.preparing import PrepareConfig, prepare_as

SETTINGS = PrepareConfig(multiple=8)


@pytest.fixture
def dataset(tmp_path):
    return find_dataset(tiny.brats(tmp_path / "data", ["BraTS2021_0", "BraTS2021_1"]))


@pytest.fixture
def config(tmp_path):
    return CacheConfig(tmp_path / "cache", SETTINGS, "float32")


@pytest.fixture
def made(monkeypatch):
    """Names of the cases that were prepared rather than taken."""
    names = []

    def prepare(case, *rest):
        names.append(case.name)
        return prepare_as(case, *rest)

    monkeypatch.setattr(prepared_cache, "prepare_as", prepare)
    return names


def _entry(config):
    (folder,) = config.folder.iterdir()
    return folder


def test_what_is_taken_is_what_was_made(dataset, config, made):
    case = dataset.cases[0]
    fresh = prepare_as(case, dataset, SETTINGS)
    for _ in range(2):
        kept = prepare_cached(case, dataset, config)
        np.testing.assert_array_equal(kept.image, fresh.image)
        np.testing.assert_array_equal(kept.labels, fresh.labels)
        assert kept.image.dtype == np.float32
        assert isinstance(kept.image, np.memmap)
        assert kept.name == fresh.name
    assert made == [case.name]


def test_labels_return_to_the_file_from_the_cache_too(dataset, config, tmp_path):
    case = dataset.cases[0]
    fresh = prepare_as(case, dataset, SETTINGS).grid
    kept = prepare_cached(case, dataset, config)
    assert kept.labels is not None
    for name in ("path", "start", "cropped", "resampled", "before", "shape"):
        assert getattr(kept.grid, name) == getattr(fresh, name)
    labels = np.array(kept.labels)
    one = kept.grid.save_labels(tmp_path / "a.nii", labels)
    other = fresh.save_labels(tmp_path / "b.nii", labels)
    assert one.read_bytes() == other.read_bytes()


def test_half_precision_takes_half_the_space(dataset, config):
    case = dataset.cases[0]
    half = CacheConfig(config.folder.parent / "half", SETTINGS)
    image = prepare_cached(case, dataset, half).image
    assert image.dtype == np.float16
    np.testing.assert_allclose(
        image.astype(np.float32),
        prepare_cached(case, dataset, config).image,
        atol=2e-3,
    )
    sizes = [(_entry(c) / "image.npy").stat().st_size for c in (half, config)]
    assert sizes[0] - 128 == (sizes[1] - 128) / 2


def _truncate(folder):
    path = folder / "image.npy"
    path.write_bytes(path.read_bytes()[:-5])


def _lengthen(folder):
    path = folder / "image.npy"
    path.write_bytes(path.read_bytes() + b"0")


def _overwrite_header(folder):
    path = folder / "labels.npy"
    path.write_bytes(b"\0" * path.stat().st_size)


def _break_json(folder):
    (folder / "entry.json").write_text("{")


def _break_grid(folder):
    entry = json.loads((folder / "entry.json").read_text())
    entry["grid"]["file_header"] = "AAAA"
    (folder / "entry.json").write_text(json.dumps(entry))


def _remove(folder):
    (folder / "labels.npy").unlink()


def _replace_by_file(folder):
    shutil.rmtree(folder)
    folder.write_text("")


DAMAGE = [
    _truncate,
    _lengthen,
    _overwrite_header,
    _break_json,
    _break_grid,
    _remove,
    _replace_by_file,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_made_anew(dataset, config, made, damage):
    case = dataset.cases[0]
    expected = np.array(prepare_cached(case, dataset, config).image)
    damage(_entry(config))
    with pytest.warns(RuntimeWarning, match="is damaged .* is prepared anew"):
        again = prepare_cached(case, dataset, config).image
    np.testing.assert_array_equal(again, expected)
    assert len(made) == 2
    prepare_cached(case, dataset, config)
    assert len(made) == 2
    assert len(list(config.folder.iterdir())) == 1


def test_a_changed_file_is_read_again(dataset, config, made):
    case = dataset.cases[0]
    before = np.array(prepare_cached(case, dataset, config).image)
    path = case.images[0].path
    tiny.write(path, tiny.head(99))
    os.utime(path, ns=(1, 1))
    after = prepare_cached(case, dataset, config).image
    assert len(made) == 2
    assert not np.array_equal(before, after)
    assert len(list(config.folder.iterdir())) == 1  # in place of the outdated one


def test_other_settings_are_kept_beside(dataset, config, made):
    case = dataset.cases[0]
    wide = CacheConfig(config.folder, PrepareConfig(16), "float32")
    for _ in range(2):
        assert prepare_cached(case, dataset, config).image.shape[0] == 16
        assert prepare_cached(case, dataset, wide).image.shape[2] == 16
    assert len(made) == 2


def test_cases_are_made_side_by_side_and_in_order(dataset, config, made):
    steps = []
    for _ in range(2):
        cases = prepare_all(
            dataset.cases, dataset, config, workers=2, advance=lambda: steps.append(1)
        )
        assert [case.name for case in cases] == ["BraTS2021_0", "BraTS2021_1"]
    assert len(steps) == 4
    assert sorted(made) == ["BraTS2021_0", "BraTS2021_1"]


def test_a_case_that_cannot_be_prepared_leaves_nothing(dataset, config):
    case = dataset.cases[0]
    assert case.labels is not None
    tiny.write(case.labels, tiny.tumour((3,)))
    with pytest.raises(ValueError, match="holds 3"):
        prepare_cached(case, dataset, config)
    case.labels.unlink()
    with pytest.raises(FileNotFoundError, match=r"seg.nii.gz: no such file"):
        prepare_cached(case, dataset, config)
    assert not config.folder.exists() or not list(config.folder.iterdir())


def test_an_interrupted_write_leaves_nothing(dataset, config, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared_cache.os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            prepare_cached(dataset.cases[0], dataset, config)
    assert list(config.folder.iterdir()) == []
    assert prepare_cached(dataset.cases[0], dataset, config).name == "BraTS2021_0"


def test_cases_without_labels_are_kept_too(tmp_path, config):
    dataset = find_dataset(tiny.brats(tmp_path / "x", ["BraTS2021_7"], values=None))
    for _ in range(2):
        assert prepare_cached(dataset.cases[0], dataset, config).labels is None


def test_settings_that_make_no_sense_are_refused(tmp_path, dataset, config):
    with pytest.raises(ValueError, match="`dtype` is 'int8'"):
        CacheConfig(tmp_path, dtype=cast(Any, "int8"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file; a folder is needed"):
        CacheConfig(tmp_path / "file")
    with pytest.raises(ValueError, match="`workers` is 0"):
        prepare_all(dataset.cases, dataset, config, workers=0)


def test_what_was_odd_is_kept(tmp_path, config):
    tiny.write(tmp_path / "a.nii", tiny.head(), tiny.AFFINE * 0.01)
    tiny.write(tmp_path / "l.nii", tiny.tumour((1,)) * 0.9999, tiny.AFFINE * 0.01)
    content = {
        "labels": {"lesion": 1},
        "training": [{"image": "a.nii", "label": "l.nii"}],
    }
    dataset = find_dataset(tiny.write_json(tmp_path / "list.json", content))
    size, rounded = prepare_as(dataset.cases[0], dataset, SETTINGS).notes
    assert "0.01 x 0.01 x 0.01 mm" in size
    assert rounded == "in its labels, 0.9999 is read as 1."
    for _ in range(2):
        kept = prepare_cached(dataset.cases[0], dataset, config)
        assert kept.notes == (size, rounded)
