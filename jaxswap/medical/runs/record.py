"""Reading what a run recorded as JSON in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from jaxswap.medical.data.plain_files import DAMAGE, read_json

T = TypeVar("T")


def load_record(path: Path, make: Callable[[Any], T]) -> T | None:
    """Read a record. None if there is no such file.

    Args:
        path: The file.
        make: Makes the record from what JSON holds.

    Raises:
        ValueError: If the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return make(read_json(path))
    except DAMAGE as error:
        raise ValueError(f"{path}: is damaged: {error}.") from error
