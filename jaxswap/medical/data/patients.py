"""Which patient a case is of, by its name.

All visits of a patient look alike, so they must not be both trained on and validated.
"""

from __future__ import annotations

import re

_WORDS = (
    "pre|post|preop|postop|pre-?op|post-?op|baseline|base|bl|follow-?up|fu|visit|"
    "session|ses|timepoint|time|tp|scan|exam|day|week|month|year|run"
)
_VISIT = rf"(?:(?:{_WORDS})[-_]?\d*|(?:[vtmdwy])\d+|\d{{4}}-?\d\d-?\d\d)"
_LAST = re.compile(rf"[-_.]{_VISIT}$", re.IGNORECASE)
_FIRST = re.compile(rf"^{_VISIT}[-_.]", re.IGNORECASE)
_BIDS = re.compile(r"(sub-[a-z0-9]+)(?:_|$)", re.IGNORECASE)


def patient_of(name: str, pattern: str | None = None) -> str:
    """Return the part of a case's name that all visits of its patient share.

    Known are the names of BraTS from 2023 on and of BIDS, and words for visits at
    either end: `pre`, `post`, `baseline`, `followup2`, `visit1`, `ses-02`, `tp3`,
    `day12`, `v1`, `t0`, a date. A plain number is no visit.

    Args:
        name: Name of the case.
        pattern: Regular expression whose first group is the patient, for other names.

    Raises:
        ValueError: If the pattern has no group, or does not match the name.

    Example:
        >>> patient_of("BraTS-GLI-00005-101"), patient_of("BraTS20_Training_001")
        ('BraTS-GLI-00005', 'BraTS20_Training_001')
        >>> patient_of("p1_post"), patient_of("sub-07_ses-02_T1w")
        ('p1', 'sub-07')
        >>> patient_of("A17-3", "(.+)-[0-9]+")
        'A17'
    """
    if pattern is not None:
        match = re.fullmatch(pattern, name)
        if match is None or not match.groups() or match[1] is None:
            raise ValueError(
                f"`patient` is {pattern!r}, which finds no patient in the name {name}; "
                "its first group has to be the patient, such as '(.+)_[0-9]+'."
            )
        return match[1]
    if name.lower().startswith("brats-") and name.count("-") > 2:
        return name.rpartition("-")[0]
    bids = _BIDS.match(name)
    if bids:
        return bids[1]
    while True:
        shorter = _FIRST.sub("", _LAST.sub("", name))
        if shorter == name:
            return name
        name = shorter
