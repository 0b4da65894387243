"""Which files belong to a case, and which cases to a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxswap.medical.data.label_maps import LabelMap


@dataclass(frozen=True)
class Source:
    """Where one channel of a case is.

    Attributes:
        path: The file. It may be missing. Then this is the path that the layout
            expects, for messages.
        index: Position along the last axis of a four-dimensional file. None for a file
            that holds one volume.
    """

    path: Path
    index: int | None = None


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        name: Its name in the data set.
        images: One source for each channel, in the order of the data set's channels.
        labels: The label file. None if there is none.
        fold: The fold in which the case validates, if the data set has folds.
    """

    name: str
    images: tuple[Source, ...]
    labels: Path | None = None
    fold: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files without repetition, the labels last."""
        paths = [source.path for source in self.images]
        return tuple(dict.fromkeys([*paths, *([self.labels] if self.labels else [])]))


@dataclass(frozen=True)
class Dataset:
    """A data set as it is on disk.

    Attributes:
        root: Its folder, or the JSON file that lists it.
        layout: Name of the layout that was recognized, such as "brats" or "nnunet".
        channels: Name of each channel, in the order of every case's images.
        label_map: What labels mean. None if neither files nor caller say it.
        cases: The cases, by name.
        notes: Faults of the data set as a whole, one sentence each.
        positions: Where each channel is in the data set's own order, if its files are
            numbered: the 2 of `CASE_0002.nii.gz`, or of a 4-D file. Empty if they are
            found by name.
    """

    root: Path
    layout: str
    channels: tuple[str, ...]
    label_map: LabelMap | None
    cases: tuple[CaseFiles, ...]
    notes: tuple[str, ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def labeled(self) -> tuple[CaseFiles, ...]:
        """The cases that have labels."""
        return tuple(case for case in self.cases if case.labels is not None)
