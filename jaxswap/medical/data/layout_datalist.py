"""A JSON datalist as MONAI uses it: `{"training": [{"image": ..., "label": ...}]}`.

`image` is one file, or a file for each channel. `fold` is the fold in which a case
validates. Cases under `validation` validate in fold 0. Cases under `test` have no
labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxswap.medical.data.case_files import CaseFiles, Dataset, Source
from jaxswap.medical.data.case_names import unique_names
from jaxswap.medical.data.channels import BRAIN_CHANNELS, order_channels
from jaxswap.medical.data.dataset_json import (
    name_without_ending,
    read_fold,
    read_label_map,
    read_names,
    read_object,
    refuse_near_misses,
)
from jaxswap.medical.data.editions import editions_of, label_map_of
from jaxswap.medical.data.label_maps import LabelMap, find_label_map
from jaxswap.medical.data.layout_brats import has_old_suffix, sequence_of

_TEST_KEYS = ("test", "testing")
_ENTRY_KEYS = ("image", "label", "fold")
_KEYS = ("training", "validation", *_TEST_KEYS, "labels")
_NAME_KEYS = ("channel_names", "channels", "modality")


@dataclass(frozen=True)
class _Entry:
    """One case in the form of the list."""

    name: str
    images: tuple[Path, ...]
    label: Path | None
    fold: int | None


def find_datalist(path: Path, edition: str | LabelMap | None = None) -> Dataset | None:
    """Read a datalist.

    Channels are named by `channel_names` in the file, or by file names such as
    `..._t1ce.nii.gz`. Labels are named by `labels`, or belong to an edition of BraTS.

    Args:
        path: The JSON file. Paths in it are relative to its folder.
        edition: Key of `LABEL_MAPS`, or a label map. It replaces the labels that the
            file names.

    Returns:
        The data set. None if the file lists no cases.

    Raises:
        ValueError: If the file does not hold what it should, if `edition` is unknown,
            or if it is missing and the names fit several editions.
    """
    content = read_object(path)
    refuse_near_misses(path, content, _KEYS)
    keys = [k for k in ("training", "validation", *_TEST_KEYS) if k in content]
    if not keys:
        return None
    unnamed = [entry for key in keys for entry in _entries(path, content, key)]
    if not unnamed:
        raise ValueError(f"{path}: lists no case.")
    names = zip(unnamed, _names(unnamed, path.parent), strict=True)
    entries = [replace(entry, name=name) for entry, name in names]
    named = _channel_names(path, content, entries)
    positions: tuple[int, ...] = ()
    if named:
        channels, cases, positions = _by_position(path, entries, named)
    elif all(sequence_of(image) for entry in entries for image in entry.images):
        channels, cases = _by_file_names(path, entries)
    else:
        count = len(entries[0].images)
        numbered = ["image"] if count == 1 else [f"image {i}" for i in range(count)]
        channels, cases, positions = _by_position(path, entries, numbered)
    return Dataset(
        root=path,
        layout="datalist",
        channels=channels,
        label_map=_label_map(path, content, entries, edition),
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        positions=positions,
    )


def _entries(path: Path, content: dict[str, Any], key: str) -> list[_Entry]:
    listed = content[key]
    if not isinstance(listed, list):
        raise ValueError(f"{path}: `{key}` is no list of cases.")
    return [_entry(path, key, entry) for entry in listed]


def _entry(path: Path, key: str, entry: Any) -> _Entry:
    fields = entry if isinstance(entry, dict) else {"image": entry}
    refuse_near_misses(path, fields, _ENTRY_KEYS, f"an entry of `{key}`")
    images, label = fields.get("image"), fields.get("label")
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not _are_words(images):
        raise ValueError(
            f"{path}: `{key}` holds {entry!r}; `image` needs a file or a list of files."
        )
    if label is not None and not isinstance(label, str):
        raise ValueError(f"{path}: `{key}` holds {entry!r}; `label` needs one file.")
    fold = read_fold(path, key, fields)
    if fold is None and key == "validation":
        fold = 0
    is_test = key in _TEST_KEYS
    return _Entry(
        name="",  # Until all names are known.
        images=tuple(path.parent / image for image in images),
        label=None if label is None or is_test else path.parent / label,
        fold=None if is_test else fold,
    )


def _channel_names(
    path: Path, content: dict[str, Any], entries: Sequence[_Entry]
) -> list[str]:
    """Return the names of channels in the file. Empty if it has none."""
    key = next((key for key in _NAME_KEYS if key in content), None)
    if key is None or isinstance(content[key], str):
        return []  # "modality": "MRI" says nothing about channels.
    names = read_names(path, key, content[key])
    is_of_all = len(names) == 1 and all(len(entry.images) > 1 for entry in entries)
    return [] if is_of_all else names


def _by_position(
    path: Path, entries: Sequence[_Entry], names: Sequence[str]
) -> tuple[tuple[str, ...], list[CaseFiles], tuple[int, ...]]:
    try:
        channels, order = order_channels(names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    cases = []
    for entry in entries:
        files = entry.images
        if len(files) == 1 and len(names) > 1:
            sources = tuple(Source(files[0], index) for index in order)
        elif len(files) == len(names):
            sources = tuple(Source(files[index]) for index in order)
        else:
            raise ValueError(
                f"{path}: {entry.name} has {len(files)} images; expected "
                f"{len(names)}: {', '.join(names)}."
            )
        cases.append(CaseFiles(entry.name, sources, entry.label, entry.fold))
    return channels, cases, order


def _by_file_names(
    path: Path, entries: Sequence[_Entry]
) -> tuple[tuple[str, ...], list[CaseFiles]]:
    found = [_sequences(path, entry) for entry in entries]
    used = {channel for images in found for channel in images}
    channels = tuple(channel for channel in BRAIN_CHANNELS if channel in used)
    cases = []
    for entry, images in zip(entries, found, strict=True):
        missing = [channel for channel in channels if channel not in images]
        if missing:
            raise ValueError(
                f"{path}: {entry.name} lists no {' and no '.join(missing)}; every "
                f"case needs {', '.join(channels)}."
            )
        sources = tuple(Source(images[channel]) for channel in channels)
        cases.append(CaseFiles(entry.name, sources, entry.label, entry.fold))
    return channels, cases


def _sequences(path: Path, entry: _Entry) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for image in entry.images:
        sequence = sequence_of(image)
        assert sequence is not None
        if sequence[1] in images:
            raise ValueError(
                f"{path}: {entry.name} lists two images of {sequence[1]}: "
                f"{images[sequence[1]].name} and {image.name}."
            )
        images[sequence[1]] = image
    return images


def _names(entries: Sequence[_Entry], root: Path) -> list[str]:
    """Name cases after their files, and after their folders if files share a name."""
    names = []
    for entry in entries:
        sequence = sequence_of(entry.images[0])
        names.append(sequence[0] if sequence else name_without_ending(entry.images[0]))
    return unique_names(names, [entry.images[0] for entry in entries], root)


def _are_words(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values)


def _label_map(
    path: Path,
    content: dict[str, Any],
    entries: Sequence[_Entry],
    edition: str | LabelMap | None,
) -> LabelMap | None:
    if edition is not None:
        return find_label_map(edition)
    if "labels" in content:
        return read_label_map(
            path, str(content.get("name", path.stem)), content["labels"]
        )
    names = [entry.name for entry in entries]
    images = [image for entry in entries for image in entry.images]
    is_old = all(map(has_old_suffix, images))
    if not any(entry.label for entry in entries) or not (editions_of(names) or is_old):
        return None
    return label_map_of(names, has_old_suffixes=is_old, where=str(path))
