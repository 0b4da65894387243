"""JSON and YAML that anyone may have written, damaged or nested without end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RecursionError,
)
"""What reading a damaged file, and using what it holds, may raise."""

_MOST_BYTES = 2**26  # A list of a hundred thousand cases has a quarter of that.


def read_text(path: Path) -> str:
    """Read a description in UTF-8.

    Raises:
        ValueError: If it is too large to be one, or not UTF-8.
        OSError: If it cannot be read.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size} bytes, more than {_MOST_BYTES}")
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON. The message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError(f"{path}: is nested too deeply.") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: is not readable as JSON ({error}).") from error


def parse_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read YAML.

    Args:
        text: The text.
        loader: How plain words are read.

    Raises:
        ValueError: If it is no YAML, or nested too deeply.
    """
    try:
        return yaml.load(text, loader)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from error
