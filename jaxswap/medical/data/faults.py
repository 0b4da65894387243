"""What can be wrong in a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
    """

    case: str
    file: Path | None
    kind: str
    message: str
    severity: Severity

    def __str__(self) -> str:
        where = str(self.file) if self.file is not None else self.case
        return f"{self.severity}: {where}: {self.message}"
