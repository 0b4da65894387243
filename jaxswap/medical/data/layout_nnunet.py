"""The layout of nnU-Net v2's raw folders: `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE`.

`dataset.json` names the channels and the labels. File names end in channel numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxswap.medical.data.case_files import CaseFiles, Dataset, Source
from jaxswap.medical.data.dataset_json import (
    read_channels,
    read_description,
    read_json,
)
from jaxswap.medical.data.label_maps import LabelMap, find_label_map
from jaxswap.medical.data.labels_json import nnunet_labels
from jaxswap.medical.data.volumes import SUFFIXES


def find_nnunet(root: Path, edition: str | LabelMap | None = None) -> Dataset | None:
    """Find the cases of a raw data set of nnU-Net v2.

    Cases of `imagesTs` have no labels. If there is a `splits_final.json`, its folds are
    used.

    Args:
        root: Folder with `dataset.json`.
        edition: As for `find_decathlon`.

    Returns:
        The data set. None if there is none of this layout.

    Raises:
        ValueError: If a JSON file does not hold what it should, or `edition` is
            unknown.
    """
    found = read_description(root, "channel_names")
    if found is None:
        return None
    path, content = found
    channels, order = read_channels(path, "channel_names", content["channel_names"])
    ending = _file_ending(path, content)
    folds = _folds(root / "splits_final.json")
    if "dataset" in content:
        cases = _listed_cases(path, content["dataset"], order, folds)
    else:
        cases = _training_cases(root, ending, order, folds)
    expected = content.get("numTraining", len(cases))
    notes = []
    if expected != len(cases):
        notes.append(
            f"{path}: `numTraining` is {expected}, but there are {len(cases)} cases."
        )
    cases += _test_cases(root, ending, order)
    return Dataset(
        root=root,
        layout="nnunet",
        channels=channels,
        label_map=_label_map(path, content, edition),
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        notes=tuple(notes),
        positions=order,
    )


def _file_ending(path: Path, content: dict[str, Any]) -> str:
    ending = content.get("file_ending")
    if ending not in SUFFIXES:
        raise ValueError(
            f"{path}: `file_ending` is {ending!r}; files that are read end in "
            f"{', '.join(SUFFIXES)}."
        )
    return ending


def _training_cases(
    root: Path, ending: str, order: tuple[int, ...], folds: Mapping[str, int]
) -> list[CaseFiles]:
    """List cases with an image or a label. Missing files get the expected path."""
    names = _names_of_images(root / "imagesTr", ending)
    names |= {
        file.name[: -len(ending)]
        for file in _files(root / "labelsTr")
        if file.name.endswith(ending)
    }
    return [
        CaseFiles(
            name,
            _sources(root / "imagesTr", name, ending, order),
            root / "labelsTr" / f"{name}{ending}",
            folds.get(name),
        )
        for name in names
    ]


def _test_cases(root: Path, ending: str, order: tuple[int, ...]) -> list[CaseFiles]:
    folder = root / "imagesTs"
    return [
        CaseFiles(name, _sources(folder, name, ending, order))
        for name in _names_of_images(folder, ending)
    ]


def _listed_cases(
    path: Path, listed: Any, order: tuple[int, ...], folds: Mapping[str, int]
) -> list[CaseFiles]:
    """List cases whose files `dataset.json` itself names, under `dataset`."""
    if not isinstance(listed, Mapping):
        raise ValueError(f"{path}: `dataset` needs the files of each case by its name.")
    cases = []
    for name, entry in listed.items():
        images = entry.get("images") if isinstance(entry, Mapping) else None
        label = entry.get("label") if isinstance(entry, Mapping) else None
        has_images = isinstance(images, list) and len(images) == len(order)
        if not (isinstance(images, list) and has_images and isinstance(label, str)):
            raise ValueError(
                f"{path}: `dataset` needs {len(order)} `images` and one `label` for "
                f"{name}."
            )
        files = [path.parent / str(image) for image in images]
        sources = tuple(Source(files[index]) for index in order)
        cases.append(CaseFiles(name, sources, path.parent / label, folds.get(name)))
    return cases


def _names_of_images(folder: Path, ending: str) -> set[str]:
    pattern = re.compile(rf"(.+)_\d{{4}}{re.escape(ending)}")
    matches = [pattern.fullmatch(file.name) for file in _files(folder)]
    return {match.group(1) for match in matches if match}


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [file for file in folder.iterdir() if not file.name.startswith(".")]


def _sources(
    folder: Path, name: str, ending: str, order: tuple[int, ...]
) -> tuple[Source, ...]:
    return tuple(Source(folder / f"{name}_{index:04d}{ending}") for index in order)


def _label_map(
    path: Path, content: dict[str, Any], edition: str | LabelMap | None
) -> LabelMap:
    return nnunet_labels(path, content) if edition is None else find_label_map(edition)


def _folds(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    splits = read_json(path)
    if not isinstance(splits, list):
        raise ValueError(f"{path}: expected a list of folds.")
    folds: dict[str, int] = {}
    for fold, split in enumerate(splits):
        names = split.get("val") if isinstance(split, Mapping) else None
        if not isinstance(names, list):
            raise ValueError(f"{path}: fold {fold} has no list `val`.")
        folds |= dict.fromkeys(map(str, names), fold)
    return folds
