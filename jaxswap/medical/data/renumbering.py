"""Labels in the numbers of another edition."""

from __future__ import annotations

import numpy as np

from jaxswap.medical.data.label_maps import LabelMap


def require_regions(source: LabelMap, target: LabelMap) -> None:
    """Raise ValueError if a map has no numbers for the regions of another one.

    Args:
        source: The map of the labels.
        target: The map whose numbers are wanted.
    """
    missing = [region for region in source.regions if region not in target.regions]
    if missing:
        raise ValueError(
            f"`edition` is {target.name}, which has no {', '.join(missing)}; the "
            f"network was trained on {source.name}: {', '.join(source.regions)}."
        )


def renumber(labels: np.ndarray, source: LabelMap, target: LabelMap) -> np.ndarray:
    """Write labels in the numbers of another map, by the names of their regions.

    Args:
        labels: Values of `source`, uint8, any shape.
        source: What they mean.
        target: The map whose numbers are wanted. It may have further regions.

    Returns:
        Labels, uint8, same shape.

    Raises:
        ValueError: If `target` lacks a region of `source`.

    Example:
        >>> from jaxswap.medical.data.label_maps import LABEL_MAPS
        >>> labels = np.array([0, 1, 2, 4], np.uint8)
        >>> renumber(labels, LABEL_MAPS["brats2021"], LABEL_MAPS["brats2023"])
        array([0, 1, 2, 3], dtype=uint8)
    """
    if source == target:
        return labels
    require_regions(source, target)
    regions = {region: target.regions[region] for region in source.regions}
    values = [value for members in regions.values() for value in members]
    is_exclusive = len(values) == len(set(values))
    known = LabelMap(target.name, target.labels, regions, is_exclusive)
    table = np.zeros(256, np.uint8)
    numbers = np.array(source.values, np.uint8)
    table[numbers] = known.to_labels(source.to_regions(numbers))
    return table[labels]
