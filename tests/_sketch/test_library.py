"""The C code is compiled once, and nothing ends where that does not work."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxswap._sketch import library as library_module
from jaxswap._sketch.library import library

HAS_COMPILER = any(map(shutil.which, ("cc", "gcc", "clang")))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))
    library.cache_clear()
    yield tmp_path / "home"
    library.cache_clear()


def compile_by(monkeypatch: pytest.MonkeyPatch, *commands: tuple[str, ...]) -> None:
    monkeypatch.setattr(library_module, "_compilers", lambda: iter(commands))


@pytest.mark.skipif(not HAS_COMPILER, reason="there is no C compiler here")
def test_it_is_compiled_once_and_then_found(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert library() is not None
    (kept,) = (home / "compiled").iterdir()
    made = kept.stat().st_mtime_ns
    library.cache_clear()
    compile_by(monkeypatch)
    assert library() is not None
    assert kept.stat().st_mtime_ns == made


@pytest.mark.skipif(not HAS_COMPILER, reason="there is no C compiler here")
def test_a_folder_that_cannot_be_written_is_done_without(
    home: Path, tmp_path: Path
) -> None:
    home.write_text("a file")
    assert library() is not None
    assert home.read_text() == "a file"


@pytest.mark.skipif(not HAS_COMPILER, reason="there is no C compiler here")
def test_a_damaged_library_is_compiled_anew(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library()
    (whole,) = (home / "compiled").iterdir()
    damaged = tmp_path / "other" / "compiled" / whole.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(whole.read_bytes()[:1000])
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "other"))
    library.cache_clear()
    assert library() is not None
    assert damaged.stat().st_size == whole.stat().st_size


@pytest.mark.parametrize(
    "command", [("false",), ("sleep", "60"), ("no such command",)], ids=lambda c: c[0]
)
def test_a_compiler_that_fails_or_hangs_leaves_it_to_python(
    home: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(library_module, "_MOST_SECONDS", 0.1)
    monkeypatch.setattr(library_module, "FLAGS", ())
    monkeypatch.setattr(library_module, "SOURCES", home)
    compile_by(monkeypatch, command)
    assert library() is None
    assert not (home / "compiled").exists()


def test_a_temporary_folder_that_cannot_be_written_leaves_it_to_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    assert library() is None


def test_a_variable_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library_module.SWITCH, "0")
    assert library() is None
