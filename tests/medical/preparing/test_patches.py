"""Places of patches: reproducible, inside, and on labels as often as asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxswap.medical.preparing.patches import (
    choose_case,
    choose_start,
    cut,
    find_foreground,
    wants_foreground,
)

SIDES = st.tuples(*[st.integers(1, 12)] * 3)


@settings(max_examples=50, deadline=None)
@given(shape=SIDES, patch=SIDES, seed=st.integers(0, 99), example=st.integers(0, 999))
def test_patches_stay_inside_and_contain_their_label(shape, patch, seed, example):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    labels[tuple(int(rng.integers(n)) for n in shape)] = 3
    foreground = find_foreground(labels)
    start = choose_start(example, shape, patch, seed, foreground)
    assert start == choose_start(example, shape, patch, seed, foreground)
    taken = cut(labels, start, patch)
    assert taken.shape == patch
    assert (taken == 3).sum() == 1
    anywhere = choose_start(example, shape, patch, seed, None)
    covered = np.prod(np.minimum(shape, patch))
    for place in (start, anywhere):
        for first, size, length in zip(place, patch, shape, strict=True):
            assert min(length - size, 0) <= first <= max(length - size, 0)
        assert cut(np.ones(shape), place, patch).sum() == covered


def test_every_place_is_reached():
    starts = {choose_start(k, (6, 4, 5), (4, 4, 4), 0, None) for k in range(200)}
    assert starts == {(x, 0, z) for x in range(3) for z in range(2)}


def test_rare_labels_are_drawn_as_often_as_frequent_ones():
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[:20] = 1  # more voxels than are kept
    labels[25, 25, 25] = 4
    foreground = find_foreground(labels)
    assert {v: len(voxels) for v, voxels in foreground.voxels.items()} == {
        1: 10_000,
        4: 1,
    }
    for value, voxels in foreground.voxels.items():
        assert (labels[tuple(voxels.T)] == value).all()
    rng = np.random.default_rng(0)
    drawn = [foreground.draw(rng) for _ in range(400)]
    rare = np.mean(
        [tuple(voxel) == (25, 25, 25) for voxel in drawn if voxel is not None]
    )
    assert 0.4 < rare < 0.6


def test_a_case_without_labels_has_no_foreground():
    foreground = find_foreground(np.zeros((3, 3, 3), np.uint8))
    assert foreground.draw(np.random.default_rng(0)) is None
    assert choose_start(0, (3, 3, 3), (3, 3, 3), 0, foreground) == (0, 0, 0)


@pytest.mark.parametrize("share", [0, 0.1, 0.33, 1 / 3, 0.5, 1])
def test_the_share_of_foreground_is_kept_evenly(share):
    wanted = [wants_foreground(k, share) for k in range(300)]
    for length in (1, 3, 30, 300):
        for first in (0, 300 - length):
            count = sum(wanted[first : first + length])
            assert abs(count - share * length) <= 1


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_a_third_of_patches_at_any_batch_size(batch):
    wanted = [wants_foreground(k, 0.33) for k in range(batch * 100)]
    assert np.mean(wanted) == pytest.approx(0.33, abs=0.01)


def test_each_case_comes_once_before_any_comes_again():
    rounds = [[choose_case(7 * r + k, 7, seed=3) for k in range(7)] for r in range(4)]
    assert all(sorted(order) == list(range(7)) for order in rounds)
    assert len({tuple(order) for order in rounds}) == 4
    assert rounds[0] != [choose_case(k, 7, seed=4) for k in range(7)]


def test_outside_of_the_case_is_zero():
    array = np.ones((2, 3, 4, 2), np.float32)
    patch = cut(array, (-1, 0, 1), (4, 2, 4))
    assert patch.dtype == np.float32
    np.testing.assert_array_equal(patch[..., 0].sum((1, 2)), [0, 6, 6, 0])
    assert (patch[:, :, 3] == 0).all()
    for start in [(-4, 0, 0), (0, -2, 0), (0, 0, 4), (5, 0, 0)]:
        assert (cut(array, start, (4, 2, 4)) == 0).all()


def test_labels_are_drawn_as_often_as_their_weights_say() -> None:
    labels = np.repeat(np.array([0, 1, 2, 5], np.uint8), 16).reshape(4, 4, 4)
    foreground = find_foreground(labels, weights={1: 0.0, 2: 3.0})
    rng = np.random.default_rng(0)
    places = [foreground.draw(rng) for _ in range(400)]
    drawn = [labels[tuple(place)] for place in places if place is not None]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [2, 5]
    np.testing.assert_allclose(counts / 400, [0.75, 0.25], atol=0.07)
    none = find_foreground(labels, weights=dict.fromkeys((1, 2, 5), 0.0))
    assert none.draw(rng) is None
