"""Full disks, ends in the midst, folders that vanish: what was there is still there."""

import builtins
import io
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hostile.writers import WRITERS, Writer

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__),
]

CHANGES = "replace rename unlink rmdir mkdir".split()
"""Functions of `os` that change what a folder holds."""


class DeadError(BaseException):
    """The process was killed: nothing that it would do later is done."""


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to write to, also that of plans and targets."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(folder))
    return folder


def shown(folder: Path) -> dict[str, bytes]:
    """Return the files that a reader sees: those whose names begin with no dot.

    Files of events have names of their own in each process.
    """
    paths = {path.relative_to(folder): path for path in folder.rglob("*")}
    return {
        str(name): path.read_bytes()
        for name, path in sorted(paths.items())
        if path.is_file()
        and not any(part.startswith((".", "events.")) for part in name.parts)
    }


def assert_is_there(folder: Path, before: dict[str, bytes], write: Writer) -> None:
    """Each file is as it was, or whole and new; what comes later is written."""
    now = shown(folder)
    write(folder, 2)
    after = shown(folder)
    for name, content in before.items():
        if name in after:  # The oldest checkpoints go.
            found = now[name]
            assert found in (content, after[name]) or found.startswith(content), name


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """Let no file become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("most_bytes", [0, 20])
def test_a_full_disk_spares_what_is_there(
    write: Writer, most_bytes: int, out: Path
) -> None:
    write(out, 1)
    before = shown(out)
    assert before
    with full_disk(most_bytes), suppress(OSError, ValueError):
        write(out, 2)
    assert_is_there(out, before, write)


def dying(number: int, patch: pytest.MonkeyPatch) -> None:
    """Let the process die at its change of that number."""
    left = [number]

    def dies(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def change_or_die(*args: Any, **kwargs: Any) -> Any:
            if left[0] <= 0:
                raise DeadError(name)
            left[0] -= 1
            return change(*args, **kwargs)

        return change_or_die

    for name in CHANGES:
        patch.setattr(os, name, dies(name, getattr(os, name)))


@pytest.mark.parametrize("number", [0, 1, 2, 4])
def test_a_process_that_is_killed_spares_what_is_there(
    write: Writer, number: int, out: Path
) -> None:
    write(out, 1)
    before = shown(out)
    with pytest.MonkeyPatch.context() as patch, suppress(DeadError, OSError):
        dying(number, patch)
        write(out, 2)
    assert_is_there(out, before, write)


def test_a_folder_that_cannot_be_written_spares_what_is_there(
    write: Writer, out: Path
) -> None:
    write(out, 1)
    before = shown(out)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        raise PermissionError(13, "Permission denied")

    def open_to_read(file: Any, mode: str = "r", *rest: Any, **kwargs: Any) -> Any:
        is_writing = set(mode) & set("wax+")
        return refuse() if is_writing else real(file, mode, *rest, **kwargs)

    real = builtins.open
    with pytest.MonkeyPatch.context() as patch, suppress(OSError, ValueError):
        for module in (builtins, io):
            patch.setattr(module, "open", open_to_read)
        for name in CHANGES:
            patch.setattr(os, name, refuse)
        write(out, 2)
    assert shown(out) == before
    assert_is_there(out, before, write)


def test_a_folder_that_vanishes_is_no_traceback_and_can_be_made_again(
    write: Writer, out: Path
) -> None:
    write(out, 1)
    real = os.replace

    def vanish(*args: Any, **kwargs: Any) -> None:
        shutil.rmtree(out, ignore_errors=True)
        real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, suppress(OSError, ValueError):
        patch.setattr(os, "replace", vanish)
        write(out, 2)
    out.mkdir(exist_ok=True)
    write(out, 2)
    assert shown(out)
