"""Shape, batch and patch that are chosen for a device's memory."""

import dataclasses
from math import prod
from pathlib import Path

import pytest

import jaxswap
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.training.fitting import Data, candidates, choose, is_choice_left

_ASKED = RunConfig(Path("data"), device_memory="1GiB")
_BRATS = Data((144, 192, 144), cases=100, multiple=16)
_HIPPOCAMPUS = Data((48, 64, 48), cases=200, multiple=16)


class _Device:
    """A step needs bytes for each voxel, and some for the parameters."""

    def __init__(self, budget, each=10, always=1000):
        self.budget, self.each, self.always = budget, each, always
        self.tried = []

    def __call__(self, config):
        side = config.patch
        seen = self.data.shape if side is None else (side,) * 3
        needed = self.always + self.each * config.batch * prod(seen)
        self.tried.append((config.batch, side))
        if needed > self.budget:
            raise jaxswap.BudgetError(self.budget, needed, [], is_compiled=False)
        return needed

    def choice(self, config, data):
        self.data = data
        _, choice = choose(config, data, self)
        return choice


def test_whole_volumes_are_taken_where_they_fit():
    device = _Device(10**9)
    choice = device.choice(_ASKED, _BRATS)
    assert (choice.config.patch, choice.config.batch) == (None, 1)
    assert device.tried == [(1, None)]
    shape, batch = choice.why
    assert shape.startswith("Whole volumes of 144 x 192 x 144 voxels, because")
    assert "million voxels" in batch


def test_small_volumes_are_trained_on_in_batches_as_in_nnunet():
    choice = _Device(10**9).choice(_ASKED, _HIPPOCAMPUS)
    assert choice.config.batch == 10  # 5 % of 200.
    assert "5 % of the training voxels" in choice.why[1]
    many = dataclasses.replace(_HIPPOCAMPUS, cases=2000)
    assert _Device(10**9).choice(_ASKED, many).config.batch == 28  # 2 x 128³ voxels.
    half = _Device(10 * 15 * prod(_HIPPOCAMPUS.shape) + 1000)
    choice = half.choice(_ASKED, many)
    assert choice.config.batch == 14
    assert "a larger one does not fit 1GiB" in choice.why[1]


def test_patches_are_taken_where_not_one_volume_fits():
    device = _Device(10 * 100**3)
    choice = device.choice(_ASKED, _BRATS)
    assert (choice.config.patch, choice.config.batch) == (96, 1)
    assert choice.config.shape is None
    assert "Patches of 96³ voxels, the largest that fit 1GiB" in choice.why[0]
    assert "of 144 x 192 x 144 voxels needs 38 MiB, even if" in choice.why[0]
    assert device.tried == [(1, None), (1, 96)]  # What cannot fit is not tried.


def test_one_volume_is_tried_although_a_batch_was_far_too_large():
    choice = _Device(10 * 40**3).choice(_ASKED, _HIPPOCAMPUS)
    assert choice.config.patch == 32
    assert "of 48 x 64 x 48 voxels needs 1 MiB, even if" in choice.why[0]


@pytest.mark.parametrize(
    ("given", "fixed"),
    [({"shape": (144, 192, 144)}, None), ({"patch": 128}, 128)],
)
def test_what_is_given_is_kept_or_an_error(given, fixed):
    asked = dataclasses.replace(_ASKED, **given)
    assert {c.patch for c in candidates(asked, _BRATS)} == {fixed}
    with pytest.raises(jaxswap.BudgetError):
        _Device(10 * 16**3).choice(asked, _BRATS)
    batch = dataclasses.replace(_ASKED, batch=3)
    assert {c.batch for c in candidates(batch, _BRATS)} == {3}
    (why,) = _Device(10 * 100**3).choice(batch, _BRATS).why
    assert "a step on 3 whole volumes of 144 x 192 x 144 voxels needs" in why


def test_a_budget_below_every_patch_is_refused_with_what_it_takes():
    with pytest.raises(ValueError, match=r"not even one patch of 16³ voxels fits: `bu"):
        _Device(2000).choice(_ASKED, _BRATS)


def test_devices_that_split_the_batch_get_equal_parts():
    data = dataclasses.replace(_HIPPOCAMPUS, parts=4)
    batches = [c.batch for c in candidates(_ASKED, data) if c.patch is None]
    assert batches == [8, 4]


def test_nothing_is_chosen_without_a_budget_or_where_all_is_given():
    assert is_choice_left(_ASKED)
    assert not is_choice_left(RunConfig(Path("data")))
    full = dataclasses.replace(_ASKED, batch=2, patch=64)
    assert not is_choice_left(full)
    assert is_choice_left(dataclasses.replace(full, batch=None))


def test_slabs_are_tried_for_the_least_batch_alone():
    found = [c for c in candidates(_ASKED, _HIPPOCAMPUS) if c.patch is None]
    assert [c.slabs for c in found] == ["none"] * (len(found) - 1) + ["auto"]
    asked = dataclasses.replace(_ASKED, slabs="1x4")
    assert {c.slabs for c in candidates(asked, _HIPPOCAMPUS)} == {"1x4"}
    given = dataclasses.replace(_ASKED, batch=2)
    assert {c.slabs for c in candidates(given, _HIPPOCAMPUS)} == {"auto"}
