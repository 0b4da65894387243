"""Targets in files: written whole, read back the same, refused when broken."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import pytest

from jaxswap._gpu.saved import (
    load_target,
    save_target,
    saved_target,
    saved_targets,
    targets_folder,
)
from jaxswap._gpu.target import Target, built_in_target, rates_of

H100 = built_in_target("h100")
MEASURED = dataclasses.replace(
    H100,
    rates=dataclasses.replace(
        rates_of(H100),
        swap_in_bytes_per_second=1e11 / 3,
        launch_seconds=0.1 + 0.2,
        is_measured=True,
        source="a test, JAX 0",
    ),
)


def files(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


TIMED = dataclasses.replace(H100, operations=(("a product", 1e-3 / 3),))


@pytest.mark.parametrize(
    "target", [H100, MEASURED, TIMED], ids=["published", "measured", "timed"]
)
def test_round_trip_is_exact(target: Target, tmp_path: pathlib.Path) -> None:
    path = save_target(target, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "h100.json"
    assert load_target(path) == target
    assert hash(load_target(str(path))) == hash(target)


def test_a_new_measurement_replaces_the_old_one(tmp_path: pathlib.Path) -> None:
    save_target(H100, tmp_path)
    save_target(MEASURED, tmp_path)
    assert files(tmp_path) == ["h100.json"]
    assert saved_targets(tmp_path) == {"h100": MEASURED}


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_target(H100, tmp_path)

    def fail(*names: Any) -> None:
        raise OSError(f"disk full: {names}")

    monkeypatch.setattr(pathlib.Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_target(MEASURED, tmp_path)
    assert load_target(path) == H100
    assert files(tmp_path) == ["h100.json"]


def test_the_file_is_never_seen_half_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(source: pathlib.Path, destination: pathlib.Path) -> None:
        seen.append((load_target(source), destination.exists()))
        os.rename(source, destination)

    monkeypatch.setattr(pathlib.Path, "replace", look)
    save_target(MEASURED, tmp_path)
    assert seen == [(MEASURED, False)]


@pytest.mark.parametrize(
    ("name", "file"),
    [("NVIDIA RTX 5090", "nvidia-rtx-5090.json"), ("../../x", "x.json")],
)
def test_any_name_makes_a_file_in_the_folder(
    name: str, file: str, tmp_path: pathlib.Path
) -> None:
    target = dataclasses.replace(H100, name=name)
    assert save_target(target, tmp_path) == tmp_path / file
    assert saved_targets(tmp_path) == {name: target}


def test_a_name_without_letters_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"`name` of the target is '\.\./'"):
        save_target(dataclasses.replace(H100, name="../"), tmp_path)


def broken(change: dict[str, Any], rates: dict[str, Any] | None = None) -> str:
    numbers = dataclasses.asdict(MEASURED) | change
    if rates is not None:
        numbers["rates"] |= rates
    return json.dumps({"format": "jaxswap target 3", "target": numbers})


BROKEN = [
    ("", "Expecting value"),
    (broken({})[:-100], "delimiter|Expecting|Unterminated"),
    ("[]", 'does not hold `"format": '),
    ('{"format": "jaxswap target 1"}', 'does not hold `"format": '),
    ('{"format": "jaxswap target 3"}', "holds no fields of a `Target`"),
    (broken({"colour": "green"}), "unknown: 'colour'"),
    (broken({"name": 100}), "`name` is 100"),
    (broken({"memory_bytes": 1.5}), "`memory_bytes` is 1.5"),
    (broken({"core_count": True}), "`core_count` is True"),
    (broken({"architecture_specific": 1}), "`architecture_specific` is 1"),
    (broken({"clock_hertz": "fast"}), "`clock_hertz` is 'fast'"),
    (broken({"compute_capability": [9]}), r"is \[9\]; it needs 2 values"),
    (
        broken({"compute_capability": [9, "a"]}),
        r"capability\[1\]` is 'a'; it needs",
    ),
    (broken({"compute_capability": [0, 0]}), r"of `Target` is \(0, 0\): give major"),
    (broken({"memory_bytes": 0}), "`memory_bytes` of `Target` is 0: give a positive"),
    (broken({"clock_hertz": float("inf")}), "`clock_hertz` is inf"),
    (broken({}, {"launch_seconds": float("nan")}), "`rates.launch_seconds` is nan"),
    ("[" * 200_000, "nested too deeply"),
    (broken({"rates": 5}), "`rates` holds no fields of a `Rates`"),
    (broken({}, {"launch_seconds": -1.0}), "`launch_seconds` of `Rates` is -1.0"),
    (broken({}, {"speed": 1.0}), "unknown: 'speed'"),
    (broken({}, {"source": None}), "`rates.source` is None"),
]


@pytest.mark.parametrize(("text", "why"), BROKEN)
def test_what_is_no_target_is_refused_by_file(
    text: str, why: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    for read in (
        lambda: load_target(path),
        lambda: saved_targets(tmp_path),
        lambda: saved_target("h100", tmp_path),
    ):
        with pytest.raises(ValueError, match=why) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "jaxswap.calibrate()" in str(caught.value)


def test_the_file_that_the_broken_ones_are_made_of_is_sound(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(broken({}, {}))
    assert load_target(path) == MEASURED


def test_a_missing_field_is_named(tmp_path: pathlib.Path) -> None:
    path = save_target(H100, tmp_path)
    content = json.loads(path.read_text())
    del content["target"]["core_count"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="fields missing or unknown: 'core_count'"):
        load_target(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"mine\.json"):
        load_target(path)


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_target(tmp_path / "none.json")


def test_only_json_files_are_targets(tmp_path: pathlib.Path) -> None:
    assert saved_targets(tmp_path / "not there") == {}
    save_target(MEASURED, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".x.tmp").write_text("half")
    assert saved_targets(tmp_path) == {"h100": MEASURED}


def test_look_up_by_name_and_by_what_the_driver_reports(tmp_path: pathlib.Path) -> None:
    other = dataclasses.replace(MEASURED, name="lab-1", device_name="NVIDIA X")
    save_target(MEASURED, tmp_path)
    save_target(other, tmp_path)
    assert saved_target("H-100", tmp_path) == MEASURED
    assert saved_target("lab_1", tmp_path) == other
    assert saved_target("NVIDIA X", tmp_path) == other
    assert saved_target(H100.device_name, tmp_path) == MEASURED
    assert saved_target("a100-80", tmp_path) is None
    assert saved_target("h100", tmp_path / "not there") is None


def test_a_name_goes_before_what_the_driver_reports(tmp_path: pathlib.Path) -> None:
    first = dataclasses.replace(MEASURED, name="a", device_name="NVIDIA X")
    second = dataclasses.replace(MEASURED, name="NVIDIA X", device_name="NVIDIA Y")
    save_target(first, tmp_path)
    save_target(second, tmp_path)
    assert saved_target("NVIDIA X", tmp_path) == second


def test_folder_is_the_users(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JAXSWAP_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert targets_folder() == tmp_path / ".config" / "jaxswap" / "targets"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert targets_folder() == tmp_path / "xdg" / "jaxswap" / "targets"
    monkeypatch.setenv("JAXSWAP_HOME", "~/mine")
    assert targets_folder() == tmp_path / "mine" / "targets"
    assert save_target(MEASURED).parent == targets_folder()
    assert saved_targets() == {"h100": MEASURED}
    assert saved_target("h100") == MEASURED
