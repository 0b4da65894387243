"""The layout of BraTS, 2017 to 2025: one folder for each case, one file each sequence.

Until 2022 files end in `_t1 _t1ce _t2 _flair _seg`. Until 2019, gliomas of high and of
low grade are in separate folders. From 2023 on files end in `-t1n -t1c -t2w -t2f -seg`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jaxswap.medical.data.case_files import CaseFiles, Dataset, Source
from jaxswap.medical.data.channels import BRAIN_CHANNELS, BRAIN_SUFFIXES, brain_channel
from jaxswap.medical.data.editions import label_map_of
from jaxswap.medical.data.label_maps import LabelMap, find_label_map

_LABEL_SUFFIXES = ("seg", "gtv")
_VOLUME = r"\.nii(?:\.gz)?"
_FILE = re.compile(
    rf"(?P<case>.+)[-_](?P<suffix>{'|'.join(BRAIN_SUFFIXES + _LABEL_SUFFIXES)})"
    rf"(?P<ending>{_VOLUME})",
    re.IGNORECASE,
)
# One label file of 2020 still has the name from its hospital.
_ODD_MASK = re.compile(rf".*_segm?{_VOLUME}", re.IGNORECASE)
_DEEPEST = 3  # data set/HGG/case/file, perhaps in a folder called training.
_OLD_SUFFIXES = {"t1ce", "flair", "t1", "t2"}


@dataclass
class _Found:
    """Files of one case while they are being collected."""

    name: str
    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    suffixes: dict[str, str] = field(default_factory=dict)
    labels: Path | None = None
    notes: list[str] = field(default_factory=list)


def find_brats(root: Path, edition: str | LabelMap | None = None) -> Dataset | None:
    """Find the cases of a BraTS folder.

    Args:
        root: Folder with case folders, at most three levels down.
        edition: Key of `LABEL_MAPS`, or a label map. None reads it from the names of
            the cases.

    Returns:
        The data set. None if there are no such files.

    Raises:
        ValueError: If `edition` is unknown, or if it is missing and the names fit
            several editions.
    """
    found = [case for folder in _folders(root) for case in _cases_in(folder)]
    found = [case for case in found if case.images]
    if not found:
        return None
    used = {channel for case in found for channel in case.images}
    channels = tuple(channel for channel in BRAIN_CHANNELS if channel in used)
    examples = {c: s for case in found for c, s in case.suffixes.items()}
    cases = [_finish(case, channels, examples) for case in found]
    cases = sorted(cases, key=lambda case: case.name)
    notes = [note for case in found for note in case.notes]
    return Dataset(
        root=root,
        layout="brats",
        channels=channels,
        label_map=_label_map(root, found, edition),
        cases=tuple(cases),
        notes=tuple(notes),
    )


def sequence_of(path: Path) -> tuple[str, str] | None:
    """Split a file name such as `BraTS20_001_t1ce.nii` into case and channel."""
    match = _FILE.fullmatch(path.name)
    channel = brain_channel(match["suffix"]) if match else None
    return (match["case"], channel) if match and channel else None


def has_old_suffix(path: Path) -> bool:
    """Whether a file has a name of the years until 2022."""
    match = _FILE.fullmatch(path.name)
    return match is not None and match["suffix"].lower() in _OLD_SUFFIXES


def _label_map(
    root: Path, found: list[_Found], edition: str | LabelMap | None
) -> LabelMap | None:
    if edition is not None:
        return find_label_map(edition)
    if not any(case.labels for case in found):
        return None
    is_old = all(
        has_old_suffix(path) for case in found for path in case.images.values()
    )
    names = [case.name for case in found]
    return label_map_of(names, has_old_suffixes=is_old, where=str(root))


def _folders(root: Path) -> Iterator[Path]:
    for folder, inner, _ in os.walk(root, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        deeper = inner if depth < _DEEPEST else []
        inner[:] = sorted(name for name in deeper if not name.startswith("."))
        yield Path(folder)


def _cases_in(folder: Path) -> list[_Found]:
    cases: dict[str, _Found] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        match = _FILE.fullmatch(path.name)
        if match is None:
            others.append(path)
            continue
        case = cases.setdefault(match["case"], _Found(match["case"], folder))
        _add(case, path, match["suffix"])
    odd = [path for path in others if _ODD_MASK.fullmatch(path.name)]
    only = next(iter(cases.values())) if len(cases) == 1 else None
    if only and only.labels is None and len(odd) == 1:
        only.labels = odd[0]
    return list(cases.values())


def _add(case: _Found, path: Path, suffix: str) -> None:
    channel = brain_channel(suffix)
    before = case.labels if channel is None else case.images.get(channel)
    if before is not None:
        case.notes.append(
            f"{case.name}: both {before.name} and {path.name} are there; the first is "
            "used."
        )
    elif channel is None:
        case.labels = path
    else:
        case.images[channel] = path
        case.suffixes[channel] = path.name[len(case.name) :]


def _finish(
    case: _Found, channels: tuple[str, ...], examples: dict[str, str]
) -> CaseFiles:
    """Give a channel whose file is missing the path that is expected."""
    sources = []
    for channel in channels:
        expected = case.folder / f"{case.name}{examples[channel]}"
        sources.append(Source(case.images.get(channel, expected)))
    return CaseFiles(case.name, tuple(sources), case.labels)
