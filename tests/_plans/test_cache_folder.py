"""The folder that plans are kept in, and what goes wrong with files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cached_plans import plan

import jaxswap
from jaxswap._plans import cache as plan_cache

pytestmark = pytest.mark.usefixtures("cache", "compiled")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no plan",
        "[]",
        "{}",
        "null",
        '{"format": 1}',
        "[" * 100_000,
        "\x00\xff",
        pytest.param(None, id="half"),
    ],
)
def test_a_file_that_cannot_be_read_counts_as_absent(
    cache: Path, compiled: list[Any], text: str | None
) -> None:
    first = plan()
    count = len(compiled)
    (file,) = cache.iterdir()
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2] if text is None else text)
    with pytest.warns(RuntimeWarning, match="holds no plan that can be used"):
        again = plan()
    assert len(compiled) > count
    assert again.actions == first.actions
    assert file.read_text() == whole  # and is replaced


@pytest.mark.parametrize("name", ["swaps", "actions", "staleness", "target", "loops"])
@pytest.mark.parametrize("value", [None, 3, "x", [[]], {"a": 1}])
def test_a_plan_that_was_changed_counts_as_absent(
    cache: Path, name: str, value: Any
) -> None:
    first = plan()
    (file,) = cache.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.warns(RuntimeWarning, match=f"holds no plan .*{name}"):
        assert plan().actions == first.actions


def test_bytes_that_are_no_text_count_as_absent(
    cache: Path, compiled: list[Any]
) -> None:
    plan()
    count = len(compiled)
    (file,) = cache.iterdir()
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.warns(RuntimeWarning, match="holds no plan"):
        plan()
    assert len(compiled) > count


def test_a_folder_in_place_of_the_file_counts_as_absent(
    cache: Path, compiled: list[Any]
) -> None:
    plan()
    count = len(compiled)
    (file,) = cache.iterdir()
    file.unlink()
    file.mkdir()
    with pytest.warns(RuntimeWarning, match="holds no plan"):
        assert plan().device_bytes == 20000
    assert len(compiled) > count


def test_a_folder_that_cannot_be_made_is_done_without(
    tmp_path: Path, compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(tmp_path / "file" / "plans"))
    assert plan().device_bytes == 20000
    count = len(compiled)
    assert plan().device_bytes == 20000
    assert len(compiled) == 2 * count
    assert (tmp_path / "file").read_text() == "mine"
    assert jaxswap.clear_plans() == 0


def test_a_disk_that_is_full_is_done_without(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert plan().device_bytes == 20000
    assert not list(cache.glob("*.json"))


def test_the_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan_cache.folder() == Path(os.environ["JAXSWAP_CACHE_DIR"])
    monkeypatch.delenv("JAXSWAP_CACHE_DIR")
    assert plan_cache.folder() == Path(os.environ["JAXSWAP_HOME"]) / "plans"
    monkeypatch.delenv("JAXSWAP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert plan_cache.folder() == tmp_path / "xdg" / "jaxswap" / "plans"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert plan_cache.folder() == tmp_path / "home" / ".cache" / "jaxswap" / "plans"


def test_plans_are_kept_where_the_environment_says(
    tmp_path: Path, compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan()
    count = len(compiled)
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(tmp_path / "elsewhere"))
    plan()
    assert len(compiled) == 2 * count
    assert len(list((tmp_path / "elsewhere").glob("*.json"))) == 1


def test_clearing_forgets_plans_and_nothing_else(
    cache: Path, compiled: list[Any]
) -> None:
    assert jaxswap.clear_plans() == 0
    plan()
    plan(reserve=1)
    (cache / "notes.txt").write_text("mine")
    count = len(compiled)
    assert jaxswap.clear_plans() == 2
    assert [path.name for path in cache.iterdir()] == ["notes.txt"]
    plan()
    assert len(compiled) > count
