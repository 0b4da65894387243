"""Choosing a run's post-processing on its validation cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxswap.medical.data.case_files import CaseFiles
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.label_values import to_map
from jaxswap.medical.data.volumes import load_volume
from jaxswap.medical.prediction.case_prediction import OpenedRun
from jaxswap.medical.prediction.postprocessing import (
    Postprocessing,
    RegionOutcome,
    choose,
    compare_regions,
)


class PostprocessingChoice:
    """Collects how predicted cases compare with their references.

    Args:
        opened: The run, opened without post-processing, with its validation cases.
        data: The data set, with labels.
        layout: Its layout.

    Raises:
        ValueError: If a case has no labels.
    """

    def __init__(self, opened: OpenedRun, data: Path, layout: str | None) -> None:
        self._label_map = opened.trained.label_map
        found = find_dataset(data, layout=layout, edition=self._label_map)
        self._references = {case.name: case.labels for case in found.labeled}
        lacking = [
            case.name for case in opened.cases if case.name not in self._references
        ]
        if lacking:
            raise ValueError(f"{data}: {', '.join(lacking[:5])} has no labels.")
        self._outcomes: dict[str, dict[str, RegionOutcome]] = {}

    def add(self, case: CaseFiles, labels: np.ndarray) -> None:
        """Compare the labels of a case with its reference.

        Args:
            case: The case.
            labels: `Outcome.labels`.

        Raises:
            ValueError: If the reference cannot be used.
        """
        path = self._references[case.name]
        assert path is not None
        volume = load_volume(path)
        truth, _ = to_map(volume, self._label_map)
        if truth.shape != labels.shape:
            raise ValueError(f"{path}: has another shape than its image.")
        voxel_mm3 = abs(float(np.linalg.det(volume.affine[:3, :3])))
        self._outcomes[case.name] = compare_regions(
            labels, truth, self._label_map, voxel_mm3
        )

    def choose(self) -> Postprocessing:
        """Return the best rules of all cases that were added."""
        return choose(self._outcomes)
