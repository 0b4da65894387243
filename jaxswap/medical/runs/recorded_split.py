"""Who trains and who validates in a run, recorded when it begins.

A run that is resumed uses what it recorded. Otherwise a case that was added meanwhile
would deal all cases anew, and cases of the validation would be trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.faults import list_names
from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.runs.record import load_record

_MOST_NAMES = 5
_WORKERS = 4  # Hashing lets other threads run.


@dataclass(frozen=True)
class FileState:
    """A file as it was.

    Attributes:
        size_bytes: Its size.
        modified_ns: When it was written.
        sha256: Hash of its content.
    """

    size_bytes: int
    modified_ns: int
    sha256: str


Cases = Mapping[str, Mapping[str, FileState]]
"""Files of each case, by its name and by their path in the data set."""


@dataclass(frozen=True)
class RecordedSplit:
    """The cases of a run.

    Attributes:
        training: Those that it trains on.
        validation: Those that it validates.
    """

    training: Cases
    validation: Cases

    def divide(
        self, dataset: Dataset
    ) -> tuple[tuple[CaseFiles, ...], tuple[CaseFiles, ...], list[str]]:
        """Find the recorded cases in a data set.

        Args:
            dataset: The data set, as it is now.

        Returns:
            Cases for training and for validation, and a note on labeled cases that are
            new and not used.

        Raises:
            ValueError: If a recorded case is gone.
        """
        cases = {case.name: case for case in dataset.labeled}
        gone = [n for n in (*self.training, *self.validation) if n not in cases]
        if gone:
            raise ValueError(
                f"{dataset.root}: cases of the run are gone: "
                f"{list_names(gone, _MOST_NAMES)}. A run is resumed with the cases "
                "that it began with."
            )
        known = {*self.training, *self.validation}
        new = sorted(name for name in cases if name not in known)
        notes = []
        if new:
            notes.append(
                "New since the run began, and not used: "
                f"{list_names(new, _MOST_NAMES)}. A new run would use them."
            )
        training = tuple(cases[name] for name in sorted(self.training))
        validation = tuple(cases[name] for name in sorted(self.validation))
        return training, validation, notes

    def changes(self, now: RecordedSplit) -> list[str]:
        """Write a note on cases whose files have changed.

        Args:
            now: The same cases, as they are now.
        """
        before, after = ({**s.training, **s.validation} for s in (self, now))
        changed = [
            name
            for name in before
            if name in after and _hashes(before[name]) != _hashes(after[name])
        ]
        if not changed:
            return []
        listed = list_names(changed, _MOST_NAMES)
        return [f"Changed since the run began: files of {listed}."]

    def save(self, path: Path) -> None:
        """Write the split as JSON."""
        content = {
            part: {
                name: {file: asdict(state) for file, state in files.items()}
                for name, files in cases.items()
            }
            for part, cases in vars(self).items()
        }
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load_split(path: Path) -> RecordedSplit | None:
    """Read what `save` wrote. None if there is no such file.

    Raises:
        ValueError: If the file is damaged.
    """
    return load_record(path, RecordedSplit)


def record_split(
    training: Sequence[CaseFiles],
    validation: Sequence[CaseFiles],
    root: Path,
    before: RecordedSplit | None = None,
) -> RecordedSplit:
    """Record cases with a hash of each of their files.

    Args:
        training: Cases to train on.
        validation: Cases to validate.
        root: The data set. Paths are relative to it where they can be.
        before: An earlier record. Files of the same size and time are not read again.

    Raises:
        FileNotFoundError: If a file is missing.
    """
    folder = root if root.is_dir() else root.parent
    old = {} if before is None else {**before.training, **before.validation}

    def state(case: CaseFiles) -> tuple[str, Mapping[str, FileState]]:
        known = old.get(case.name, {})
        return case.name, {
            _name(file, folder): _state(file, known.get(_name(file, folder)))
            for file in case.files
        }

    with ThreadPoolExecutor(_WORKERS) as pool:
        return RecordedSplit(
            dict(pool.map(state, training)), dict(pool.map(state, validation))
        )


def _state(file: Path, known: FileState | None) -> FileState:
    found = file.stat()
    if known is not None and (known.size_bytes, known.modified_ns) == (
        found.st_size,
        found.st_mtime_ns,
    ):
        return known
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileState(found.st_size, found.st_mtime_ns, digest)


def _name(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def _hashes(files: Mapping[str, FileState]) -> list[str]:
    return sorted(state.sha256 for state in files.values())
