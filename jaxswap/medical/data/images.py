"""Images to predict: a data set, a folder of files, or one file. Labels are left out.

What a run was trained on says which channels its network needs, and in which order
numbered files hold them: `CASE_0000.nii.gz`, `CASE_0001.nii.gz`, ..., or a 4-D file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jaxswap.medical.data.case_files import CaseFiles, Dataset, Source
from jaxswap.medical.data.case_names import name_uniquely
from jaxswap.medical.data.dataset_json import name_without_ending
from jaxswap.medical.data.datasets import NoDatasetError, find_dataset
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.volumes import SUFFIXES

_ENDINGS = "|".join(map(re.escape, sorted(SUFFIXES, key=len, reverse=True)))
_NUMBERED = re.compile(rf"(?P<case>.+)_(?P<number>\d{{4}})(?P<ending>{_ENDINGS})")


def find_images(
    root: Path,
    channels: Sequence[str],
    positions: Sequence[int],
    label_map: LabelMap,
    layout: str | None = None,
) -> Dataset:
    """Find the images of each case. No volume is read, and no label file is looked for.

    Args:
        root: A data set, a folder of files, or one file.
        channels: Names of the channels that are needed, in order.
        positions: For each its number in numbered files. Empty: their order.
        label_map: What a network's labels mean. That of the data set does not matter.
        layout: Layout of the data set. None tries each, then files without a layout.

    Returns:
        The cases, without labels, each with the needed channels. Notes say what was
        left out.

    Raises:
        FileNotFoundError: If `root` does not exist.
        ValueError: If there are no images, or if a channel is missing.
    """
    numbers = tuple(positions) or tuple(range(len(channels)))
    if root.is_file() and root.suffix != ".json":
        cases = (_case_of(root, numbers),)
        return Dataset(root.parent, "file", tuple(channels), label_map, cases)
    try:
        found = find_dataset(root, layout=layout, edition=label_map)
    except NoDatasetError as error:
        files = _files_in(root) if root.is_dir() and layout is None else []
        if not files:
            raise NoDatasetError(
                f"{error} Or images alone, such as CASE_0000.nii.gz or CASE.nii.gz."
            ) from error
        return _of_folder(root, files, tuple(channels), numbers, label_map)
    return _without_labels(_in_order(found, channels))


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
    )


def _of_folder(
    folder: Path,
    files: Sequence[Path],
    channels: tuple[str, ...],
    numbers: tuple[int, ...],
    label_map: LabelMap,
) -> Dataset:
    """Return the cases of files in a folder. If some have channel numbers, theirs."""
    numbered = [path for path in files if _number(path) in numbers]
    cases = [_case_of(path, numbers) for path in numbered or files]
    used = {source.path for case in cases for source in case.images}
    others = [path.name for path in files if path not in used]
    notes = ()
    if others:
        more = " and more" if len(others) > 3 else ""
        notes = (
            f"Not used, of other channels or none: {', '.join(others[:3])}{more}.",
        )
    by_name = tuple({case.name: case for case in cases}.values())
    found = Dataset(folder, "folder", channels, label_map, by_name, notes)
    return name_uniquely(found)


def _number(path: Path) -> int | None:
    match = _NUMBERED.fullmatch(path.name)
    return int(match["number"]) if match else None


def _case_of(path: Path, numbers: tuple[int, ...]) -> CaseFiles:
    """Return the case of a file, with the files of its other channels."""
    match = _NUMBERED.fullmatch(path.name)
    if match is None or int(match["number"]) not in numbers:
        indices = numbers if len(numbers) > 1 else (None,)
        sources = tuple(Source(path, index) for index in indices)
        return CaseFiles(name_without_ending(path), sources)
    files = [
        path.with_name(f"{match['case']}_{number:04d}{match['ending']}")
        for number in numbers
    ]
    return CaseFiles(match["case"], tuple(map(Source, files)))


def _in_order(found: Dataset, channels: Sequence[str]) -> Dataset:
    """Return a data set with the needed channels alone, in their order."""
    missing = [name for name in channels if name not in found.channels]
    is_unnamed = all(name.startswith("image") for name in found.channels)
    if missing and is_unnamed and len(found.channels) == len(channels):
        order = list(range(len(channels)))  # A datalist that says no names.
    elif missing:
        raise ValueError(
            f"{found.root}: has no channel {', '.join(missing)}; the network was "
            f"trained on {', '.join(channels)}, the data has "
            f"{', '.join(found.channels)}."
        )
    else:
        order = [found.channels.index(name) for name in channels]
    cases = tuple(
        replace(case, images=tuple(case.images[i] for i in order))
        for case in found.cases
    )
    return replace(found, channels=tuple(channels), cases=cases)


def _without_labels(found: Dataset) -> Dataset:
    """Forget labels, and cases of nnU-Net of which there is nothing but labels."""
    absent = {
        case.name
        for case in found.cases
        if found.layout == "nnunet"
        and case.labels is not None
        and not any(source.path.exists() for source in case.images)
    }
    cases = [replace(c, labels=None) for c in found.cases if c.name not in absent]
    if not cases:
        raise NoDatasetError(f"{found.root}: holds labels, but no images.")
    notes = (f"Not used, no image: {_some(sorted(absent))}.",) if absent else ()
    return replace(found, cases=tuple(cases), notes=notes)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")
