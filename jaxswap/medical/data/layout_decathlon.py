"""The layout of the Medical Segmentation Decathlon: all channels in one 4-D file.

`dataset.json` lists the files and names the channels (`modality`) and the labels. The
label numbers of the brain tumour task differ from those of BraTS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxswap.medical.data.case_files import CaseFiles, Dataset, Source
from jaxswap.medical.data.dataset_json import (
    name_without_ending,
    read_channels,
    read_description,
)
from jaxswap.medical.data.label_maps import LabelMap, find_label_map
from jaxswap.medical.data.labels_json import decathlon_labels


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
    if found is None:
        return None
    path, content = found
    channels, order = read_channels(path, "modality", content["modality"])
    training, test = (_entries(path, content, key) for key in ("training", "test"))
    cases = [
        _case(root, image, label, order)
        for image, label in (*training, *((image, None) for image, _ in test))
    ]
    return Dataset(
        root=root,
        layout="decathlon",
        channels=channels,
        label_map=_label_map(path, content, edition),
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        notes=_count_notes(path, content, len(training), len(test)),
    )


def _entries(
    path: Path, content: dict[str, Any], key: str
) -> list[tuple[str, str | None]]:
    entries = content.get(key) or []
    found = []
    for entry in entries if isinstance(entries, list) else [entries]:
        image, label = entry, None
        if isinstance(entry, dict):
            image, label = entry.get("image"), entry.get("label")
        needs_label = key == "training"
        if not isinstance(image, str) or needs_label != isinstance(label, str):
            raise ValueError(
                f"{path}: `{key}` holds {entry!r}; expected "
                + ('{"image": FILE, "label": FILE}.' if needs_label else "a file.")
            )
        found.append((image, label))
    return found


def _case(
    root: Path, image: str, label: str | None, order: tuple[int, ...]
) -> CaseFiles:
    file = root / image
    indices = order if len(order) > 1 else (None,)
    sources = tuple(Source(file, index) for index in indices)
    return CaseFiles(
        name_without_ending(file), sources, None if label is None else root / label
    )


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
