"""What labels mean, as JSON files of data sets and of training runs say it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from jaxswap.extend import read_as
from jaxswap.medical.data.dataset_json import (
    read_label_map,
    read_object,
    read_values,
)
from jaxswap.medical.data.label_maps import LABEL_MAPS, LabelMap, make_region_map

_NAME = "dataset.json"  # Of nnU-Net, which copies it beside predictions, and MSD.
_TUMOUR_LABELS = {"edema": 1, "nonenhancingtumor": 2, "enhancingtumor": 3}


class PlainLabelMap(TypedDict):
    """A label map as JSON holds it: values that are keys are texts."""

    name: str
    labels: Mapping[str, int]
    regions: Mapping[str, tuple[int, ...]]
    is_exclusive: bool
    aliases: NotRequired[Mapping[str, int]]


def read_meaning(path: str | os.PathLike[str]) -> LabelMap:
    """Read what labels mean from a JSON file.

    Args:
        path: A file with `labels`, such as a `dataset.json` of nnU-Net or the
            decathlon or a datalist, or the `data.json` of a training run. Or a folder
            that holds a `dataset.json` or a `data.json`.

    Returns:
        The map.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not say it.
    """
    path = Path(path)
    if path.is_dir():
        inside = [path / name for name in (_NAME, "data.json")]
        path = next((file for file in inside if file.is_file()), inside[0])
    content = read_object(path)
    if "label_map" in content:
        try:
            return from_plain(content["label_map"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}.") from error
    if "labels" not in content:
        raise ValueError(
            f"{path}: has no `labels`, such as "
            '{"labels": {"background": 0, "lesion": 1}}.'
        )
    if "modality" in content and "training" in content:
        return decathlon_labels(path, content)
    return nnunet_labels(path, content)


def meaning_near(folder: Path) -> LabelMap | None:
    """Read what labels mean from the `dataset.json` in a folder, or in the one above.

    Args:
        folder: A folder of label files, such as `labelsTr` or predictions of nnU-Net.

    Returns:
        The map. None if there is no such file with `labels`.

    Raises:
        ValueError: If the file has labels and they cannot be understood.
    """
    for path in (folder / _NAME, folder.absolute().parent / _NAME):
        if path.is_file() and "labels" in read_object(path):
            return read_meaning(path)
    return None


def nnunet_labels(path: Path, content: Mapping[str, Any]) -> LabelMap:
    """Return the labels of nnU-Net's `dataset.json`: of single values or of regions.

    Args:
        path: The file, for messages.
        content: What it holds.

    Raises:
        ValueError: If labels are missing, are no numbers, or contradict each other.
    """
    labels = content.get("labels")
    if isinstance(labels, Mapping) and "ignore" in labels:
        raise ValueError(
            f"{path}: `labels` has an ignore label, which is not supported; every "
            "voxel needs a label."
        )
    name = str(content.get("name", path.parent.name))
    lists = isinstance(labels, Mapping) and any(
        isinstance(values, list) for values in labels.values()
    )
    if not isinstance(labels, Mapping) or not lists:
        return read_label_map(path, name, labels)
    order = content.get("regions_class_order")
    if not isinstance(order, list) or not _are_ints(order):
        raise ValueError(
            f"{path}: `labels` has regions of several values; so give "
            "`regions_class_order`, the value to write for each of them."
        )
    for region, values in labels.items():
        if not _are_ints(values if isinstance(values, list) else [values]):
            raise ValueError(f"{path}: `labels` has {region!r}: {values!r}.")
    try:
        return make_region_map(name, labels, order)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def decathlon_labels(path: Path, content: Mapping[str, Any]) -> LabelMap:
    """Return the labels of the decathlon's `dataset.json`.

    Those of the brain tumour task make the regions that BraTS scores.

    Args:
        path: The file, for messages.
        content: What it holds.

    Raises:
        ValueError: If labels are missing or are no numbers.
    """
    values = read_values(path, content.get("labels"))
    plain = {
        "".join(filter(str.isalpha, name.lower())).replace("tumour", "tumor"): value
        for name, value in values.items()
        if value != 0
    }
    if plain == _TUMOUR_LABELS:
        return LABEL_MAPS["msd-task01"]
    return read_label_map(path, str(content.get("name", path.parent.name)), values)


def to_plain(label_map: LabelMap) -> PlainLabelMap:
    """Return a map as plain values, for JSON. `from_plain` reads them."""
    return {
        "name": label_map.name,
        "labels": dict(label_map.labels),
        "regions": dict(label_map.regions),
        "is_exclusive": label_map.is_exclusive,
        "aliases": {str(k): v for k, v in label_map.aliases.items()},
    }


def from_plain(plain: Any) -> LabelMap:
    """Return the map that `to_plain` wrote.

    Raises:
        ValueError: If these are not the values of a map.
    """
    known: PlainLabelMap = read_as(PlainLabelMap, plain, "label_map")
    return LabelMap(
        known["name"],
        known["labels"],
        known["regions"],
        known["is_exclusive"],
        {int(value): read for value, read in known.get("aliases", {}).items()},
    )


def _are_ints(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int for value in values)
