"""The settings of a training run as a text, read from the source of their class.

The meaning of a setting is written once, in the docstring of its class. To import the
class would load JAX, which takes seconds. So its source is parsed.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_RUN = ("jaxswap.medical.runs.run_config", "RunConfig")
_HEAD = (
    "settings: --set NAME=VALUE, or names and values in a YAML file with --config. "
    "null is none."
)
_AUGMENT_HEAD = (
    "settings within augment: --set 'augment={NAME: VALUE, ...}'. Those left out have "
    "their default."
)
_AUGMENT = ("jaxswap.medical.preparing.augment_config", "AugmentConfig")
_ENTRY = re.compile(r"^ {4}(\w+): (.*)$")
_TYPES = {
    "Path": "path",
    "str": "text",
    "bool": "true or false",
    "float": "number",
    "int": "integer",
    "Shape": "three integers",
    "Range": "two numbers",
    "tuple[float, float, float]": "three numbers",
    "tuple[int, ...]": "integers",
    "tuple[str, ...]": "names",
    "Mapping[str, Any]": "names and values",
    "Mapping[str, str]": "names and values",
    "AugmentConfig": "names and values",
}
"""What a user writes for a type in Python."""


class Setting(NamedTuple):
    """One setting.

    Attributes:
        name: Its name.
        type: What may be given, in words.
        default: Its default in YAML. None if it has to be given.
        meaning: What it does.
    """

    name: str
    type: str
    default: str | None
    meaning: str


def settings_of(module: str, name: str) -> tuple[Setting, ...]:
    """Read the settings of a dataclass from its source.

    Args:
        module: Module of the class. It is not imported.
        name: Name of the class. Its docstring has a section `Attributes`.

    Returns:
        Its fields, in order.

    Example:
        >>> first = settings_of("jaxswap.medical.runs.run_config", "RunConfig")[0]
        >>> first.name, first.type, first.default
        ('data', 'path', None)
    """
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    (found,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    meanings = _meanings(ast.get_docstring(found) or "")
    fields = (node for node in found.body if isinstance(node, ast.AnnAssign))
    return tuple(
        Setting(field.target.id, _type(field), _default(field), meaning)
        for field in fields
        if isinstance(field.target, ast.Name)
        and (meaning := meanings.get(field.target.id, ""))
    )


def settings_text(width: int) -> str:
    """List all settings of a training run with type, default and meaning.

    Args:
        width: Columns of the terminal.
    """
    return "\n".join(
        (
            _filled(_HEAD, width),
            *_entries(settings_of(*_RUN), width),
            "",
            _filled(_AUGMENT_HEAD, width),
            *_entries(settings_of(*_AUGMENT), width),
        )
    )


def _entries(settings: tuple[Setting, ...], width: int) -> Iterator[str]:
    for setting in settings:
        default = "" if setting.default is None else f", default {setting.default}"
        yield f"  {setting.name}: {setting.type}{default}"
        yield _filled(setting.meaning, width, " " * 6)


def _filled(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        text,
        max(width - 2, 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _meanings(docstring: str) -> dict[str, str]:
    """Read the section `Attributes` of a docstring."""
    _, _, section = docstring.partition("Attributes:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            name = entry[1]
            meanings[name] = entry[2]
        elif line.startswith(" " * 8):
            meanings[name] += f" {line.strip()}"
        else:
            break
    # A file and the command line have YAML's word.
    return {k: re.sub(r"\bNone\b", "null", text) for k, text in meanings.items()}


def _type(field: ast.AnnAssign) -> str:
    words = []
    for part in ast.unparse(field.annotation).split(" | "):
        literal = re.fullmatch(r"Literal\['(.*)'\]", part)
        words.append(literal[1] if literal else _TYPES.get(part, part))
    return " or ".join(word for word in words if word != "None")


def _default(field: ast.AnnAssign) -> str | None:
    if field.value is None:
        return None
    try:
        value = ast.literal_eval(field.value)
    except ValueError:  # `field(default_factory=...)`
        return "{}" if "dict" in ast.unparse(field.value) else "see below"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return str(value)
