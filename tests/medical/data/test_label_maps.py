"""Labels become named regions and return, for every edition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxswap.medical.data.label_maps import (
    LABEL_MAPS,
    LabelMap,
    find_label_map,
    make_label_map,
    make_region_map,
)


@pytest.mark.parametrize("edition", LABEL_MAPS)
def test_labels_return_from_regions(edition):
    label_map = LABEL_MAPS[edition]
    labels = np.array(label_map.values, np.uint8).reshape(1, -1)
    regions = label_map.to_regions(labels)
    assert regions.dtype == bool
    assert regions.shape == (*labels.shape, len(label_map.regions))
    restored = label_map.to_labels(regions)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, labels)


@pytest.mark.parametrize(
    ("edition", "enhancing", "four"),
    [
        ("brats2017", 4, {"whole tumour", "tumour core", "enhancing tumour"}),
        ("brats2021", 4, {"whole tumour", "tumour core", "enhancing tumour"}),
        ("brats2023", 3, set()),
        ("brats2024-gli", 3, {"resection cavity"}),
        ("brats2024-ped", 1, {"whole tumour"}),
        ("msd-task01", 3, set()),
    ],
)
def test_four_means_what_it_means_in_its_edition(edition, enhancing, four):
    label_map = find_label_map(edition)
    assert label_map.regions["enhancing tumour"] == (enhancing,)
    inside = np.asarray(label_map.to_regions(np.array([4], np.uint8)))[0]
    names = np.array(list(label_map.regions))
    assert set(names[inside]) == four


@pytest.mark.parametrize("edition", [n for n in LABEL_MAPS if "men-rt" not in n])
def test_whole_contains_core_contains_enhancing(edition):
    regions = LABEL_MAPS[edition].regions
    names = list(regions)[:3]
    assert names == ["whole tumour", "tumour core", "enhancing tumour"]
    whole, core, enhancing = (set(regions[name]) for name in names)
    assert whole > core > enhancing


def test_oedema_of_the_decathlon_is_not_necrosis():
    assert LABEL_MAPS["msd-task01"].labels["oedema"] == 1
    assert LABEL_MAPS["brats2021"].labels["oedema"] == 2


def test_jax_arrays_work_inside_of_jit():
    label_map = LABEL_MAPS["brats2021"]
    labels = jnp.array([0, 1, 2, 4], jnp.uint8)
    regions = jax.jit(label_map.to_regions)(labels)
    assert isinstance(regions, jax.Array)
    np.testing.assert_array_equal(regions, label_map.to_regions(np.asarray(labels)))
    np.testing.assert_array_equal(jax.jit(label_map.to_labels)(regions), labels)


def test_later_regions_overwrite_earlier_ones():
    label_map = LABEL_MAPS["brats2021"]
    # Enhancing without core and core without whole happen in predictions.
    regions = np.array(
        [[False, False, True], [False, True, False], [True, False, True]]
    )
    np.testing.assert_array_equal(label_map.to_labels(regions), [4, 1, 4])


def test_labels_of_any_name_are_exclusive_regions_in_order_of_value():
    label_map = make_label_map("organs", {"spleen": 7, "background": 0, "liver": 2})
    assert label_map.is_exclusive
    assert dict(label_map.regions) == {"liver": (2,), "spleen": (7,)}
    assert label_map.values == (0, 2, 7)
    assert label_map.unknown([0, 2, 3, 7, 1.5]) == (3, 1.5)


def test_regions_of_nnunet_are_painted_in_its_order():
    label_map = make_region_map(
        "brats",
        {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
        [1, 2, 3],
    )
    assert not label_map.is_exclusive
    assert label_map.painted == (1, 2, 3)
    assert label_map.labels == {"whole": 1, "core": 2, "enhancing": 3}


def test_values_that_no_region_writes_are_still_known():
    label_map = make_region_map("x", {"whole": [1, 2, 3], "inner": [3]}, [1, 3])
    assert label_map.values == (0, 1, 2, 3)
    labels = np.array([0, 1, 2, 3], np.uint8)
    painted = label_map.to_labels(label_map.to_regions(labels))
    np.testing.assert_array_equal(painted, [0, 1, 1, 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: find_label_map("brats2016"), r"choose one of brats2017, .*msd-task01"),
        (lambda: make_label_map("x", {"background": 0}), "no label besides"),
        (lambda: make_label_map("x", {"a": 256}), "'a' is 256, but labels are 1..255"),
        (lambda: make_label_map("x", {"a": -1}), "labels are 1..255"),
        (lambda: make_label_map("x", {"a": True}), "no integer"),
        (lambda: make_label_map("x", {"a\nb": 1}), r"'a\\nb' has the character '\\n'"),
        (lambda: make_label_map("x", {"\x1b[31m": 1}), "has the character"),
        (lambda: make_label_map("x", {"\udcff": 1}), "has the character"),
        (lambda: make_label_map("x", {" ": 1}), "is empty; rename it"),
        (lambda: make_label_map("x", {"a": 1, "b": 1}), "more than one label has"),
        (lambda: LabelMap("x", {"a": 1}, {}, True), "no region"),
        (lambda: LabelMap("x", {"a": 1}, {"r": (2,)}, True), r"region 'r'.*\[1\]"),
        (lambda: LabelMap("x", {"a": 1}, {"r": ()}, True), "region 'r'"),
        (lambda: LabelMap("x", {"a": 1}, {"r": (1,)}, False), "is_exclusive"),
        (
            lambda: LabelMap("x", {"a": 1, "b": 2}, {"in": (1,), "all": (1, 2)}, False),
            "region 'in' has no value",
        ),
        (lambda: make_region_map("x", {"a": [1, 2]}, [1, 2]), "2 values for 1 regions"),
        (
            lambda: make_region_map("x", {"a": [1, 2], "b": 2}, [2, 1]),
            r"gives \[1, 2\]",
        ),
    ],
)
def test_maps_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_regions_of_another_number_are_refused():
    with pytest.raises(ValueError, match="3 regions of brats2021: whole tumour"):
        LABEL_MAPS["brats2021"].to_labels(np.zeros((2, 4), bool))
