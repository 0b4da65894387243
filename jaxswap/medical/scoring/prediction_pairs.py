"""Which prediction belongs to which reference, by the names of the files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxswap.medical.data.case_files import Dataset, Source
from jaxswap.medical.data.case_names import PROBABILITIES_ENDING, require_unique_names
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.label_maps import LabelMap, find_label_map
from jaxswap.medical.data.labels_json import meaning_near
from jaxswap.medical.data.volumes import SUFFIXES

_LABEL_ENDINGS = ("-seg", "_seg")
_PROBABILITY_ENDINGS = (PROBABILITIES_ENDING, "_probs", "-probs", "_softmax")
_BEST_CHANNELS = ("t2f", "t2w", "t1c")  # A whole tumour shows best in these.
_SAY_MEANING = (
    "give `label_map` (on the command line, --edition NAME such as brats2023, or "
    "--labels FILE with the `labels` of a dataset.json), or put a dataset.json beside "
    "them."
)


@dataclass(frozen=True)
class Pair:
    """A reference and its prediction.

    Attributes:
        case: Name of the case.
        reference: File of the reference.
        predictions: Files that may be its prediction. There should be exactly one.
        image: The image to draw the outlines on, if it is known.
    """

    case: str
    reference: Path
    predictions: tuple[Path, ...]
    image: Source | None = None


@dataclass(frozen=True)
class Pairing:
    """References with their predictions.

    Attributes:
        pairs: One for each reference, by case.
        label_map: What labels mean.
        unmatched: Prediction files that belong to no reference.
    """

    pairs: tuple[Pair, ...]
    label_map: LabelMap
    unmatched: tuple[Path, ...]


def find_pairs(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str] | Dataset,
    label_map: LabelMap | str | None = None,
    images: str | os.PathLike[str] | Dataset | None = None,
) -> Pairing:
    """Find the prediction of each reference. No volume is read.

    A prediction of the case `C` has the name `C`, `C-seg` or `C_seg`, ends in `.nii`,
    `.nii.gz` or `.mgz`, and is in the folder or in a folder `C` inside it. Files that
    end in `_probabilities`, `_probs` or `_softmax` are not labels.

    Args:
        predictions: Folder of predicted labels.
        references: A data set, its folder, or a folder of label files named like
            predictions.
        label_map: What labels mean, or the name of an edition such as "brats2023". None
            takes it from the data set, or from the `dataset.json` beside the references
            or the predictions, or one folder above.
        images: Data set or folder with images to draw on. None takes those of the
            references, if these are a data set.

    Returns:
        The pairs. Whether their files can be read is not checked.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a folder is a file or holds no case, if a case has several
            references or its name several cases, or if nothing says what
            labels mean.
    """
    predicted = _index(_folder("predictions", predictions))
    folders = [Path(predictions)]
    if isinstance(label_map, str):
        label_map = find_label_map(label_map)
    if isinstance(references, Dataset):
        dataset = references
    else:
        dataset = _dataset(_folder("references", references), label_map)
        folders.insert(0, Path(references))
    known = label_map or (None if dataset is None else dataset.label_map)
    known = known or _meaning_near(folders)
    if known is None:
        raise ValueError(f"what the labels mean is not known: {_SAY_MEANING}")
    if dataset is not None:
        require_unique_names(dataset)
        labeled = {case.name: [case.labels] for case in dataset.labeled if case.labels}
    else:
        assert not isinstance(references, Dataset)
        labeled = _index(Path(references))
        _refuse_choice(labeled)
    if not labeled:
        raise ValueError(f"{_name(references)}: no case with labels is here.")
    shown = _images(dataset if images is None else images)
    pairs = [
        Pair(case, paths[0], tuple(predicted.get(case, ())), shown.get(case))
        for case, paths in sorted(labeled.items())
    ]
    strangers = [
        path
        for case, paths in predicted.items()
        if case not in labeled
        for path in paths
    ]
    return Pairing(tuple(pairs), known, tuple(sorted(strangers)))


def _folder(name: str, path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`{name}`: {path}: no such folder.")
    if name == "predictions" and not path.is_dir():
        raise ValueError(f"`{name}`: {path} is a file; a folder is needed.")
    return path


def _dataset(root: Path, label_map: LabelMap | None) -> Dataset | None:
    """Return the data set at `root`. None if the folder holds nothing but labels."""
    try:
        dataset = find_dataset(root, edition=label_map)
    except ValueError:
        if not (root.is_dir() and _index(root)):
            raise
        return None
    # A list of a data set's files that was copied beside its labels leads nowhere.
    listed = [case.labels for case in dataset.labeled if case.labels]
    is_there = any(path.exists() for path in listed)
    return dataset if is_there or not (root.is_dir() and _index(root)) else None


def _meaning_near(folders: Iterable[Path]) -> LabelMap | None:
    """Return what the first `dataset.json` beside the files says of the labels."""
    found = (meaning_near(folder) for folder in folders)
    return next((label_map for label_map in found if label_map), None)


def _index(folder: Path) -> dict[str, list[Path]]:
    """List label files by case: in `folder`, and `CASE` or `CASE-seg` in `CASE/`."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        case = _case(path)
        if case is None or not path.is_file():
            continue
        if path.parent == folder or path.parent.name == case:
            found.setdefault(case, []).append(path)
    return found


def _refuse_choice(labeled: dict[str, list[Path]]) -> None:
    for case, paths in labeled.items():
        if len(paths) > 1:
            raise ValueError(
                f"{case} has {len(paths)} references: {', '.join(map(str, paths))}. "
                "One is needed."
            )


def _case(path: Path) -> str | None:
    """Return the case that a label file is named after. None for other files."""
    lower = path.name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None)
    if suffix is None or lower.startswith("."):
        return None
    stem = path.name[: -len(suffix)]
    if stem.lower().endswith(_PROBABILITY_ENDINGS):
        return None
    for ending in _LABEL_ENDINGS:
        if stem.lower().endswith(ending):
            return stem[: -len(ending)]
    return stem


def _images(
    images: str | os.PathLike[str] | Dataset | None,
) -> dict[str, Source]:
    """Return the image of each case to draw outlines on."""
    if images is None:
        return {}
    if not isinstance(images, Dataset):
        folder = _folder("images", images)
        try:
            images = find_dataset(folder)
        except ValueError:
            if not folder.is_dir():
                raise
            return {case: Source(paths[0]) for case, paths in _index(folder).items()}
    require_unique_names(images)
    channel = _best(images.channels)
    return {case.name: case.images[channel] for case in images.cases if case.images}


def _best(channels: Iterable[str]) -> int:
    names = list(channels)
    for best in _BEST_CHANNELS:
        if best in names:
            return names.index(best)
    return 0


def _name(references: str | os.PathLike[str] | Dataset) -> Path:
    return references.root if isinstance(references, Dataset) else Path(references)
