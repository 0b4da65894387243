"""Batches: the same from any step, in threads and in processes, never in the way."""

import itertools
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_datasets as tiny

from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.preparing.loading import batches
from jaxswap.medical.preparing.patches import Part
from jaxswap.medical.preparing.prepared_cache import CacheConfig, prepare_all
from jaxswap.medical.preparing.preparing import PrepareConfig, Prepared, prepare


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loading")
    names = [f"BraTS2021_{n}" for n in range(3)]
    dataset = find_dataset(tiny.brats(folder / "data", names))
    config = CacheConfig(folder / "cache", PrepareConfig(multiple=4))
    return prepare_all(dataset.cases, dataset, config)


def _take(iterator, count):
    taken = list(itertools.islice(iterator, count))
    iterator.close()
    return taken


def _assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.labels, b.labels)


@pytest.mark.parametrize("patch", [None, (8, 6, 4)])
def test_a_run_goes_on_from_any_step(cached, patch):
    whole = _take(batches(cached, 2, seed=5, patch=patch), 8)
    rest = _take(batches(cached, 2, seed=5, patch=patch, start_step=3), 5)
    _assert_same(whole[3:], rest)
    other = _take(batches(cached, 2, seed=6, patch=patch), 8)
    assert any(
        not np.array_equal(a.image, b.image) for a, b in zip(whole, other, strict=True)
    )


@pytest.mark.parametrize("patch", [None, (8, 6, 4), (24, 14, 8)])
def test_a_process_reads_its_part_of_the_same_batches(cached, patch):
    whole = _take(batches(cached, 4, seed=5, patch=patch, start_step=2), 3)
    for cases, x, y in [((0, 4), (0, 2), (3, 6)), ((2, 3), (5, 8), (0, 6))]:
        part = Part(cases, x, y)
        given = {"seed": 5, "patch": patch, "start_step": 2, "part": part}
        box = tuple(slice(*ends) for ends in (cases, x, y))
        for all_of_it, some in zip(
            whole, _take(batches(cached, 4, **given), 3), strict=True
        ):
            np.testing.assert_array_equal(some.image, all_of_it.image[box])
            np.testing.assert_array_equal(some.labels, all_of_it.labels[box])


def test_batches_have_the_promised_form(cached):
    (batch,) = _take(batches(cached, 2, patch=(8, 6, 4)), 1)
    assert batch.image.shape == (2, 8, 6, 4, 4)
    assert batch.labels.shape == (2, 8, 6, 4)
    # The format of the cache.
    assert (batch.image.dtype, batch.labels.dtype) == (np.float16, np.uint8)
    assert type(batch.image) is np.ndarray
    (whole,) = _take(batches(cached, 1), 1)
    assert whole.image.shape == (1, 12, 12, 8, 4)


def test_image_and_labels_belong_together(cached):
    by_image = {case.image.tobytes(): case for case in cached}
    seen = set()
    for batch in _take(batches(cached, 1), 3):
        case = by_image[batch.image[0].astype(np.float16).tobytes()]
        np.testing.assert_array_equal(batch.labels[0], case.labels)
        seen.add(case.name)
    assert len(seen) == 3


def test_a_third_of_patches_contain_a_label(cached):
    small = (2, 2, 2)
    every_third = _take(batches(cached, 1, patch=small, foreground_share=1 / 3), 60)
    assert all(batch.labels.any() for batch in every_third[2::3])
    none = _take(batches(cached, 1, patch=small, foreground_share=0), 60)
    assert np.mean([b.labels.any() for b in none]) < 0.5
    every = _take(batches(cached, 2, patch=small, foreground_share=1), 20)
    assert all(labels.any() for batch in every for labels in batch.labels)


def test_processes_make_the_same_batches(cached):
    in_threads = _take(batches(cached, 2, seed=1, patch=(8, 6, 4), start_step=2), 4)
    in_processes = _take(
        batches(cached, 2, seed=1, patch=(8, 6, 4), start_step=2, workers=1), 4
    )
    _assert_same(in_threads, in_processes)


def test_batches_are_made_ahead_and_only_so_many(cached, monkeypatch):
    from jaxswap.medical.preparing import loading

    made = []
    original = loading.choose_case
    monkeypatch.setattr(
        loading, "choose_case", lambda k, *rest: made.append(k) or original(k, *rest)
    )
    iterator = batches(cached, 1, ahead=2)
    next(iterator)
    deadline = time.monotonic() + 60
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert 3 <= len(set(made)) <= 4  # the one taken, two ahead, perhaps one begun
    iterator.close()


def test_closing_ends_the_threads(cached):
    before = threading.active_count()
    for _ in range(3):
        _take(batches(cached, 1), 2)
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_a_failure_in_the_background_is_raised_in_front(cached):
    # Its image is smaller than its labels say.
    broken = replace(cached[0], image=np.zeros((1, 1, 1, 4), np.float32))
    for patch in (None, (4, 4, 4)):
        with pytest.raises(ValueError, match=r"image has \(1, 1, 1\) voxels"):
            next(batches([broken], 1, patch=patch))


def _case(shape=(8, 8, 8), channels=1, labels=True, name="case"):
    truth = np.zeros(shape, np.uint8) if labels else None
    grid: Any = None
    image = np.zeros((*shape, channels), np.float32)
    return Prepared(name, image, truth, grid)


BAD = [
    ([], {}, "`cases` is empty"),
    ([_case(labels=False)], {}, "case: has no labels"),
    ([_case(), _case(channels=2)], {}, "different numbers of channels"),
    (
        [_case(name="a"), _case((8, 8, 16), name="b")],
        {},
        r"a has \(8, 8, 8\) and b \(8, 8, 16\); prepare them with `shape`",
    ),
    ([_case()], {"batch": 0}, "`batch` is 0"),
    ([_case()], {"seed": -1}, "`seed` is -1"),
    ([_case()], {"start_step": -1}, "`start_step` is -1"),
    ([_case()], {"workers": -1}, "`workers` is -1"),
    ([_case()], {"ahead": 0}, "`ahead` is 0"),
    ([_case()], {"patch": (4, 4)}, "`patch` is"),
    ([_case()], {"patch": (4, 4, 0)}, "three positive numbers"),
    ([_case()], {"foreground_share": 1.5}, "not in 0..1"),
]


@pytest.mark.parametrize(("cases", "options", "message"), BAD)
def test_arguments_that_do_not_fit_are_refused_at_once(cases, options, message):
    with pytest.raises(ValueError, match=message):
        batches(cases, **({"batch": 1} | options))


def test_cases_of_other_shapes_can_be_cut_to_patches():
    cases = [_case((8, 8, 8)), _case((4, 16, 8))]
    for batch in _take(batches(cases, 2, patch=(8, 8, 8)), 2):
        assert batch.image.shape == (2, 8, 8, 8, 1)


def test_cases_in_memory_need_no_cache(tmp_path):
    dataset = find_dataset(tiny.brats(tmp_path, ["BraTS2021_0"]))
    case = prepare(dataset.cases[0], dataset)
    (batch,) = _take(batches([case], 1), 1)
    np.testing.assert_array_equal(batch.image[0], case.image)
