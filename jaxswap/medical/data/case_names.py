"""Names of cases: one name for one case, so that no result takes another's place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jaxswap.medical.data.case_files import Dataset
from jaxswap.medical.data.editions import editions_of

PROBABILITIES_ENDING = "_probabilities"
"""What the file of a case's probabilities has after the case's name."""


def unique_names(names: Sequence[str], files: Sequence[Path], root: Path) -> list[str]:
    """Put folders before names that repeat: as many as it takes.

    If all names are equal, they say nothing, and the folders alone are the names. Names
    of BraTS are kept: each stands for one patient, so one that repeats is a copy.

    Args:
        names: Name of each case.
        files: A file of each case.
        root: Folder of the data set. Only folders inside of it are used.

    Returns:
        A name for each case. Names that do not repeat are kept. If all folders are not
        enough, as with a file that is listed twice, the names are returned unchanged.

    Example:
        >>> files = [Path("a/pre/t1.nii"), Path("a/post/t1.nii"), Path("b/pre/t1.nii")]
        >>> unique_names(["t1"] * 3, files, Path("."))
        ['a_pre', 'a_post', 'b_pre']
    """
    counts = Counter(names)
    folders = [_folders(file, root) for file in files]
    for depth in range(max(map(len, folders), default=0) + 1):
        candidates = [
            name
            if counts[name] == 1 or not depth or editions_of([name])
            else "_".join([*inside[-depth:], *([name] if len(counts) > 1 else [])])
            for name, inside in zip(names, folders, strict=True)
        ]
        if all(candidates) and len(set(candidates)) == len(candidates):
            return candidates
    return list(names)


def name_uniquely(dataset: Dataset) -> Dataset:
    """Return a data set whose names are those of `unique_names`, sorted by them."""
    root = dataset.root if dataset.root.is_dir() else dataset.root.parent
    files = [case.images[0].path for case in dataset.cases]
    names = unique_names([case.name for case in dataset.cases], files, root)
    named = zip(dataset.cases, names, strict=True)
    cases = [replace(case, name=name) for case, name in named]
    return replace(dataset, cases=tuple(sorted(cases, key=lambda case: case.name)))


def require_unique_names(dataset: Dataset) -> None:
    """Refuse a data set in which two cases have one name.

    Raises:
        ValueError: If a name repeats. The message lists the files.
    """
    counts = Counter(case.name for case in dataset.cases)
    for name, count in counts.items():
        if count > 1:
            files = [c.images[0].path for c in dataset.cases if c.name == name]
            listed = ", ".join(map(str, files[:3]))
            more = " and more" if count > 3 else ""
            raise ValueError(
                f"{dataset.root}: {count} cases have the name {name}: {listed}{more}. "
                "Each case needs files of its own, in a folder or with a name of "
                "its own."
            )


def _folders(file: Path, root: Path) -> list[str]:
    folder = file.parent
    if folder.is_relative_to(root):
        folder = folder.relative_to(root)
    return [part for part in folder.parts if part not in (folder.anchor, "..")]
