"""The layout of the Medical Segmentation Decathlon: all channels in one 4-D file.

`dataset.json` lists the files and names the channels (`modality`) and the labels. The
label numbers of the brain tumour task differ from those of BraTS. Folders of nnU-Net v1
have the same list. Their channels are files whose names end in numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxswap.medical.data.case_files import CaseFiles, Dataset, Source
from jaxswap.medical.data.dataset_json import (
    name_without_ending,
    read_channels,
    read_description,
    read_fold,
    refuse_near_misses,
)
from jaxswap.medical.data.label_maps import LabelMap, find_label_map
from jaxswap.medical.data.labels_json import decathlon_labels

_ENTRY_KEYS = ("image", "label", "fold")
_FIRST = "_0000"  # At the end of the name of a case's first channel.


@dataclass(frozen=True)
class _Entry:
    """One case in the form of the list."""

    image: str
    label: str | None
    fold: int | None


def find_decathlon(root: Path, edition: str | LabelMap | None = None) -> Dataset | None:
    """Find the cases of a task of the decathlon.

    Args:
        root: Folder with `dataset.json`.
        edition: Key of `LABEL_MAPS`, or a label map. It replaces the labels in
            `dataset.json`.

    Returns:
        The data set. None if `dataset.json` is missing or of another layout.

    Raises:
        ValueError: If `dataset.json` does not hold what it should, or `edition` is
            unknown.
    """
    found = read_description(root, "modality", "training")
    if found is None or _lists_images(found[1]):
        return None
    path, content = found
    channels, order = read_channels(path, "modality", content["modality"])
    training, test = (_entries(path, content, key) for key in ("training", "test"))
    cases = [
        _case(root, entry, order)
        for entry in (*training, *(replace(entry, label=None) for entry in test))
    ]
    return Dataset(
        root=root,
        layout="decathlon",
        channels=channels,
        label_map=_label_map(path, content, edition),
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        notes=_count_notes(path, content, len(training), len(test)),
        positions=order,
    )


def _lists_images(content: Mapping[str, Any]) -> bool:
    """Whether a case has a file for each channel, as in datalists of MONAI."""
    listed = content["training"]
    return isinstance(listed, list) and any(
        isinstance(entry, Mapping) and isinstance(entry.get("image"), list)
        for entry in listed
    )


def _entries(path: Path, content: dict[str, Any], key: str) -> list[_Entry]:
    entries = content.get(key) or []
    found = []
    for entry in entries if isinstance(entries, list) else [entries]:
        fields = entry if isinstance(entry, dict) else {"image": entry}
        refuse_near_misses(path, fields, _ENTRY_KEYS, f"an entry of `{key}`")
        image, label = fields.get("image"), fields.get("label")
        needs_label = key == "training"
        if not isinstance(image, str) or needs_label != isinstance(label, str):
            raise ValueError(
                f"{path}: `{key}` holds {entry!r}; expected "
                + ('{"image": FILE, "label": FILE}.' if needs_label else "a file.")
            )
        fold = read_fold(path, key, fields) if needs_label else None
        found.append(_Entry(image, label, fold))
    return found


def _case(root: Path, entry: _Entry, order: tuple[int, ...]) -> CaseFiles:
    name, sources = _sources(root / entry.image, order)
    label = None if entry.label is None else root / entry.label
    return CaseFiles(name, sources, label, entry.fold)


def _sources(file: Path, order: tuple[int, ...]) -> tuple[str, tuple[Source, ...]]:
    """Return the name of a case, and where its channels are.

    nnU-Net v1 lists `imagesTr/CASE.nii.gz` and has `imagesTr/CASE_0000.nii.gz`, ...
    """
    listed = name_without_ending(file)
    ending = file.name[len(listed) :]
    name = listed.removesuffix(_FIRST)
    numbered = [file.with_name(f"{name}_{index:04d}{ending}") for index in order]
    is_numbered = file.with_name(f"{name}{_FIRST}{ending}").exists()
    if is_numbered and (name != listed or not file.exists()):
        return name, tuple(Source(path) for path in numbered)
    indices = order if len(order) > 1 else (None,)
    return listed, tuple(Source(file, index) for index in indices)


def _label_map(
    path: Path, content: dict[str, Any], edition: str | LabelMap | None
) -> LabelMap:
    if edition is not None:
        return find_label_map(edition)
    return decathlon_labels(path, content)


def _count_notes(
    path: Path, content: dict[str, Any], training: int, test: int
) -> tuple[str, ...]:
    notes = []
    for key, count in (("numTraining", training), ("numTest", test)):
        if content.get(key, count) != count:
            notes.append(
                f"{path}: `{key}` is {content[key]}, but {count} cases are listed."
            )
    return tuple(notes)
