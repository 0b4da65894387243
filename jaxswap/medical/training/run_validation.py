"""Scores of the validation cases during training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from jaxswap.medical.networks.host_loss import loss_of_probabilities
from jaxswap.medical.networks.objective import class_weights, labels_in_slabs
from jaxswap.medical.prediction.prediction import dice_by_region
from jaxswap.medical.preparing.preparing import Prepared
from jaxswap.medical.runs.processes import known_to_any
from jaxswap.medical.runs.run_cases import RunCases
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.training.run_programs import RunPrograms


class Validation(NamedTuple):
    """What a validation found.

    Attributes:
        dice: Mean Dice of each region, in 0..1, by its name.
        loss: Mean loss of the cases, without dropout and at the finest level alone.
            None on a mesh, where no process has the probabilities of a case.
        shown: Predicted labels of the first case, uint8, (x, y, z). None in a process
            that does not have them.
    """

    dice: dict[str, float]
    loss: float | None
    shown: np.ndarray | None


class _Scored(NamedTuple):
    """A validation case: its position, Dice of each region, loss and labels."""

    place: int
    dice: list[float]
    loss: float | None
    labels: np.ndarray


class Validator:
    """Predicts and scores the validation cases of a run.

    Args:
        config: The run.
        cases: Its cases.
        programs: Its programs.
    """

    def __init__(
        self, config: RunConfig, cases: RunCases, programs: RunPrograms
    ) -> None:
        self._config, self._cases, self._programs = config, cases, programs

    def validate(self, parameters: Any, say: Callable[[str], None]) -> Validation:
        """Predict and score all cases. Every process has to call this.

        Args:
            parameters: Parameters of the network.
            say: Is told which case is being predicted.

        Returns:
            The scores. Their numbers are the same in all processes.
        """
        cases, label_map = self._cases.validation, self._cases.label_map
        scores = np.full((len(cases), len(label_map.regions)), np.nan)
        losses: list[float] = []
        shown = None
        on_mesh = self._programs.mesh_predictor is not None
        groups = self._on_mesh if on_mesh else self._on_device
        for number, one in enumerate(groups(parameters), 1):
            say(f"validating {number}/{len(cases)}")
            if one is None:
                continue
            scores[one.place] = one.dice
            losses += [] if one.loss is None else [one.loss]
            shown = one.labels if one.place == 0 else shown
        means = known_to_any(scores).mean(0)
        dice = dict(zip(label_map.regions, map(float, means), strict=True))
        loss = float(np.mean(losses)) if losses else None
        return Validation(dice, loss, shown)

    def picture(self, predicted: np.ndarray) -> bytes:
        """Draw outlines of the first case.

        Args:
            predicted: `Validation.shown`.

        Returns:
            The bytes of a PNG.
        """
        # Loads Matplotlib, which only the process that draws needs.
        from jaxswap.medical.scoring.outlines import outlines_png

        case = self._cases.validation[0]
        image = np.asarray(case.image[..., -1], np.float32)
        return outlines_png(
            _truth(case),
            predicted,
            self._cases.label_map,
            case.grid.spacing_mm,
            image,
            case.name,
        )

    def _on_device(self, parameters: Any) -> Iterator[_Scored]:
        """Predict cases, some of them side by side."""
        cases, predictor = self._cases.validation, self._programs.predictor
        label_map, config = self._cases.label_map, self._config
        weights = class_weights(label_map, config.class_weights)

        def score(place: int) -> _Scored:
            assert predictor is not None
            image = np.asarray(cases[place].image, np.float32)
            found, truth = (
                predictor.probabilities(parameters, image),
                _truth(cases[place]),
            )
            loss = loss_of_probabilities(found, truth, label_map, config.loss, weights)
            labels = labels_in_slabs(found, label_map)
            return self._scored(place, labels, loss)

        threads = self._programs.cases_at_a_time
        if threads == 1:
            yield from map(score, range(len(cases)))
            return
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(score, range(len(cases)))

    def _on_mesh(self, parameters: Any) -> Iterator[_Scored | None]:
        """Predict cases by groups. None stands for one that another process has."""
        cases, predictor = self._cases.validation, self._programs.mesh_predictor
        assert predictor is not None
        step = predictor.mesh.shape.data
        for first in range(0, len(cases), step):
            group = cases[first : first + step]
            images = [np.asarray(case.image, np.float32) for case in group]
            found = predictor.labels(parameters, images)
            for place in range(len(group)):
                labels = found.get(place)
                yield None if labels is None else self._scored(first + place, labels)

    def _scored(
        self, place: int, labels: np.ndarray, loss: float | None = None
    ) -> _Scored:
        truth = _truth(self._cases.validation[place])
        dice = dice_by_region(labels, truth, self._cases.label_map)
        return _Scored(place, list(dice.values()), loss, labels)


def _truth(case: Prepared) -> np.ndarray:
    assert case.labels is not None
    return np.asarray(case.labels)
