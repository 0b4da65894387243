"""Targets in files: what `calibrate` measured on a machine, kept for later runs.

There is one JSON file for each target, in a folder of the user. No JAX here.
"""

import dataclasses
import json
import os
import re
from pathlib import Path

from jaxswap._base.files import user_folder, write_whole
from jaxswap._base.plain import read_plain
from jaxswap._gpu.fields import target_from_fields
from jaxswap._gpu.target import Target, target_key

_FORMAT = "jaxswap target 3"


def targets_folder() -> Path:
    """Return the folder where targets are saved. It may not exist yet."""
    return user_folder("targets")


def save_target(target: Target, folder: str | os.PathLike[str] | None = None) -> Path:
    """Write a target to a file of its own.

    A reader sees the old file or the whole new one. A target of the same name is
    replaced.

    Args:
        target: The GPU's numbers, with or without measured rates.
        folder: Where to write; by default `targets_folder()`. It is made if missing.

    Returns:
        The file, `<name>.json`.

    Raises:
        ValueError: If the name has neither a letter nor a digit for a file name.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from jaxswap._gpu.target import built_in_target
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_target(built_in_target("h100"), folder)
        ...     load_target(path) == built_in_target("h100")
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
    return write_whole(path, json.dumps(content, indent=2) + "\n")


def load_target(path: str | os.PathLike[str]) -> Target:
    """Read a target from a file that `save_target` wrote.

    Args:
        path: The file.

    Returns:
        The target, equal to the one that was saved.

    Raises:
        ValueError: If the file does not hold such a target. The text names the file.
        OSError: If it cannot be read.
    """
    try:
        content = read_plain(path)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f'it does not hold `"format": "{_FORMAT}"`')
        return target_from_fields(content.get("target"))
    except ValueError as error:  # Includes JSONDecodeError and UnicodeDecodeError.
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
        The targets by name, in alphabetical order of their files. Empty if the folder
        does not exist.

    Raises:
        ValueError: If a `.json` file there holds no target. The text names the file.
        OSError: If one cannot be read.
    """
    folder = targets_folder() if folder is None else Path(folder)
    found = [load_target(path) for path in sorted(folder.glob("*.json"))]
    return {target.name: target for target in found}


def saved_target(
    name_or_device_kind: str, folder: str | os.PathLike[str] | None = None
) -> Target | None:
    """Look up a saved target.

    Args:
        name_or_device_kind: The target's name in any spelling, or the name that the
            driver reports (`jax.devices()[0].device_kind`). Target names are tried
            first.
        folder: Where the targets are; by default `targets_folder()`.

    Returns:
        The target, or None if no such target is saved.

    Raises:
        ValueError: If a `.json` file there holds no target. The text names the file.
        OSError: If one cannot be read.
    """
    found = list(saved_targets(folder).values())
    key = target_key(name_or_device_kind)
    named = [target for target in found if target_key(target.name) == key]
    same_kind = [t for t in found if t.device_name == name_or_device_kind]
    return next(iter([*named, *same_kind]), None)
