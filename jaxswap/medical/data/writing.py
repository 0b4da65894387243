"""Writing files so that they are complete or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to. It becomes `path` if no error is raised.

    Args:
        path: The file to make or replace. Missing folders are made.

    Yields:
        A path with the same name, in a new folder beside `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=".writing-", dir=path.parent))
    temporary = folder / path.name
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        folder.rmdir()


def require_writable(folder: Path) -> None:
    """Raise ValueError if no file can be written into a folder.

    Long work would be lost if that came out at its end. A folder that does not exist is
    not made: the nearest one above it is tried.

    Args:
        folder: The folder.

    Raises:
        ValueError: If it or one above it is a file, or cannot be written to.
    """
    folder = folder.absolute()
    place = folder
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        named = f"{place}" if place == folder else f"{folder}: {place}"
        raise ValueError(f"{named} is a file; a folder is needed.")
    try:
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"{folder}: nothing can be written in {place}: {reason}. Give another "
            "folder."
        ) from error
