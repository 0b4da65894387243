"""The faults of a data set by kind, and as a table for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxswap.medical.data.faults import Fault, Severity

COLUMNS = ("severity", "kind", "case", "file", "message")
"""The columns of `to_csv`."""


@dataclass(frozen=True)
class FaultGroup:
    """All faults of one kind.

    Attributes:
        kind: The kind.
        severity: "error" or "warning".
        faults: The faults, the worst first. At least one.
    """

    kind: str
    severity: Severity
    faults: tuple[Fault, ...]

    @property
    def is_ranked(self) -> bool:
        """Whether the first fault is worse than the last."""
        return self.faults[0].extent > self.faults[-1].extent

    @property
    def case_count(self) -> int:
        """Number of cases. 0 if these are faults of the data set as a whole."""
        return len({fault.case for fault in self.faults if fault.case})


def group_faults(faults: Sequence[Fault]) -> list[FaultGroup]:
    """Sort faults into groups of one kind, errors before warnings.

    Args:
        faults: All faults.

    Returns:
        The groups, those with most faults first.

    Example:
        >>> faults = [Fault("a", None, "NaN", "2 voxels.", "warning", 2.0)]
        >>> faults += [Fault("b", None, "NaN", "9 voxels.", "warning", 9.0)]
        >>> [(g.kind, g.case_count, g.faults[0].case) for g in group_faults(faults)]
        [('NaN', 2, 'b')]
    """
    kinds: dict[tuple[Severity, str], list[Fault]] = {}
    for fault in faults:
        kinds.setdefault((fault.severity, fault.kind), []).append(fault)
    groups = [
        FaultGroup(kind, severity, tuple(sorted(found, key=lambda f: -f.extent)))
        for (severity, kind), found in kinds.items()
    ]
    return sorted(groups, key=lambda g: (g.severity != "error", -len(g.faults), g.kind))


def file_of(fault: Fault, root: Path) -> str:
    """Return the file of a fault. If it is in the data set, as a relative path.

    Args:
        fault: The fault.
        root: Folder or file of the data set.

    Returns:
        The path as text. Empty if the fault is not about a single file.
    """
    if fault.file is None:
        return ""
    folder = root if root.is_dir() else root.parent
    try:
        return str(fault.file.relative_to(folder))
    except ValueError:
        return str(fault.file)


def to_csv(faults: Sequence[Fault], root: Path) -> str:
    """Return faults as CSV: a row for each, with the columns of `COLUMNS`.

    Args:
        faults: The faults.
        root: Folder or file of the data set, which paths are relative to.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for group in group_faults(faults):
        for fault in group.faults:
            file = file_of(fault, root)
            writer.writerow(
                (fault.severity, fault.kind, fault.case, file, fault.message)
            )
    return text.getvalue()
