"""Dice of test cases that are prepared already, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.prediction.prediction import Predictor, dice_by_region
from jaxswap.medical.preparing.preparing import Prepared
from jaxswap.medical.runs.checkpoints import restore_parameters
from jaxswap.medical.runs.run_folder import RunFolder


class Scores(NamedTuple):
    """Scores of a network.

    Attributes:
        dice: For each case, the mean Dice over its regions.
        regions: For each region, the mean Dice over the cases.
        false_ml: Mean volume of the first region in heads that do not have it. None if
            there is no such head.
    """

    dice: dict[str, float]
    regions: dict[str, float]
    false_ml: float | None


class _Case(NamedTuple):
    dice: dict[str, float]
    false_ml: float | None


def restore(folder: RunFolder) -> tuple[Any, dict[str, Any]]:
    """Read the last state of a run: its parameters, and what else it saved.

    Args:
        folder: The run.

    Returns:
        Parameters where training has them, so that no program is compiled again.

    Raises:
        FileNotFoundError: If it saved nothing.
    """
    parameters, extra = restore_parameters(folder.checkpoints, "latest")
    return jax.device_put(parameters, jax.local_devices()[0]), extra


def score(
    predictor: Predictor,
    parameters: Any,
    cases: Sequence[Prepared],
    threads: int,
    show: Callable[[Prepared, np.ndarray], None] = lambda case, labels: None,
) -> Scores:
    """Label cases and score them on the grid that the network sees.

    Args:
        predictor: The network.
        parameters: Its parameters.
        cases: Cases with labels.
        threads: Cases that are labeled at the same time.
        show: Is given the first case that has a reference, and the labels found.

    Returns:
        Their scores.
    """
    label_map = predictor.label_map
    labeled = (n for n, case in enumerate(cases) if np.any(case.labels))
    shown = next(labeled, 0)

    def score_one(number: int) -> _Case:
        case = cases[number]
        image = np.asarray(case.image, np.float32)
        labels = predictor.labels(parameters, image)
        if number == shown:
            show(case, labels)
        return _score(labels, case, label_map)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(score_one, range(len(cases))))
    names = [case.name for case in cases]
    means = [float(np.mean(list(one.dice.values()))) for one in found]
    regions = {
        region: float(np.mean([one.dice[region] for one in found]))
        for region in label_map.regions
    }
    false = [one.false_ml for one in found if one.false_ml is not None]
    return Scores(
        dict(zip(names, means, strict=True)),
        regions,
        float(np.mean(false)) if false else None,
    )


def _score(labels: np.ndarray, case: Prepared, label_map: LabelMap) -> _Case:
    truth = np.asarray(case.labels)
    first = next(iter(label_map.regions.values()))
    false_ml = None
    if not np.isin(truth, first).any():
        voxel_ml = float(np.prod(case.grid.spacing_mm)) / 1000
        false_ml = int(np.isin(labels, first).sum()) * voxel_ml
    return _Case(dice_by_region(labels, truth, label_map), false_ml)
