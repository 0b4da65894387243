"""JSON and YAML that anyone may have written, damaged or nested without end.

The limits are those of `jaxswap.extend.read_plain`. `read_as` checks what was read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from jaxswap.extend import parse_plain, read_as, read_plain

DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RecursionError,
)
"""What reading damaged arrays may raise, in the libraries that do it."""

_MOST_BYTES = 2**26  # A list of a hundred thousand cases has a quarter of that.


def read_json(path: Path, kind: Any = Any) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        kind: Type of what jaxswap wrote into it, see `jaxswap.extend.read_as`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or holds something else. The message names the
            file and the place in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        return read_as(kind, read_plain(path, most_bytes=_MOST_BYTES), "")
    except (ValueError, OSError) as error:
        what = "is not readable as JSON" if kind is Any else "is damaged"
        raise ValueError(f"{path}: {what} ({error}).") from error


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read a YAML file.

    Args:
        path: The file.
        loader: How plain words are read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not YAML. The message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        return read_plain(path, _yaml(loader), _MOST_BYTES)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}.") from error


def parse_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read YAML from a command line.

    Args:
        text: The text.
        loader: How plain words are read.

    Raises:
        ValueError: If it is no YAML, or nested too deeply.
    """
    return parse_plain(text, _yaml(loader))


def _yaml(loader: type[yaml.SafeLoader]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return yaml.load(text, loader)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"it is not YAML: {reason}") from error

    return parse
