"""Which edition of BraTS a data set is, by the names of its cases.

If the names fit several editions whose labels differ, no edition is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from jaxswap.medical.data.label_maps import LABEL_MAPS, LabelMap

_AFTER_TREATMENT = 100  # First time point of the post-treatment gliomas.

# Pattern of a case's name, and the editions that use it.
_PATTERNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"brats17_", ("brats2017",)),
    (r"brats18_", ("brats2018",)),
    (r"brats19_", ("brats2019",)),
    (r"brats20_", ("brats2020",)),
    (r"brats2021_", ("brats2021",)),
    (r"brats-men-rt-", ("brats2024-men-rt",)),
    (r"brats-ped-", ("brats2023", "brats2024-ped")),
    (r"brats-(ssa|men|met|goat)-", ("brats2023",)),
)
_GLIOMA = re.compile(r"brats-gli-\d+-(\d+)", re.IGNORECASE)
_ANY_WITH_DASHES = ("brats2023", "brats2024-gli", "brats2024-ped")


def editions_of(names: Iterable[str]) -> tuple[str, ...]:
    """List the editions that use such names of cases.

    Args:
        names: Names of cases.

    Returns:
        Keys of `LABEL_MAPS`. Empty if no name belongs to a known edition.

    Example:
        >>> editions_of(["BraTS-GLI-00005-100"])
        ('brats2024-gli',)
        >>> editions_of(["BraTS-PED-00002-000"])
        ('brats2023', 'brats2024-ped')
    """
    found = {edition: None for name in names for edition in _editions_of_one(name)}
    return tuple(found)


def label_map_of(
    names: Iterable[str], *, has_old_suffixes: bool, where: str
) -> LabelMap:
    """Find the label map of a BraTS data set from the names of its cases.

    Args:
        names: Names of cases.
        has_old_suffixes: Whether files end in `_t1ce` and `_flair`, as until 2022.
        where: Name of the data set, for messages.

    Returns:
        The map.

    Raises:
        ValueError: If the names fit several maps. The message lists the editions.
    """
    found = editions_of(names)
    if not found:
        # All editions with these suffixes have one map.
        found = ("brats2021",) if has_old_suffixes else _ANY_WITH_DASHES
    maps = [LABEL_MAPS[edition] for edition in found]
    if any(dict(m.labels) != dict(maps[0].labels) for m in maps[1:]):
        raise ValueError(
            f"{where}: its files may be of {' or '.join(found)}, whose labels mean "
            "different things. Say which by `edition`."
        )
    return maps[0]


def _editions_of_one(name: str) -> tuple[str, ...]:
    glioma = _GLIOMA.match(name)
    if glioma:
        is_later = int(glioma.group(1)) >= _AFTER_TREATMENT
        return ("brats2024-gli",) if is_later else ("brats2023",)
    for pattern, editions in _PATTERNS:
        if re.match(pattern, name, re.IGNORECASE):
            return editions
    return ()
