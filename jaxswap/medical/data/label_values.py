"""The values of a label file, as integers of a label map.

Files that were written as floating point numbers with a slope hold values such as
0.99998. What is so close to an integer is that integer.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from jaxswap.medical.data.geometry import MOST_VOXELS_APART, voxels_apart
from jaxswap.medical.data.label_maps import LabelMap, describe_unknown, number_text
from jaxswap.medical.data.volumes import Volume, VolumeError, load_volume

MOST_FROM_INTEGER = 1e-3
"""Values that are at most so far from an integer are read as that integer."""


@dataclass(frozen=True, eq=False)
class LabelValues:
    """The values of a label file.

    Attributes:
        data: Values, float32, (x, y, z). Those close to an integer are that integer.
        values: Each value that occurs, ascending.
        counts: How many voxels have each value.
        note: What was rounded. Empty if nothing was.
    """

    data: np.ndarray
    values: tuple[float, ...]
    counts: tuple[int, ...]
    note: str

    def count_in(self, label_map: LabelMap | None) -> dict[int, int]:
        """Count voxels of each integer, in the numbers of a map if there is one."""
        aliases = {} if label_map is None else label_map.aliases
        totals: dict[int, int] = {}
        for value, count in zip(self.values, self.counts, strict=True):
            if value == round(value):
                number = aliases.get(int(value), int(value))
                totals[number] = totals.get(number, 0) + count
        return totals

    @property
    def broken(self) -> tuple[float, ...]:
        """The values that are no integers."""
        return tuple(value for value in self.values if value != round(value))


def read_values(data: np.ndarray) -> LabelValues:
    """Round what is close to an integer, and list the values.

    Args:
        data: Values of a label file, float32, (x, y, z), all finite.

    Returns:
        The values.

    Example:
        >>> found = read_values(np.array([[[0, 0.9999, 2.5]]], np.float32))
        >>> found.values, found.broken, found.note
        ((0.0, 1.0, 2.5), (2.5,), '0.9999 is read as 1')
    """
    values, counts = np.unique(data, return_counts=True)
    near = np.abs(values - np.round(values)) <= MOST_FROM_INTEGER
    whole = np.where(near, np.round(values), values) + np.float32(0)
    moved = np.flatnonzero(whole != values)
    note = ""
    if moved.size:
        pairs = [
            (number_text(float(values[i])), number_text(float(whole[i])))
            for i in moved[:3]
        ]
        more = " and more" if moved.size > 3 else ""
        note = ", ".join(f"{value} is read as {as_}" for value, as_ in pairs) + more
        data = np.where(
            np.abs(data - np.round(data)) <= MOST_FROM_INTEGER, np.round(data), data
        )
    totals: dict[float, int] = {}
    for value, count in zip(whole.tolist(), counts.tolist(), strict=True):
        totals[value] = totals.get(value, 0) + count
    return LabelValues(data, tuple(totals), tuple(totals.values()), note)


def describe_fault(found: LabelValues, label_map: LabelMap | None) -> str:
    """Say why values cannot be used. Empty if they can.

    Args:
        found: The values of a file.
        label_map: What they mean. None if it is not known.

    Returns:
        The rest of a sentence that starts with the file's name.
    """
    if found.broken:
        some = ", ".join(map(number_text, found.broken[:5]))
        more = " and more" if len(found.broken) > 5 else ""
        return f"labels need to be integers, but it holds {some}{more}."
    if label_map is not None and label_map.unknown(found.values):
        return describe_unknown(label_map, found.values)
    return ""


def to_map(volume: Volume, label_map: LabelMap) -> tuple[np.ndarray, str]:
    """Return labels in the numbers of a map.

    Args:
        volume: What was read from a label file.
        label_map: What its values mean.

    Returns:
        Labels, uint8, (x, y, z), and what was rounded. Empty if nothing was.

    Raises:
        VolumeError: If it holds values that the map lacks. The message names them.
    """
    found = read_values(volume.data)
    fault = describe_fault(found, label_map)
    if fault:
        raise VolumeError(f"{volume.path}: {fault}")
    labels = found.data
    for alias, value in label_map.aliases.items():
        if alias in found.values:
            labels = np.where(found.data == alias, np.float32(value), labels)
    return labels.astype(np.uint8), found.note


def load_labels(
    path: str | os.PathLike[str], like: Volume, classes: int | Collection[int]
) -> np.ndarray:
    """Read the labels of a volume, on the grid of `like.data`.

    Args:
        path: Label file, see `load_volume`.
        like: The image that the labels belong to.
        classes: Number of labels besides background 0, or all values that may occur.

    Returns:
        The labels, uint8, in RAS+ orientation.

    Raises:
        FileNotFoundError: If there is no such file.
        VolumeError: If it cannot be read, has another grid than `like`, or holds other
            values.
    """
    volume = load_volume(path)
    if volume.data.shape != like.data.shape:
        raise VolumeError(
            f"{path}: the labels have shape {volume.data.shape}, the image "
            f"{like.data.shape} (both turned to RAS+)."
        )
    apart = voxels_apart(volume.affine, like.affine, like.data.shape)
    if apart >= MOST_VOXELS_APART:
        raise VolumeError(f"{path}: the labels' affine differs from the image's.")
    known = range(classes + 1) if isinstance(classes, int) else sorted(classes)
    found = read_values(volume.data)
    unknown = [value for value in found.values if value not in known]
    if unknown:
        some = ", ".join(map(number_text, unknown[:5]))
        wanted = f"0..{classes}" if isinstance(classes, int) else list(known)
        raise VolumeError(
            f"{path}: labels need to be {wanted}, but it also holds {some}"
            f"{' and more' if len(unknown) > 5 else ''}."
        )
    return found.data.astype(np.uint8)
