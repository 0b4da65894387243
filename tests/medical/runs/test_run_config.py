"""Settings of a training run, and everything that is wrong with them."""

import dataclasses
import pathlib
from typing import Any

import pytest
import yaml

from jaxswap.medical.preparing.augmentation import AugmentConfig
from jaxswap.medical.runs.run_config import (
    RunConfig,
    make_config,
    parse_setting,
    read_config,
)


def test_every_value_is_written_and_read_back() -> None:
    config = RunConfig(
        pathlib.Path("/cases"),
        shape=(96, 96, 64),
        network_options={"base_filters": 4},
        augment=AugmentConfig(),
        labels={"left": 17, "right": [53, 1053]},
        normalization={"CT": "none"},
    )
    values = yaml.safe_load(config.to_yaml())
    assert set(values) == {field.name for field in dataclasses.fields(RunConfig)}
    assert make_config(values) == config


def test_no_augmentation_is_written_and_read_back() -> None:
    config = RunConfig(pathlib.Path("/cases"), augment=None)
    assert make_config(yaml.safe_load(config.to_yaml())) == config


def test_paths_are_saved_as_absolute_ones(
    tmp_path: pathlib.Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    config = make_config({"data": "cases", "target": "gpus/mine.json"})
    assert config.data == tmp_path / "cases"
    assert config.target == str(tmp_path / "gpus" / "mine.json")
    assert make_config({"data": "cases", "target": "h100"}).target == "h100"


def test_settings_of_the_command_line_are_yaml() -> None:
    assert parse_setting("shape=[96, 96, 64]") == ("shape", [96, 96, 64])
    assert parse_setting("augment=false") == ("augment", False)
    assert parse_setting("learning_rate=0.01") == ("learning_rate", 0.01)
    assert parse_setting("learning_rate=1e-3") == ("learning_rate", 1e-3)
    assert parse_setting("x=[-2E+3, .5e1, 3, e1, 1e, '1e3']") == (
        "x",
        [-2e3, 5.0, 3, "e1", "1e", "1e3"],
    )


def test_numbers_in_a_file_may_have_an_exponent(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "data: d\nlearning_rate: 1e-4\nsteps: 2e3\naugment: {scaling: [8e-1, 1]}\n"
    )
    config = make_config(read_config(path))
    assert (config.learning_rate, config.steps) == (1e-4, 2000)
    assert config.augment is not None
    assert config.augment.scaling == (0.8, 1)


def test_names_of_cases_may_look_like_numbers() -> None:
    assert make_config({"data": "d", "exclude": [7, "b"]}).exclude == ("7", "b")


def test_one_number_stands_for_three() -> None:
    assert make_config({"data": "d", "shape": 96}).shape == (96, 96, 96)
    assert make_config({"data": "d", "spacing_mm": 2}).spacing_mm == (2.0, 2.0, 2.0)


def test_a_mesh_may_be_a_mapping_and_is_written_as_text() -> None:
    config = make_config({"data": "d", "batch": 2, "mesh": {"depth": 4, "data": 2}})
    assert config.mesh == "data=2,depth=4"
    assert config.mesh_shape is not None
    assert config.mesh_shape.depth == 4
    assert make_config(yaml.safe_load(config.to_yaml())) == config


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"data": None}, "`data` is missing"),
    ({"step": 10}, "`step` is no setting; did you mean `steps`"),
    ({"qqqqqq": 10}, "`qqqqqq` is no setting; choose from"),
    ({"steps": 0}, "`steps` is 0, not 1 or more"),
    ({"steps": "many"}, "`steps` is 'many', of type str; it needs int"),
    ({"steps": 1.5}, "`steps` is 1.5, of type float"),
    ({"steps": True}, "`steps` is True, of type bool"),
    ({"batch": 0}, "`batch` is 0, not 1 or more"),
    ({"accumulate": 0}, "`accumulate` is 0"),
    ({"validate_every": 0}, "`validate_every` is 0"),
    ({"checkpoint_every": -1}, "`checkpoint_every` is -1"),
    ({"folds": 0}, "`folds` is 0"),
    ({"fold": -1}, "`fold` is -1; give 0, 1, ... or all"),
    ({"fold": "most"}, "`fold` is 'most'; give 0, 1, ... or all"),
    ({"exclude": "a"}, "`exclude` is 'a'; it needs a list"),
    ({"seed": -1}, "`seed` is -1, not 0 or more"),
    ({"workers": -2}, "`workers` is -2"),
    ({"weight_decay": -0.1}, "`weight_decay` is -0.1"),
    ({"learning_rate": 0}, "`learning_rate` is 0, not positive"),
    ({"warmup_steps": 5, "steps": 5}, "`warmup_steps` is 5, not less than `steps`, 5"),
    ({"warmup_steps": -1}, "`warmup_steps` is -1, not 0 or more"),
    ({"patience": -1}, "`patience` is -1, not 0 or more"),
    ({"gradient_clip": -1}, "`gradient_clip` is -1, not 0 or more"),
    ({"learning_rate": "1e-3"}, "`learning_rate` is '1e-3', of type str"),
    ({"loss": "mse"}, "`loss` is 'mse'; choose one of dice, dice_ce, dice_focal"),
    ({"optimizer": "lion"}, "choose one of adam, sgd"),
    ({"schedule": "step"}, "choose one of constant, cosine, polynomial"),
    ({"precision": "float16"}, "choose one of bfloat16, float32"),
    ({"average_decay": 1.0}, "`average_decay` is 1.0"),
    ({"foreground_share": 2}, "`foreground_share` is 2, not in 0..1"),
    ({"class_weights": [1]}, "`class_weights` is [1]; it needs names and values"),
    ({"foreground_weights": {"a": 2}}, "`foreground_weights` has no effect without"),
    ({"patch": 4}, "`patch` is 4; it needs 8 voxels or more"),
    ({"patch": 64, "shape": 96}, "`patch` and `shape` exclude one another"),
    ({"shape": [96, 96]}, "`shape` is [96, 96]; it needs three numbers, such as [96, "),
    ({"shape": [96, 96, -1]}, "it needs three positive numbers"),
    ({"shape": [96, 96, 1.5]}, "it needs three positive numbers"),
    ({"spacing_mm": [1, 1]}, "`spacing_mm` is [1, 1]; it needs three numbers"),
    ({"spacing_mm": 0}, "it needs three positive numbers, such as [1, 1, 2]"),
    ({"spacing_mm": float("inf")}, "it needs three positive numbers"),
    ({"offload": False, "device_memory": "1GiB"}, "`device_memory` needs `offload`"),
    ({"host_memory": "1GiB"}, "give `device_memory`"),
    ({"device_memory": "16GB5"}, "`device_memory` is '16GB5': cannot read it"),
    ({"device_memory": "1GiB", "host_memory": "-1"}, "`host_memory` is '-1': bytes"),
    ({"device_memory": 16}, "`device_memory` is 16, of type int"),
    ({"compress": "int4"}, "`compress` is 'int4'; it must be one of"),
    ({"offload": False, "compress": "int8"}, "`compress` needs `offload`"),
    ({"augment": "yes"}, "`augment` is 'yes'; it is true, false"),
    ({"augment": {"rotate": 1}}, "`augment.rotate` is no setting"),
    ({"network_options": [1]}, "`network_options` is [1]; it needs names and values"),
    ({"labels": ["left"]}, "`labels` is ['left']; it needs names and values"),
    ({"labels": {"left": "a"}}, '`labels` has left: "a"; each name needs'),
    ({"labels": {"left": 1}, "edition": "brats2021"}, "exclude one another"),
    ({"patient": "(.+"}, "`patient` is '(.+', no pattern"),
    ({"patient": ".+"}, "`patient` is '.+'; it needs a group"),
    ({"normalization": {"CT": 3}}, "`normalization` is 3; choose one of zscore, ct"),
    ({"normalization": "minmax"}, "`normalization` is 'minmax'; choose one of"),
    ({"mask": "skull"}, "`mask` is 'skull'; choose one of foreground, brain, none"),
    ({"deep_supervision": "on"}, "`deep_supervision` is 'on'"),
    ({"mesh": "width=2"}, "`mesh` has the axis 'width'"),
    ({"mesh": {"data": 2}, "batch": 3}, "`batch` is 3, which data=2"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_wrong_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^`") as caught:
        make_config({"data": "cases"} | values)
    assert message in str(caught.value)


def test_files_that_are_no_configuration(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.yaml: no such file"):
        read_config(tmp_path / "no.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(ValueError, match=r"broken\.yaml: it is not YAML"):
        read_config(broken)
    listed = tmp_path / "list.yaml"
    listed.write_text("- 1\n")
    with pytest.raises(ValueError, match=r"list\.yaml: holds list"):
        read_config(listed)
    with pytest.raises(ValueError, match="`--set steps` is not"):
        parse_setting("steps")
    with pytest.raises(ValueError, match="it is not YAML"):
        parse_setting("steps=[1")
