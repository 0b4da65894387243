"""A trained network, read from the folder of its run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.grid import Grid
from jaxswap.medical.data.images import find_images
from jaxswap.medical.networks.fastest import in_fastest_forms
from jaxswap.medical.networks.networks import make_network, multiple_of
from jaxswap.medical.networks.objective import class_count
from jaxswap.medical.prediction.prediction import Predictor
from jaxswap.medical.preparing.preparing import prepare_as
from jaxswap.medical.runs.checkpoints import restore_parameters
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.runs.trained import Trained


@dataclass(frozen=True, eq=False)
class CaseProbabilities:
    """What a network says of a case.

    Attributes:
        values: Probability of each region, float32, (x, y, z, region), prepared grid.
        grid: The position of this grid in the file.
        notes: What was odd, one sentence each.
    """

    values: np.ndarray
    grid: Grid
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """A trained network.

    Attributes:
        trained: What is known of its run.
        parameters: Its parameters.
        predictor: Predicts prepared volumes.
        multiple: Each side that the network sees is divisible by this.
    """

    trained: Trained
    parameters: Any
    predictor: Predictor
    multiple: int

    def find(self, data: Path, layout: str | None) -> Dataset:
        """Find the images of each case, with the channels that the network needs.

        Raises:
            FileNotFoundError, ValueError: See `find_images`.
        """
        trained = self.trained
        return find_images(
            data, trained.channels, trained.positions, trained.label_map, layout
        )

    def predict(self, case: CaseFiles, dataset: Dataset) -> CaseProbabilities:
        """Prepare a case as in training, and compute its probabilities.

        Args:
            case: Its files.
            dataset: From `find`.

        Raises:
            FileNotFoundError, ValueError: If the case cannot be read.
        """
        prepared = prepare_as(case, dataset, self.trained.prepare_config(self.multiple))
        found = self.predictor.probabilities(self.parameters, prepared.image)
        notes = (
            *prepared.notes,
            self.trained.odd_spacing(prepared.grid.spacing_mm),
            self.predictor.note(prepared.image.shape[:3]),
        )
        return CaseProbabilities(found, prepared.grid, tuple(filter(None, notes)))


def open_model(
    run: Path,
    *,
    checkpoint: Literal["best", "latest"] = "best",
    window: int | None = None,
    is_mirrored: bool = True,
) -> Model:
    """Read a trained network. Compute nothing.

    Args:
        run: Folder of the run.
        checkpoint: "best" or "latest".
        window: Side of a window. None predicts as the run was trained: whole volumes,
            or windows of the size of its patches.
        is_mirrored: Whether predictions of mirrored images are averaged, along the axes
            that training mirrored.

    Returns:
        The model.

    Raises:
        ValueError: If the run is damaged, has no checkpoint, or `window` does not fit.
    """
    trained = RunFolder(run).read()
    config = trained.config
    network = make_network(
        config.network,
        config.network_options,
        classes=class_count(trained.label_map),
        precision=config.precision,
    )
    multiple = multiple_of(network)
    side = config.patch if window is None else window
    if side is not None and (side < 1 or side % multiple):
        raise ValueError(
            f"`--window` is {side}; the network needs a multiple of {multiple}."
        )
    parameters, _ = restore_parameters(RunFolder(run).checkpoints, checkpoint)
    seen = trained.shape if side is None else (side, side, side)
    images = (1, *seen, len(trained.channels))
    predictor = Predictor(
        in_fastest_forms(network, jax.ShapeDtypeStruct(images, config.precision), None),
        trained.label_map,
        seen,
        is_whole=side is None,
        mirror_axes=_mirrored_axes(config) if is_mirrored else (),
    )
    return Model(trained, parameters, predictor, multiple)


def _mirrored_axes(config: RunConfig) -> tuple[int, ...]:
    """Return the axes that training mirrored: a network knows no other images."""
    augment = config.augment
    if augment is None or not augment.mirror_probability:
        return ()
    return augment.mirror_axes
