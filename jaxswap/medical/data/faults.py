"""What can be wrong in a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_MOST_NAMES = 3

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        case: Name of the case. Empty if it concerns the data set as a whole.
        file: The file, if it is about one.
        kind: The kind of fault in a few words, equal for all faults of this kind.
        message: What was found, and what would work.
        severity: "error" if the case cannot be used as it is, "warning" if it can.
        extent: How bad it is among faults of its kind. Larger is worse, and 0 where
            all are alike.
    """

    case: str
    file: Path | None
    kind: str
    message: str
    severity: Severity
    extent: float = 0.0

    def __str__(self) -> str:
        where = str(self.file) if self.file is not None else self.case
        return f"{self.severity}: {where}: {self.message}"


def group_notes(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Write notes on cases, each text once, with the cases that it is about.

    Args:
        notes: Notes by the name of their case.

    Returns:
        One line for each text.

    Example:
        >>> group_notes({"a": ["too large."], "b": ["too large."], "c": []})
        ['a, b: too large.']
    """
    cases: dict[str, list[str]] = {}
    for case, texts in notes.items():
        for text in texts:
            cases.setdefault(text, []).append(case)
    return [f"{list_names(names)}: {text}" for text, names in cases.items()]


def list_names(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    """Write the first of some names, and how many more there are.

    Args:
        names: The names.
        most: How many are written.
    """
    more = len(names) - most
    listed = ", ".join(names[:most])
    return f"{listed} and {more} more" if more > 0 else listed
