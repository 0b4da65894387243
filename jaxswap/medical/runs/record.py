"""Reading what a run recorded as JSON in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

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
        return make(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is damaged: {error}.") from error
