"""Folders of runs and images -> label files on the grids of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.case_names import (
    PROBABILITIES_ENDING,
    require_unique_names,
)
from jaxswap.medical.data.grid import Grid
from jaxswap.medical.data.label_maps import LabelMap, find_label_map
from jaxswap.medical.data.renumbering import renumber, require_regions
from jaxswap.medical.data.volumes import save_labels
from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.networks.objective import labels_in_slabs
from jaxswap.medical.prediction.model import CaseProbabilities, Model, open_model
from jaxswap.medical.prediction.postprocessing import (
    Postprocessing,
    common_rules,
    load_postprocessing,
)
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.runs.trained import Trained

FAILURES = (ValueError, OSError, MemoryError, RuntimeError)
"""What one case may raise. The others can be labeled all the same."""


@dataclass(frozen=True)
class OpenedRun:
    """Trained networks and the cases that they are to label.

    Attributes:
        models: The networks. Their probabilities are averaged.
        datasets: For each, the cases with the channels that it needs.
        written: The map whose numbers are written.
        postprocessing: What is removed from labels.
    """

    models: tuple[Model, ...]
    datasets: tuple[Dataset, ...]
    written: LabelMap
    postprocessing: Postprocessing = field(default_factory=Postprocessing)

    @property
    def trained(self) -> Trained:
        """What is known of the first run."""
        return self.models[0].trained

    @property
    def cases(self) -> tuple[CaseFiles, ...]:
        """The cases to label."""
        return self.datasets[0].cases

    def describe(self) -> str:
        """Say which channels are read from where, and what is written."""
        first, data, count = self.trained, self.datasets[0], len(self.cases)
        channels = ", ".join(first.channels)
        is_numbered = data.layout in ("folder", "file")
        if is_numbered and len(first.channels) > 1:
            numbers = first.positions or range(len(first.channels))
            pairs = zip(numbers, first.channels, strict=True)
            channels = ", ".join(f"{number:04d} is {name}" for number, name in pairs)
        values = ", ".join(
            f"{value} {name}" for name, value in self.written.labels.items()
        )
        mean = f"the mean of {len(self.models)} networks, " if self.models[1:] else ""
        told = (
            f"{count} {'case' if count == 1 else 'cases'}, channels {channels}; "
            f"{mean}written as "
            f"{self.written.name}: {values}."
        )
        return "\n".join([told, *data.notes, *self.postprocessing.describe()])


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        is_written: Whether it was labeled. If not, its file was there already.
        notes: What was odd, one sentence each.
        labels: What was written, in the numbers of training, uint8, on the grid of the
            file in RAS+. None if nothing was.
    """

    is_written: bool
    notes: tuple[str, ...] = ()
    labels: np.ndarray | None = field(default=None, repr=False, compare=False)


def open_run(
    run: Path | Sequence[Path],
    data: Path,
    *,
    layout: str | None = None,
    edition: str | None = None,
    only_validation: bool = False,
    checkpoint: Literal["best", "latest"] = "best",
    window: int | None = None,
    is_mirrored: bool = True,
    is_postprocessed: bool = True,
) -> OpenedRun:
    """Read trained networks and find the cases. Compute nothing.

    Args:
        run: Folder of the run, or folders of several, whose probabilities are averaged.
        data: A data set, a folder of images, or one image. Labels are not read.
        layout: Its layout. None tries each.
        edition: The numbers to write: a key of `LABEL_MAPS`. None writes those of the
            data that the network was trained on.
        only_validation: Whether to label the cases alone that the run validated.
        checkpoint: "best" or "latest".
        window: Side of a window. None predicts as the run was trained: whole volumes,
            or windows of the size of its patches.
        is_mirrored: Whether predictions of mirrored images are averaged, along the axes
            that training mirrored.
        is_postprocessed: Whether labels are post-processed as the runs recorded it.

    Returns:
        The networks and the cases.

    Raises:
        ValueError: If a run has no checkpoint, if runs know different labels, if the
            data lacks a channel, if `edition` lacks a region, if two outputs would
            have one name, or if there is no case that the run validated.
        FileNotFoundError: If there are no such data.
    """
    runs = [run] if isinstance(run, Path) else list(run)
    models = [
        open_model(one, checkpoint=checkpoint, window=window, is_mirrored=is_mirrored)
        for one in runs
    ]
    label_map = models[0].trained.label_map
    for one, model in zip(runs, models, strict=True):
        if dict(model.trained.label_map.regions) != dict(label_map.regions):
            raise ValueError(
                f"{one} was trained on {', '.join(model.trained.label_map.regions)}, "
                f"{runs[0]} on {', '.join(label_map.regions)}; they have no mean."
            )
    written = label_map if edition is None else find_label_map(edition)
    require_regions(label_map, written)
    datasets = tuple(model.find(data, layout) for model in models)
    if only_validation:
        names = _validated(runs, data)
        datasets = tuple(_only(dataset, names) for dataset in datasets)
    require_unique_names(datasets[0])
    _refuse_taken_outputs(datasets[0])
    recorded = [load_postprocessing(RunFolder(one).postprocessing) for one in runs]
    rules = common_rules(recorded) if is_postprocessed else Postprocessing()
    return OpenedRun(tuple(models), datasets, written, rules)


