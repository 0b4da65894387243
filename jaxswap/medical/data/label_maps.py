"""What the numbers in a label file mean, by edition of a data set.

The same number means different tissue in different years. 4 is enhancing tumour until
BraTS 2022, the resection cavity in the post-treatment gliomas of 2024, and oedema in
the paediatric set of 2024. So a map belongs to an edition, and regions have names.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

WHOLE_TUMOUR = "whole tumour"
TUMOUR_CORE = "tumour core"
ENHANCING_TUMOUR = "enhancing tumour"
RESECTION_CAVITY = "resection cavity"
CYSTIC_COMPONENT = "cystic component"

_NOT_SHOWN = {"Cc", "Cs", "Zl", "Zp"}  # Control, half a character, ends of lines.
_MOST = 255  # Labels are stored as uint8.
_MOST_EXACT = 2**24  # Up to here, float32 holds every integer.
_NECROSIS = "necrosis and non-enhancing tumour"


@dataclass(frozen=True)
class LabelMap:
    """Names of labels, and the regions that are segmented and scored.

    Attributes:
        name: Edition such as "brats2021", or the data set's name.
        labels: Value of each label by its name, without background, which is 0.
        regions: Values that make up each region, in the order of a network's outputs.
            Regions that contain others come before them.
        is_exclusive: Whether no voxel belongs to two regions (softmax). If not, each
            region has its own sigmoid.
        aliases: Other values that files may hold, and for each the value of this map
            that it is read as.

    Raises:
        ValueError: If a value is not in 1..255 or occurs twice, if a region is empty or
            contains unknown values, if `is_exclusive` contradicts the regions, or if an
            alias is a value of the map or stands for none.

    Example:
        >>> import numpy as np
        >>> tumour = LABEL_MAPS["brats2021"]
        >>> tumour.regions["tumour core"]
        (1, 4)
        >>> tumour.to_regions(np.array([0, 2, 1, 4], np.uint8)).astype(int)
        array([[0, 0, 0],
               [1, 0, 0],
               [1, 1, 0],
               [1, 1, 1]])
    """

    name: str
    labels: Mapping[str, int]
    regions: Mapping[str, tuple[int, ...]]
    is_exclusive: bool
    aliases: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_labels(self.name, self.labels)
        _check_regions(self)
        for alias, value in self.aliases.items():
            if alias in self.values or value not in self.values:
                raise ValueError(f"{self.name}: {alias} cannot be read as {value}.")

    @property
    def values(self) -> tuple[int, ...]:
        """All values that a file may hold, with background, in ascending order."""
        return (0, *sorted(self.labels.values()))

    @property
    def painted(self) -> tuple[int, ...]:
        """The value that `to_labels` writes for each region.

        It is the lowest value of the region that no later region contains.
        """
        members = list(self.regions.values())
        return tuple(
            _value_of_its_own(self.name, region, members[i], members[i + 1 :])
            for i, region in enumerate(self.regions)
        )

    def to_regions(self, labels: Any) -> Any:
        """Return for every voxel the regions that it belongs to.

        Args:
            labels: Values of this map, integers, any shape; a NumPy or JAX array.

        Returns:
            Membership, bool, (..., region), an array of the same library.
        """
        xp = labels.__array_namespace__()
        inside = []
        for values in self.regions.values():
            member = labels == values[0]
            for value in values[1:]:
                member = member | (labels == value)
            inside.append(member)
        return xp.stack(inside, axis=-1)

    def to_labels(self, regions: Any) -> Any:
        """Turn regions into labels. A later region overwrites an earlier one.

        Args:
            regions: Membership, bool, (..., region); a NumPy or JAX array.

        Returns:
            Labels in the numbers of this map, uint8, (...), of the same library.

        Raises:
            ValueError: If the last axis does not have one entry per region.
        """
        xp = regions.__array_namespace__()
        if regions.shape[-1:] != (len(self.regions),):
            raise ValueError(
                f"`regions` has shape {tuple(regions.shape)}; its last axis needs the "
                f"{len(self.regions)} regions of {self.name}: "
                f"{', '.join(self.regions)}."
            )
        labels = xp.zeros(regions.shape[:-1], dtype=xp.uint8)
        for index, value in enumerate(self.painted):
            painted = xp.asarray(value, dtype=xp.uint8)
            labels = xp.where(regions[..., index], painted, labels)
        return labels

    def unknown(self, values: Iterable[float]) -> tuple[float, ...]:
        """Pick those of `values` that are no background, label or alias."""
        known = {*self.values, *self.aliases}
        return tuple(value for value in values if value not in known)


def make_label_map(name: str, labels: Mapping[str, int]) -> LabelMap:
    """Make a map in which each label is its own region.

    Args:
        name: Name of the map.
        labels: Value of each label by name. Background (0) may be among them.

    Returns:
        The map, exclusive, regions in the order of their values.

    Raises:
        ValueError: See `LabelMap`.

    Example:
        >>> make_label_map("tissue", {"grey": 1, "white": 2}).regions
        {'grey': (1,), 'white': (2,)}
    """
    named = {n: v for n, v in sorted(labels.items(), key=lambda i: i[1]) if v != 0}
    return LabelMap(name, named, {n: (v,) for n, v in named.items()}, True)


def make_region_map(
    name: str,
    regions: Mapping[str, int | Sequence[int]],
    class_order: Sequence[int],
) -> LabelMap:
    """Make a map of overlapping regions, as nnU-Net's `dataset.json` describes them.

    Args:
        name: Name of the map.
        regions: Value or values of each region, in order. Background (0) is left out.
        class_order: NnU-Net's `regions_class_order`: the value written for each region.
            Later regions overwrite earlier ones.

    Returns:
        The map. A label is named after the region that writes it, if any does.

    Raises:
        ValueError: If `regions` and `class_order` contradict each other. See also
            `LabelMap`.
    """
    members = {
        region: tuple(values) if isinstance(values, Sequence) else (values,)
        for region, values in regions.items()
        if values not in (0, [0], (0,))
    }
    if len(members) != len(class_order):
        raise ValueError(
            f"{name}: `regions_class_order` has {len(class_order)} values for "
            f"{len(members)} regions ({', '.join(members)})."
        )
    labels = dict(zip(members, class_order, strict=True))
    others = {value for values in members.values() for value in values}
    labels |= {f"label {v}": v for v in sorted(others - set(class_order))}
    label_map = LabelMap(name, labels, members, _are_exclusive(members))
    if label_map.painted != tuple(class_order):
        raise ValueError(
            f"{name}: `regions_class_order` is {list(class_order)}, but painting the "
            f"regions in this order gives {list(label_map.painted)}."
        )
    return label_map


def find_label_map(edition: str | LabelMap) -> LabelMap:
    """Find a map of `LABEL_MAPS` by name.

    Args:
        edition: The name, in any case. A map is returned as it is.

    Returns:
        The map.

    Raises:
        ValueError: If there is none. The message lists the known names.

    Example:
        >>> find_label_map("BraTS2023").name
        'brats2023'
    """
    if isinstance(edition, LabelMap):
        return edition
    label_map = LABEL_MAPS.get(edition.lower())
    if label_map is None:
        raise ValueError(
            f"`edition` is {edition!r}; choose one of {', '.join(LABEL_MAPS)}."
        )
    return label_map


def describe_unknown(label_map: LabelMap, values: Sequence[float]) -> str:
    """Describe which values a file holds that its map lacks, and the likely reason.

    Args:
        label_map: The map.
        values: All values of the file, some of which the map lacks.

    Returns:
        The rest of a sentence that starts with the file's name.
    """
    unknown = sorted(label_map.unknown(values))
    some = ", ".join(map(number_text, unknown[:5]))
    more = " and more" if len(unknown) > 5 else ""
    known = ", ".join(map(str, (*label_map.values, *label_map.aliases)))
    text = f"holds {some}{more}, but labels of {label_map.name} are {known}."
    others = [m.name for m in LABEL_MAPS.values() if not m.unknown(values)]
    if others:
        return f"{text} If it is of {' or '.join(others)}, give `edition`."
    return f"{text} Other values can be given names by `labels`."


def number_text(value: float) -> str:
    """Write a number of a label file with all digits that it needs.

    Args:
        value: The number.

    Example:
        >>> number_text(2.0), number_text(np.float32(0.999985))
        ('2', '0.999985')
    """
    whole = round(value) if abs(value) < _MOST_EXACT else None
    return str(whole) if whole == value else str(np.float32(value))


def _check_labels(name: str, labels: Mapping[str, int]) -> None:
    if not labels:
        raise ValueError(f"{name}: there is no label besides background.")
    for label, value in labels.items():
        _check_name(name, label)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name}: label {label!r} is {value!r}, no integer.")
        if not 1 <= value <= _MOST:
            raise ValueError(
                f"{name}: label {label!r} is {value}, but labels are 1..{_MOST}. "
                f"Give `labels`, such as {{{label}: {value}}}: it reads other values."
            )
    twice = {v for v in labels.values() if list(labels.values()).count(v) > 1}
    if twice:
        raise ValueError(f"{name}: more than one label has the value {min(twice)}.")


def _check_name(name: str, label: str) -> None:
    """Refuse what tables, tags and logs could not show on one line."""
    found = [c for c in label if unicodedata.category(c) in _NOT_SHOWN]
    if found or not label.strip():
        what = f"has the character {found[0]!r}" if found else "is empty"
        raise ValueError(f"{name}: the name of label {label!r} {what}; rename it.")


def _check_regions(label_map: LabelMap) -> None:
    known = set(label_map.labels.values())
    for region, values in label_map.regions.items():
        if not values or not set(values) <= known:
            raise ValueError(
                f"{label_map.name}: region {region!r} has values {list(values)}; they "
                f"need to be one or more of {sorted(known)}."
            )
    if not label_map.regions:
        raise ValueError(f"{label_map.name}: there is no region.")
    if label_map.is_exclusive != _are_exclusive(label_map.regions):
        raise ValueError(
            f"{label_map.name}: `is_exclusive` is {label_map.is_exclusive}, but its "
            "regions say otherwise."
        )
    _ = label_map.painted  # Raises if regions cannot be turned back into labels.


def _are_exclusive(regions: Mapping[str, tuple[int, ...]]) -> bool:
    values = [value for members in regions.values() for value in members]
    return len(values) == len(set(values))


def _value_of_its_own(
    name: str, region: str, values: tuple[int, ...], later: list[tuple[int, ...]]
) -> int:
    own = set(values).difference(*later)
    if not own:
        raise ValueError(
            f"{name}: region {region!r} has no value that all later regions lack, so "
            "labels cannot be made from regions. Put it after those that contain it."
        )
    return min(own)


def _tumour_map(
    name: str, necrosis: str, oedema: int, enhancing: int, core: int = 1
) -> LabelMap:
    return LabelMap(
        name,
        {necrosis: core, "oedema": oedema, "enhancing tumour": enhancing},
        {
            WHOLE_TUMOUR: tuple(sorted((core, oedema, enhancing))),
            TUMOUR_CORE: tuple(sorted((core, enhancing))),
            ENHANCING_TUMOUR: (enhancing,),
        },
        False,
    )


def _post_treatment_map(name: str) -> LabelMap:
    return LabelMap(
        name,
        {
            "non-enhancing tumour core": 1,
            "FLAIR hyperintensity": 2,
            "enhancing tumour": 3,
            "resection cavity": 4,
        },
        {
            WHOLE_TUMOUR: (1, 2, 3),
            TUMOUR_CORE: (1, 3),
            ENHANCING_TUMOUR: (3,),
            RESECTION_CAVITY: (4,),
        },
        False,
    )


_PAEDIATRIC = LabelMap(
    "brats2024-ped",
    {
        "enhancing tumour": 1,
        "non-enhancing tumour": 2,
        "cystic component": 3,
        "oedema": 4,
    },
    {
        WHOLE_TUMOUR: (1, 2, 3, 4),
        TUMOUR_CORE: (1, 2, 3),
        ENHANCING_TUMOUR: (1,),
        CYSTIC_COMPONENT: (3,),
    },
    False,
)

LABEL_MAPS: dict[str, LabelMap] = {
    label_map.name: label_map
    for label_map in (
        *(_tumour_map(f"brats{year}", _NECROSIS, 2, 4) for year in range(2017, 2023)),
        _tumour_map("brats2023", _NECROSIS, 2, 3),
        _post_treatment_map("brats2024-gli"),
        _PAEDIATRIC,
        make_label_map("brats2024-men-rt", {"gross tumour volume": 1}),
        _post_treatment_map("brats2025-met"),
        _tumour_map("msd-task01", "non-enhancing tumour", 1, 3, core=2),
    )
}
"""The maps of published editions, by name.

In BraTS 2023 all challenges share one map. From 2024 on, sets with treated patients
have a label for the resection cavity, and the paediatric set has its own numbers.
"""
