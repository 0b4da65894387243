"""Folders that results cannot be written to are found before anything is done."""

import errno
from pathlib import Path
from typing import Any

import pytest

from jaxswap.medical.data import writing
from jaxswap.medical.data.writing import require_writable


def test_a_folder_that_can_be_made_is_not_made(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "run")
    require_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(ValueError, match=r"notes/run: .*notes is a file"):
        require_writable(tmp_path / "notes" / "run")


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    monkeypatch.setattr(writing, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"run: nothing can be written in .*Read-only"):
        require_writable(tmp_path / "run")
