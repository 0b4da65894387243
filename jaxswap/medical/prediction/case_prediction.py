"""A run's folder and a data set -> label files on the grids of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import nibabel as nib
import numpy as np

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.case_names import (
    PROBABILITIES_ENDING,
    require_unique_names,
)
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.label_maps import LABEL_MAPS
from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.networks.networks import make_network, multiple_of
from jaxswap.medical.networks.objective import class_count, labels_of
from jaxswap.medical.prediction.prediction import MIRROR_AXES, Predictor
from jaxswap.medical.preparing.preparing import prepare
from jaxswap.medical.runs.checkpoints import restore_parameters
from jaxswap.medical.runs.run_folder import RunFolder, Trained


@dataclass(frozen=True)
class OpenedRun:
    """A trained network and the cases that it is to label.

    Attributes:
        trained: What is known of the run.
        parameters: Parameters of the network.
        predictor: Predicts prepared volumes.
        dataset: The data set, with channels in the order of the network's.
        multiple: Each side that the network sees is divisible by this.
    """

    trained: Trained
    parameters: Any
    predictor: Predictor
    dataset: Dataset
    multiple: int

    @property
    def cases(self) -> tuple[CaseFiles, ...]:
        """The cases to label."""
        return self.dataset.cases


def open_run(
    run: Path,
    data: Path,
    *,
    layout: str | None = None,
    checkpoint: Literal["best", "latest"] = "best",
    window: int | None = None,
    is_mirrored: bool = True,
) -> OpenedRun:
    """Read a trained network and find the cases. Compute nothing.

    Args:
        run: Folder of the run.
        data: Folder of the data set. Labels are not needed.
        layout: Its layout. None tries each.
        checkpoint: "best" or "latest".
        window: Side of a window. None predicts as the run was trained: whole volumes,
            or windows of the size of its patches.
        is_mirrored: Whether predictions of mirrored windows are averaged.

    Returns:
        The run.

    Raises:
        ValueError: If the run has no checkpoint, if the data lacks a channel, or if two
            outputs would have one name.
        FileNotFoundError: If the data set is missing.
    """
    trained = RunFolder(run).read()
    config = trained.config
    name = trained.label_map.name
    edition = name if name in LABEL_MAPS else config.edition
    dataset = _in_channel_order(
        find_dataset(data, layout=layout, edition=edition), trained
    )
    require_unique_names(dataset)
    _refuse_taken_outputs(dataset)
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
    predictor = Predictor(
        network,
        trained.label_map,
        trained.shape if side is None else (side, side, side),
        is_whole=side is None,
        mirror_axes=MIRROR_AXES if is_mirrored else (),
    )
    return OpenedRun(trained, parameters, predictor, dataset, multiple)


def predict_case(
    opened: OpenedRun,
    case: CaseFiles,
    out: Path,
    *,
    with_probabilities: bool = False,
    is_overwriting: bool = False,
) -> bool:
    """Label one case and write `CASE.nii.gz`, complete or not at all.

    Args:
        opened: From `open_run`.
        case: One of its cases.
        out: Folder of the labels.
        with_probabilities: Whether to write `CASE_probabilities.nii.gz` too: float32,
            one channel for each region, turned to RAS+.
        is_overwriting: Whether to label a case that already has its file.

    Returns:
        Whether it was labeled.

    Raises:
        ValueError: If the case cannot be read or does not fit the network.
    """
    path = out / f"{case.name}.nii.gz"
    if path.exists() and not is_overwriting:
        return False
    prepared = prepare(
        case,
        opened.dataset,
        multiple=opened.multiple,
        spacing_mm=opened.trained.config.spacing_mm,
    )
    try:
        found = opened.predictor.probabilities(opened.parameters, prepared.image)
    except ValueError as error:
        raise ValueError(f"{case.name}: {error}") from error
    label_map = opened.trained.label_map
    labels = np.asarray(labels_of(jnp.asarray(found), label_map))
    if with_probabilities:
        grid = prepared.grid
        channels = [grid.restore(found[..., i]) for i in range(found.shape[-1])]
        image = nib.Nifti1Image(np.stack(channels, -1), grid.like.affine)
        with whole_file(out / f"{case.name}{PROBABILITIES_ENDING}.nii.gz") as temporary:
            nib.save(image, temporary)
    prepared.grid.save_labels(path, labels)
    return True


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


def _in_channel_order(dataset: Dataset, trained: Trained) -> Dataset:
    """Return the data set with its channels in the order that the network knows."""
    missing = [name for name in trained.channels if name not in dataset.channels]
    if missing:
        raise ValueError(
            f"{dataset.root}: has no channel {', '.join(missing)}; the network was "
            f"trained on {', '.join(trained.channels)}, the data has "
            f"{', '.join(dataset.channels)}."
        )
    order = [dataset.channels.index(name) for name in trained.channels]
    cases = tuple(
        CaseFiles(c.name, tuple(c.images[i] for i in order), c.labels, c.fold)
        for c in dataset.cases
    )
    return Dataset(
        dataset.root, dataset.layout, trained.channels, dataset.label_map, cases
    )
