"""Scores of the validation cases during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import numpy as np

from jaxswap.medical.prediction.mesh_prediction import MeshPredictor
from jaxswap.medical.prediction.prediction import Predictor, dice_by_region
from jaxswap.medical.preparing.mesh import RunMesh
from jaxswap.medical.runs.processes import known_to_any
from jaxswap.medical.runs.run_cases import RunCases
from jaxswap.medical.runs.run_config import RunConfig


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
        self._cases = cases
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

    def scores(self, parameters: Any, say: Callable[[str], None]) -> dict[str, float]:
        """Compute the mean Dice of each region. Every process has to call this.

        Args:
            parameters: Parameters of the network.
            say: Is told which case is being predicted.

        Returns:
            Scores in 0..1 by the region's name, the same in all processes.
        """
        cases, label_map = self._cases.validation, self._cases.label_map
        scores = np.full((len(cases), len(label_map.regions)), np.nan)
        step = 1
        if self._mesh_predictor is not None:
            step = self._mesh_predictor.mesh.shape.data
        for first in range(0, len(cases), step):
            say(f"validating {min(first + step, len(cases))}/{len(cases)}")
            group = cases[first : first + step]
            images = [np.asarray(case.image, np.float32) for case in group]
            for place, found in self._labels(parameters, images).items():
                truth = group[place].labels
                assert truth is not None
                dice = dice_by_region(found, np.asarray(truth), label_map)
                scores[first + place] = list(dice.values())
        means = known_to_any(scores).mean(0)
        return dict(zip(label_map.regions, map(float, means), strict=True))

    def _labels(self, parameters: Any, images: list[np.ndarray]) -> dict[int, Any]:
        if self._mesh_predictor is not None:
            return self._mesh_predictor.labels(parameters, images)
        assert self._predictor is not None
        return {0: self._predictor.labels(parameters, images[0])}