def predict_case(
    opened: OpenedRun,
    case: CaseFiles,
    out: Path,
    *,
    with_probabilities: bool = False,
    is_overwriting: bool = False,
) -> Outcome:
    """Label one case and write `CASE.nii.gz`, complete or not at all.

    Args:
        opened: From `open_run`.
        case: One of its cases.
        out: Folder of the labels.
        with_probabilities: Whether to write `CASE_probabilities.nii.gz` too: float32,
            one channel for each region, turned to RAS+.
        is_overwriting: Whether to label a case that already has its file.

    Returns:
        Whether it was labeled, and what was odd.

    Raises:
        FileNotFoundError, ValueError: If the case cannot be read.
    """
    path = out / f"{case.name}.nii.gz"
    if path.exists() and not is_overwriting:
        return Outcome(False)
    place = opened.cases.index(case)
    found = [
        model.predict(dataset.cases[place], dataset)
        for model, dataset in zip(opened.models, opened.datasets, strict=True)
    ]
    label_map, grid = opened.trained.label_map, found[0].grid
    is_mean_needed = with_probabilities or len(found) > 1
    mean = _mean(found) if is_mean_needed else found[0].values
    if len(found) == 1:
        labels = grid.restore(labels_in_slabs(found[0].values, label_map))
    else:
        labels = labels_in_slabs(mean, label_map)
    if with_probabilities:
        _save_probabilities(out / f"{case.name}{PROBABILITIES_ENDING}", mean, grid)
    voxel_mm3 = abs(float(np.linalg.det(grid.ras_affine[:3, :3])))
    labels = opened.postprocessing.apply(labels, label_map, voxel_mm3)
    save_labels(path, renumber(labels, label_map, opened.written), grid.like)
    notes = dict.fromkeys(note for one in found for note in one.notes)
    return Outcome(True, tuple(notes), labels)


def _validated(runs: Sequence[Path], data: Path) -> set[str]:
    """Return the names of the cases that all runs validated."""
    names: set[str] | None = None
    for run in runs:
        split = RunFolder(run).read_split()
        if split is None:
            raise ValueError(f"{run}: did not record which cases it validated.")
        names = {*split.validation} if names is None else names & {*split.validation}
    if not names:
        raise ValueError(f"{data}: no case was validated by all runs.")
    return names


def _only(dataset: Dataset, names: set[str]) -> Dataset:
    kept = tuple(case for case in dataset.cases if case.name in names)
    missing = sorted(names - {case.name for case in kept})
    if missing:
        raise ValueError(
            f"{dataset.root}: lacks cases that the run validated: "
            f"{', '.join(missing[:5])}."
        )
    return replace(dataset, cases=kept)


def _mean(found: Sequence[CaseProbabilities]) -> np.ndarray:
    """Return the mean of several networks on the grid of the file, in RAS+."""
    mean = found[0].grid.restore(found[0].values)
    for count, one in enumerate(found[1:], 2):
        mean += (one.grid.restore(one.values) - mean) * np.float32(1 / count)
    return mean


def _save_probabilities(stem: Path, values: np.ndarray, grid: Grid) -> None:
    with whole_file(stem.with_name(f"{stem.name}.nii.gz")) as temporary:
        nib.save(nib.Nifti1Image(values, grid.like.affine), temporary)


def _refuse_taken_outputs(dataset: Dataset) -> None:
    """Refuse a case whose labels would lie where another's probabilities do."""
    names = {case.name for case in dataset.cases}
    for name in sorted(names):
        taken = f"{name}{PROBABILITIES_ENDING}"
        if taken in names:
            raise ValueError(
                f"{dataset.root}: labels of {taken} would have the name of the "
                f"probabilities of {name}; rename one of them."
            )
