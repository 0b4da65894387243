"""Reading what a run recorded as JSON in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from jaxswap.medical.data.plain_files import read_json

T = TypeVar("T")


def load_record(path: Path, kind: type[T]) -> T | None:
    """Read a record. None if there is no such file.

    Args:
        path: The file.
        kind: A dataclass, see `jaxswap.extend.read_as`.

    Raises:
        ValueError: If the file is damaged. The message names the file and the place.
    """
    return read_json(path, kind) if path.is_file() else None
