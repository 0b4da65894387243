"""Scores of the validation cases during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from jaxswap.medical.networks.host_loss import loss_of_probabilities
from jaxswap.medical.networks.objective import class_weights, labels_in_slabs
from jaxswap.medical.prediction.mesh_prediction import MeshPredictor
from jaxswap.medical.prediction.prediction import Predictor, dice_by_region
from jaxswap.medical.preparing.mesh import RunMesh
from jaxswap.medical.preparing.preparing import Prepared
from jaxswap.medical.runs.processes import known_to_any
from jaxswap.medical.runs.run_cases import RunCases
from jaxswap.medical.runs.run_config import RunConfig


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


class Validator:
    """Predicts and scores the validation cases of a run.

    Args:
        config: The run.
        cases: Its cases.
        network: Its network.
        mesh: Its devices. None for one device.
    """

    def __init__(
        self,
        config: RunConfig,
        cases: RunCases,
        network: nn.Module,
        mesh: RunMesh | None,
    ) -> None:
        self._config, self._cases = config, cases
        shape, is_whole = cases.seen(config), config.patch is None
        label_map = cases.label_map
        self._predictor = None
        self._mesh_predictor = None
        if mesh is None:
            self._predictor = Predictor(
                network, label_map, shape, is_whole=is_whole, mirror_axes=()
            )
        else:
            self._mesh_predictor = MeshPredictor(
                network, label_map, shape, mesh, is_whole=is_whole
            )

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
        step = 1
        if self._mesh_predictor is not None:
            step = self._mesh_predictor.mesh.shape.data
        for first in range(0, len(cases), step):
            say(f"validating {min(first + step, len(cases))}/{len(cases)}")
            group = cases[first : first + step]
            for place, found in self._labels(parameters, group, losses).items():
                dice = dice_by_region(found, _truth(group[place]), label_map)
                scores[first + place] = list(dice.values())
                if first + place == 0:
                    shown = found
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

    def _labels(
        self, parameters: Any, group: Sequence[Prepared], losses: list[float]
    ) -> dict[int, Any]:
        """Return labels by the position in the group. Add their losses if known."""
        images = [np.asarray(case.image, np.float32) for case in group]
        if self._mesh_predictor is not None:
            return self._mesh_predictor.labels(parameters, images)
        assert self._predictor is not None
        label_map, config = self._cases.label_map, self._config
        found = self._predictor.probabilities(parameters, images[0])
        weights = class_weights(label_map, config.class_weights)
        truth = _truth(group[0])
        losses.append(
            loss_of_probabilities(found, truth, label_map, config.loss, weights)
        )
        return {0: labels_in_slabs(found, label_map)}


def _truth(case: Prepared) -> np.ndarray:
    assert case.labels is not None
    return np.asarray(case.labels)
