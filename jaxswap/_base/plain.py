"""JSON and similar text that anyone may have written -> plain data.

Plain data are lists, mappings, texts, numbers, true, false and null.
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

Parse = Callable[[str], Any]
"""Makes plain data of a text, and raises ValueError for any other text."""

_MOST_BYTES = 2**28
_MOST_LEVELS = 200


def read_plain(
    path: str | os.PathLike[str],
    parse: Parse = json.loads,
    most_bytes: int = _MOST_BYTES,
) -> Any:
    """Read a file that a person may have written, or a disk may have damaged.

    Args:
        path: The file, in UTF-8.
        parse: Makes plain data of its text. JSON by default.
        most_bytes: A larger file is not read.

    Returns:
        Lists, mappings, texts and numbers. `read_as` says whether they are the right
        ones.

    Raises:
        ValueError: If the file is too large, not UTF-8, nested too deeply, or no such
            text. The message does not name the file: what it should be, the caller
            knows.
        OSError: If it cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from jaxswap.extend import read_plain
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.json")
        ...     _ = path.write_text('{"shape": [8, 8]}')
        ...     read_plain(path)
        {'shape': [8, 8]}
    """
    path = Path(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # To open a pipe would wait without end.
        raise ValueError("it is no file")
    size = status.st_size
    if size > most_bytes:
        raise ValueError(f"it has {size} bytes, more than {most_bytes}")
    return parse_plain(path.read_text(encoding="utf-8"), parse)


def parse_plain(text: str, parse: Parse = json.loads) -> Any:
    """Make plain data of a text, however it is nested.

    Args:
        text: The text.
        parse: How it is read. JSON by default.

    Raises:
        ValueError: If it is no such text, or nested too deeply.

    Example:
        >>> from jaxswap.extend import parse_plain
        >>> parse_plain("[" * 1000 + "]" * 1000)
        Traceback (most recent call last):
        ValueError: it is nested too deeply
    """
    try:
        content = parse(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # Whoever uses the content may visit it by recursion. What a text names twice is
    # looked at once: it may name things a million times, or contain itself.
    level = [content]
    for _ in range(_MOST_LEVELS):
        inside = {id(x): x for holder in level for x in _inside(holder)}
        level = list(inside.values())
        if not level:
            return content
    raise ValueError("it is nested too deeply")


def _inside(content: Any) -> list[Any]:
    """Return the lists and mappings that are directly inside another one."""
    if isinstance(content, dict):
        content = content.values()
    elif not isinstance(content, list):
        return []
    return [x for x in content if isinstance(x, dict | list)]
