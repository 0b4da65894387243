"""The folder of a run belongs to one process at a time.

A batch system may start a job again while the first one still runs. Two processes would
then overwrite each other's checkpoints. The operating system ends a claim when the
process ends, however it ends.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxswap import JaxswapError

_NAME = ".claim"


class RunInUseError(JaxswapError, ValueError):
    """Another process trains in the folder. The message says which."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder.

    Where the file system or the operating system knows no locks, nothing is kept.

    Args:
        folder: The folder of a run. It is made if it is not there.

    Raises:
        RunInUseError: If another process has claimed it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _NAME).open("a+", encoding="utf-8") as file:
        _lock(file.fileno(), folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def require_unclaimed(folder: Path) -> None:
    """Raise RunInUseError if another process trains in a folder."""
    path = folder / _NAME
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            _lock(file.fileno(), folder)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows.
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = (folder / _NAME).read_text(encoding="utf-8", errors="replace")
        raise RunInUseError(
            f"{folder}: {owner or 'another process'} trains in this folder. Wait until "
            "it ends, or choose another folder."
        ) from None
    except OSError:  # The file system has no locks.
        return
