"""What is compared: registered first, fair, and refused if it does not fit."""

import dataclasses
import json
import pathlib
from typing import Any

import pytest

from jaxswap.medical.experiment.experiment import (
    HYPOTHESES,
    METHODS,
    PATCHES,
    PLAIN,
    RULES,
    STATEMENT,
    SWAPPED,
    TIMED_PATCHES,
    Experiment,
    register,
    registration_hash,
    steps_of_patches,
)


def test_methods_differ_in_nothing_but_what_is_compared(tmp_path: pathlib.Path) -> None:
    experiment = Experiment(tmp_path, size=96, patch=64, settings={"loss": "dice"})
    configs = {m: experiment.config("glioma", m, 1e-3, 0, 10) for m in METHODS}
    ours = configs[SWAPPED]
    plain = dataclasses.replace(configs[PLAIN], offload=True)
    assert plain == ours
    patches = dataclasses.replace(configs[PATCHES], patch=None, batch=1, offload=True)
    assert dataclasses.replace(patches, shape=(96, 96, 96)) == ours
    assert configs[TIMED_PATCHES] == configs[PATCHES]


def test_patches_see_as_many_voxels_as_whole_volumes(tmp_path: pathlib.Path) -> None:
    experiment = Experiment(tmp_path, size=192, patch=128)
    seen = experiment.voxels(PATCHES, steps_of_patches(experiment, 1000))
    assert seen == pytest.approx(experiment.voxels(SWAPPED, 1000), rel=1e-3)
    assert experiment.batch == 3


def test_left_stays_left_in_the_parcellation(tmp_path: pathlib.Path) -> None:
    config = Experiment(tmp_path).config("parcellation", SWAPPED)
    assert config.augment is not None
    assert config.augment.mirror_axes == (1, 2)


def test_what_is_expected_is_written_first_and_kept(tmp_path: pathlib.Path) -> None:
    experiment = Experiment(tmp_path / "out")
    register(experiment)
    content = json.loads((tmp_path / "out" / "registration.json").read_text())
    assert content["statement"] == STATEMENT
    assert content["hypotheses"]["glioma"] == HYPOTHESES["glioma"]
    assert content["rules"] == list(RULES)
    before = registration_hash(tmp_path / "out")
    # Who draws and for how long does not change what steps are done.
    register(dataclasses.replace(experiment, workers=4, minutes=3.0))
    assert registration_hash(tmp_path / "out") == before
    with pytest.raises(ValueError, match="registers another experiment"):
        register(dataclasses.replace(experiment, steps=7))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="must be an empty folder"):
        register(dataclasses.replace(experiment, out=tmp_path))


def test_time_is_registered_where_it_decides_the_steps(tmp_path: pathlib.Path) -> None:
    experiment = Experiment(tmp_path, steps=None, minutes=12.0)
    register(experiment)
    with pytest.raises(ValueError, match="registers another experiment"):
        register(dataclasses.replace(experiment, minutes=13.0))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arms": ("stroke",)}, "`arms` has 'stroke'"),
        ({"arms": ()}, "need one or more entries"),
        ({"steps": 0}, "`steps` is 0"),
        ({"steps": None}, "`steps` and `minutes` are both None"),
        ({"minutes": 0.0}, "`minutes` is 0"),
        ({"seeds": 0}, "`seeds` is 0"),
        ({"test_cases": 0}, "`test_cases` is 0"),
        ({"training_cases": 4}, "`training_cases` is 4"),
        ({"training_cases": 9, "settings": {"folds": 10}}, "needs 10 or more"),
        ({"settings": {"fold": "all"}}, "`fold` is all"),
        ({"patch": 96}, "not less than the volume's 96"),
    ],
)
def test_wrong_experiments_are_refused(
    tmp_path: pathlib.Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r"`|need") as caught:
        Experiment(tmp_path, **changed)
    assert message in str(caught.value)
