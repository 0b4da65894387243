"""JSON and YAML as people, disks and attackers leave them."""

import json
from typing import Any, TypedDict

import pytest

from jaxswap.medical.data import plain_files
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.plain_files import parse_yaml, read_json
from jaxswap.medical.runs.config_yaml import parse_setting, read_config
from jaxswap.medical.runs.record import load_record
from jaxswap.medical.runs.run_folder import RunFolder


class Shaped(TypedDict):
    """A record."""

    shape: tuple[int, int, int]


DEEP = "[" * 100_000
DEEP_MAPPING = '{"a":' * 100_000


@pytest.mark.parametrize("text", [DEEP, DEEP_MAPPING])
def test_nested_without_end_is_refused_by_every_reader(tmp_path, text):
    for name in ("dataset.json", "data.json", "config.yaml", "record.json"):
        (tmp_path / name).write_text(text)
    for read in (
        lambda: read_json(tmp_path / "dataset.json"),
        lambda: find_dataset(tmp_path),
        lambda: find_dataset(tmp_path / "dataset.json"),
        lambda: read_config(tmp_path / "config.yaml"),
        lambda: RunFolder(tmp_path).read(),
        lambda: load_record(tmp_path / "record.json", dict[str, Any]),
    ):
        with pytest.raises(ValueError, match="nested too deeply") as caught:
            read()
        assert str(tmp_path) in str(caught.value)
    with pytest.raises(ValueError, match=r"it is nested too deeply\.$"):
        parse_setting(f"exclude={text[:50_000]}")


def test_a_file_too_large_to_be_a_description_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("[1, 2, 3]")
    monkeypatch.setattr(plain_files, "_MOST_BYTES", 8)
    with pytest.raises(ValueError, match=r"a\.json: .*it has 9 bytes, more than 8"):
        read_json(path)


@pytest.mark.parametrize("text", ["[", "a: !!python/object:os.system x", "? *a", "\0"])
def test_what_is_no_yaml_is_refused_on_one_line(text):
    with pytest.raises(ValueError, match="it is not YAML: ") as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[], 3, "x", None, {"a": 1}, [[]], {"shape": 3}])
def test_a_record_of_another_kind_is_damage(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"record\.json: is damaged"):
        load_record(path, Shaped)


@pytest.mark.parametrize("content", [[], 3, "x", None, {"shape": [1]}, {"shape": 3}])
def test_a_run_whose_description_was_replaced_is_damaged(tmp_path, content):
    (tmp_path / "config.yaml").write_text("data: cases\n")
    (tmp_path / "data.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"data\.json: is damaged"):
        RunFolder(tmp_path).read()
