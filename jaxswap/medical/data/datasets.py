"""Finding the cases of a data set in its folder, without conversion.

Known layouts are BraTS from 2017 on, the Medical Segmentation Decathlon, raw folders of
nnU-Net v1 and v2, and JSON datalists. Each layout has a module of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from jaxswap.medical.data.case_files import CaseFiles as CaseFiles
from jaxswap.medical.data.case_files import Dataset as Dataset
from jaxswap.medical.data.case_files import Source as Source
from jaxswap.medical.data.case_names import name_uniquely
from jaxswap.medical.data.label_maps import LabelMap, find_label_map
from jaxswap.medical.data.layout_brats import find_brats
from jaxswap.medical.data.layout_datalist import find_datalist
from jaxswap.medical.data.layout_decathlon import find_decathlon
from jaxswap.medical.data.layout_nnunet import find_nnunet


class NoDatasetError(ValueError):
    """A folder holds nothing of a known layout."""


def find_dataset(
    root: str | os.PathLike[str],
    *,
    layout: str | None = None,
    edition: str | LabelMap | None = None,
) -> Dataset:
    """Find the cases of a data set and what its labels mean. No volume is read.

    Args:
        root: The data set's folder, or a JSON datalist.
        layout: "brats", "decathlon", "nnunet" or "datalist". None tries each.
        edition: Key of `jaxswap.medical.data.label_maps.LABEL_MAPS`, such as
            "brats2021", or a label map, such as one of `make_named_map`. None reads it
            from the names of files, or from the data set's JSON.

    Returns:
        The data set, with cases sorted by name. Names that repeat have as many folders
        before them as it takes to tell the cases apart. Missing files are not reported
        here, but by `jaxswap.medical.data.audit.audit`.

    Raises:
        FileNotFoundError: If `root` does not exist.
        NoDatasetError: If there is no data set. It is a ValueError, too.
        ValueError: If a JSON file does not hold what it
            should, if an argument is unknown, or if names fit several editions whose
            labels differ.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such file or folder.")
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"`layout` is {layout!r}; choose one of {', '.join(LAYOUTS)}.")
    if edition is not None:
        find_label_map(edition)
    for name in LAYOUTS if layout is None else [layout]:
        dataset = LAYOUTS[name](root, edition)
        if dataset is not None and dataset.cases:
            return name_uniquely(dataset)
    what = "data set" if layout is None else f"data set of layout {layout}"
    raise NoDatasetError(f"{root}: no {what} is here. {_seen(root)}{_EXPECTED}")


def _seen(root: Path) -> str:
    """Say what is here of a layout, and what it lacks."""
    folder = _folder(root)
    if (folder / "dataset.json").is_file():
        return (
            "dataset.json has neither `channel_names` (nnU-Net v2) nor `modality` and "
            "`training` (Decathlon, nnU-Net v1). "
        )
    if (folder / "imagesTr").is_dir():
        return "imagesTr is there, but no dataset.json beside it. "
    return ""


def _brats(root: Path, edition: str | LabelMap | None) -> Dataset | None:
    return find_brats(root, edition) if root.is_dir() else None


def _decathlon(root: Path, edition: str | LabelMap | None) -> Dataset | None:
    return find_decathlon(_folder(root), edition)


def _nnunet(root: Path, edition: str | LabelMap | None) -> Dataset | None:
    return find_nnunet(_folder(root), edition)


def _datalist(root: Path, edition: str | LabelMap | None) -> Dataset | None:
    if root.is_file():
        return find_datalist(root, edition) if root.suffix == ".json" else None
    files = sorted(root.glob("*.json"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ValueError(
            f"{root}: holds {len(files)} JSON files ({names}); give the path of the "
            "one that lists the cases."
        )
    return find_datalist(files[0], edition) if files else None


def _folder(root: Path) -> Path:
    return root.parent if root.name == "dataset.json" else root


LAYOUTS: dict[str, Callable[[Path, str | LabelMap | None], Dataset | None]] = {
    "decathlon": _decathlon,
    "nnunet": _nnunet,
    "brats": _brats,
    "datalist": _datalist,
}
"""For each layout, its finder, in the order in which they are tried."""

_EXPECTED = (
    "Expected folders with files such as CASE_t1ce.nii.gz or CASE-t1c.nii.gz (BraTS), "
    "`dataset.json` with `modality` (Decathlon) or `channel_names` (nnU-Net v2), or a "
    'JSON file with {"training": [{"image": ..., "label": ...}]}.'
)
