"""Targets in files: what `calibrate` measured on a machine, kept for the next run.

One JSON file each, in a folder of the user. No JAX here.
"""

import dataclasses
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from jaxswap._gpu.rates import Rates
from jaxswap._gpu.target import Target, target_key

_FORMAT = "jaxswap target 1"


def targets_folder() -> Path:
    """Return the folder where targets are saved.

    Returns:
        `targets` in `$JAXSWAP_HOME` if that is set, else in `$XDG_CONFIG_HOME/jaxswap`,
        else in `~/.config/jaxswap`. It need not exist.
    """
    if home := os.environ.get("JAXSWAP_HOME"):
        return Path(home).expanduser() / "targets"
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "jaxswap" / "targets"


def save_target(target: Target, folder: str | os.PathLike[str] | None = None) -> Path:
    """Write a target to a file of its own.

    A reader sees the old file or the new one, never a part. A target of the same name
    is replaced.

    Args:
        target: The GPU's numbers, with or without measured rates.
        folder: Where to write; by default `targets_folder()`. It is made if need be.

    Returns:
        The file, `<name>.json`.

    Raises:
        ValueError: If the name has no letter and no digit to make a file name of.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from jaxswap._gpu.target import find_target
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_target(find_target("h100"), folder)
        ...     load_target(path) == find_target("h100")
        True
    """
    stem = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")
    if not stem:
        raise ValueError(
            f"`name` of the target is {target.name!r}: a file name needs letters "
            'or digits, such as "h100".'
        )
    folder = targets_folder() if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": _FORMAT, "target": dataclasses.asdict(target)}
    path = folder / f"{stem}.json"
    _write(path, json.dumps(content, indent=2) + "\n")
    return path


def load_target(path: str | os.PathLike[str]) -> Target:
    """Read a target from a file that `save_target` wrote.

    Args:
        path: The file.

    Returns:
        The target, equal to the one that was saved.

    Raises:
        ValueError: If the file holds something else; the text names the file.
        OSError: If it cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f'no `"format": "{_FORMAT}"` in it')
        numbers = _fields(content.get("target"), Target)
        numbers["compute_capability"] = _pair(numbers["compute_capability"])
        if numbers["rates"] is not None:
            numbers["rates"] = Rates(**_fields(numbers["rates"], Rates))
        return Target(**numbers)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError among them
        raise ValueError(
            f"`{os.fspath(path)}` is not a target saved by this version of jaxswap: "
            f"{error}. Delete it, and measure again with `jaxswap.calibrate()`."
        ) from error


def saved_targets(
    folder: str | os.PathLike[str] | None = None,
) -> dict[str, Target]:
    """Read all saved targets.

    Args:
        folder: Where they are; by default `targets_folder()`.

    Returns:
        The targets by name, in alphabetical order of their files; none if the folder is
        not there.

    Raises:
        ValueError: If a `.json` file there is no target; the text names the file.
        OSError: If one cannot be read.
    """
    folder = targets_folder() if folder is None else Path(folder)
    found = [load_target(path) for path in sorted(folder.glob("*.json"))]
    return {target.name: target for target in found}


def load_calibrated(
    name_or_device_kind: str, folder: str | os.PathLike[str] | None = None
) -> Target | None:
    """Look up a saved target.

    Args:
        name_or_device_kind: The target's name in any spelling, or the name that the
            driver reports (`jax.devices()[0].device_kind`). The name goes first.
        folder: Where the targets are; by default `targets_folder()`.

    Returns:
        The target, or None if none such is saved.

    Raises:
        ValueError: If a `.json` file there is no target; the text names the file.
        OSError: If one cannot be read.
    """
    found = list(saved_targets(folder).values())
    key = target_key(name_or_device_kind)
    named = [target for target in found if target_key(target.name) == key]
    same_kind = [t for t in found if t.device_name == name_or_device_kind]
    return next(iter([*named, *same_kind]), None)


def _write(path: Path, text: str) -> None:
    """Write beside `path`, then put the file in its place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


_JSON_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
    tuple[int, int]: (list,),
    Rates | None: (dict, type(None)),
}


def _pair(numbers: list[Any]) -> tuple[int, int]:
    if len(numbers) != 2 or any(type(number) is not int for number in numbers):
        raise ValueError(f"`compute_capability` is {numbers!r}")
    return numbers[0], numbers[1]


def _fields(numbers: Any, kind: type) -> dict[str, Any]:
    """Check that `numbers` are the fields of the dataclass `kind`."""
    if not isinstance(numbers, dict):
        raise ValueError(f"no fields of a `{kind.__name__}` in it")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    if odd := sorted(fields.keys() ^ numbers.keys()):
        raise ValueError(f"missing or unknown: {', '.join(map(repr, odd))}")
    for name, wanted in fields.items():
        value = numbers[name]
        is_fit = isinstance(value, _JSON_TYPES[wanted])
        if not is_fit or (isinstance(value, bool) and wanted is not bool):
            raise ValueError(f"`{name}` is {value!r}")
    return dict(numbers)
