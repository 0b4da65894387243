"""Settings as YAML: files, and words of the command line.

YAML 1.1 takes `1e-3` for a text, because it lacks a dot. Here it is a number, as in
YAML 1.2 and in Python.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from jaxswap.medical.data.plain_files import parse_yaml, read_yaml
from jaxswap.medical.data.shown_names import short_name


class _SettingsLoader(yaml.SafeLoader):
    """Reads YAML with the numbers of YAML 1.2."""


_SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_config(path: Path) -> dict[str, Any]:
    """Read the values of a YAML file.

    Args:
        path: The file, a mapping from names of `RunConfig` to values.

    Returns:
        The values, not checked yet. See `make_config`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a YAML mapping.
    """
    content = read_yaml(path, _SettingsLoader)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: holds {type(content).__name__}, but needs names and values such "
            "as `steps: 1000`."
        )
    return content


def parse_setting(text: str) -> tuple[str, Any]:
    """Read `name=value`. The value is YAML, as in a configuration file.

    Args:
        text: What the user wrote after `--set`.

    Returns:
        Name and value.

    Raises:
        ValueError: If the text does not have this form.

    Example:
        >>> parse_setting("shape=[96, 96, 64]"), parse_setting("learning_rate=1e-3")
        (('shape', [96, 96, 64]), ('learning_rate', 0.001))
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise ValueError(f"`--set {short_name(text)}` is not `--set name=value`.")
    try:
        return name.strip(), parse_yaml(value, _SettingsLoader)
    except ValueError as error:
        raise ValueError(f"`--set {short_name(text)}`: {error}.") from error
