"""Files that are whole, and where they lie."""

import concurrent.futures
import multiprocessing
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxswap._base.files import _temporary_home, user_folder, write_whole

TEXTS = [f"{letter} · " * 50_000 for letter in "abcdefgh"]


def write_often(path: Path, text: str) -> None:
    for _ in range(10):
        write_whole(path, text)
        assert path.read_text(encoding="utf-8") in TEXTS


def in_threads(path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(len(TEXTS)) as pool:
        list(pool.map(write_often, [path] * len(TEXTS), TEXTS))


def in_processes(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=spawn) as pool:
        list(pool.map(write_often, [path] * 3, TEXTS[:3]))


@pytest.mark.parametrize("write", [in_threads, in_processes])
def test_writers_of_one_file_do_not_meet(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "file"
    write(path)
    assert path.read_text(encoding="utf-8") in TEXTS
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("method", ["write_bytes", "replace"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_old_file_survives_what_goes_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: type[BaseException],
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error("no space left on device")

    path = write_whole(tmp_path / "file", "old")
    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(error):
        write_whole(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_lies_beside_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_text("mine")
    assert write_whole(tmp_path / "file", "text").read_text() == "text"
    assert (tmp_path / "file.part").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_others_may_read_it_as_any_file(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    written = write_whole(tmp_path / "file", "")
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert stat.S_IMODE(written.stat().st_mode) == usual


def test_the_text_is_utf_8_whatever_the_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    monkeypatch.setattr("locale.getencoding", lambda: "ascii")
    assert write_whole(tmp_path / "file", "·").read_bytes() == "·".encode()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone to write"):
        write_whole(tmp_path / "gone" / "file", "")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("JAXSWAP_CACHE_DIR", "JAXSWAP_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_folders_are_those_that_systems_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_folder("plans") == home / ".cache" / "jaxswap" / "plans"
    assert user_folder("targets") == home / ".config" / "jaxswap" / "targets"
    assert user_folder("of mine") == home / ".cache" / "jaxswap" / "of mine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "fast"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert user_folder("plans") == home / "fast" / "jaxswap" / "plans"
    assert user_folder("targets") == home / ".config" / "jaxswap" / "targets"


def test_one_variable_moves_all_folders(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXSWAP_HOME", "~/mine")
    assert user_folder("plans") == home / "mine" / "plans"
    assert user_folder("targets") == home / "mine" / "targets"
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", "~/older")
    assert user_folder("plans") == home / "older"
    assert user_folder("targets") == home / "mine" / "targets"
    assert not os.path.exists(home / "mine")


@pytest.fixture
def temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> Iterator[Path]:
    def has_none(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", has_none)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _temporary_home.cache_clear()
    yield tmp_path
    _temporary_home.cache_clear()


def test_who_has_no_home_gets_one_of_their_own(temporary: Path) -> None:
    folder = user_folder("plans")
    assert folder == temporary / f"jaxswap-{os.getuid()}/.cache/jaxswap/plans"
    _temporary_home.cache_clear()
    assert user_folder("plans") == folder
    status = (temporary / f"jaxswap-{os.getuid()}").stat()
    assert stat.S_IMODE(status.st_mode) == 0o700


def test_a_temporary_home_where_others_may_write_is_not_used(temporary: Path) -> None:
    shared = temporary / f"jaxswap-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    assert not user_folder("compiled").is_relative_to(shared)
    assert user_folder("compiled").is_relative_to(temporary)


@pytest.mark.parametrize("kind", ["", ".", "..", "plans/old", "../plans", "/plans"])
def test_a_kind_that_would_lead_elsewhere_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="a folder's name is needed"):
        user_folder(kind)
