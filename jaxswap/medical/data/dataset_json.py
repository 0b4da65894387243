"""Reading the JSON files that describe data sets."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaxswap.medical.data.channels import order_channels
from jaxswap.medical.data.label_maps import LabelMap, make_label_map
from jaxswap.medical.data.plain_files import read_json


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything else. The message names the file.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected a JSON object, found {type(content).__name__}."
        )
    return content


def refuse_near_misses(
    path: Path, content: Mapping[str, Any], known: Collection[str], where: str = ""
) -> None:
    """Refuse a key that is nearly one that is missing. Other unknown keys are no fault.

    Args:
        path: The JSON file, for messages.
        content: The object.
        known: Keys that have a meaning.
        where: Which object of the file it is. Empty for the whole.

    Raises:
        ValueError: If there is such a key.

    Example:
        >>> entry = {"image": "a.nii", "labels": "b.nii"}
        >>> refuse_near_misses(Path("d.json"), entry, ("image", "label"), "an entry")
        Traceback (most recent call last):
        ValueError: d.json: an entry has the key `labels`; did you mean `label`?
    """
    missing = {key.lower(): key for key in known if key not in content}
    for key in content:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key).lower(), missing, 1, 0.75)
        if near:
            raise ValueError(
                f"{path}: {where}{' ' * bool(where)}has the key `{key}`; did you mean "
                f"`{missing[near[0]]}`?"
            )


def read_fold(path: Path, key: str, entry: Mapping[str, Any]) -> int | None:
    """Read the fold in which a listed case validates, as MONAI's lists name it.

    Raises:
        ValueError: If it is none of 0, 1, ...
    """
    fold = entry.get("fold")
    if isinstance(fold, str) and fold.isdecimal():
        return int(fold)
    if fold is not None and (type(fold) is not int or fold < 0):
        raise ValueError(f"{path}: `{key}` has `fold` {fold!r}; expected 0, 1, ...")
    return fold


def read_names(path: Path, key: str, names: Any) -> list[str]:
    """Read channel names, `{"0": "FLAIR", ...}` or a list, in order.

    Raises:
        ValueError: If keys are not 0, 1, ... or names are not words.
    """
    if isinstance(names, Mapping):
        wanted = [str(index) for index in range(len(names))]
        if sorted(names, key=str) != sorted(wanted):
            raise ValueError(
                f"{path}: `{key}` has keys {', '.join(map(str, names))}; expected "
                f"{', '.join(wanted)}."
            )
        names = [names[index] for index in wanted]
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{path}: `{key}` needs the name of each channel.")
    if not names:
        raise ValueError(f"{path}: `{key}` names no channel.")
    return names


def read_channels(
    path: Path, key: str, names: Any
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Read channel names and put them into the fixed order.

    Args:
        path: The JSON file, for messages.
        key: The key of the names in the file.
        names: The value of this key.

    Returns:
        See `jaxswap.medical.data.channels.order_channels`.

    Raises:
        ValueError: If names are missing, wrong or ambiguous.
    """
    read = read_names(path, key, names)
    try:
        return order_channels(read)
    except ValueError as error:
        raise ValueError(f"{path}: `{key}`: {error}") from error


def read_values(path: Path, labels: Any) -> dict[str, int]:
    """Read labels, `{"1": "edema"}` or `{"edema": 1}`, as values by name.

    Raises:
        ValueError: If they are neither.
    """
    if not isinstance(labels, Mapping) or not labels:
        raise ValueError(f"{path}: `labels` needs a name and a number for each label.")
    values = {}
    for key, value in labels.items():
        is_name_first = isinstance(value, int) and not isinstance(value, bool)
        name, number = (key, value) if is_name_first else (value, key)
        if not isinstance(name, str) or not str(number).isdigit():
            raise ValueError(
                f"{path}: `labels` has {key!r}: {value!r}; each label needs a name and "
                "a number."
            )
        if name in values:
            raise ValueError(f"{path}: `labels` names {name!r} twice.")
        values[name] = int(number)
    return values


def read_label_map(path: Path, name: str, labels: Any) -> LabelMap:
    """Read labels as a map in which each label is a region.

    Raises:
        ValueError: See `read_values` and `LabelMap`. The message names the file.
    """
    values = read_values(path, labels)
    try:
        return make_label_map(name, values)
    except ValueError as error:
        raise ValueError(f"{path}: `labels`: {error}") from error


def read_description(root: Path, *keys: str) -> tuple[Path, dict[str, Any]] | None:
    """Read the `dataset.json` of a folder.

    Args:
        root: The folder.
        *keys: Keys that a file of the wanted layout has.

    Returns:
        The file and its content. None if it is missing or of another layout.
    """
    path = root / "dataset.json"
    content = read_object(path) if path.is_file() else {}
    return (path, content) if all(key in content for key in keys) else None


def name_without_ending(path: Path) -> str:
    """Return the name of a volume file without its ending."""
    name = path.name
    for ending in (".nii.gz", ".nii", ".mgz"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem
