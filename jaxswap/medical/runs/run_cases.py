"""The cases of a training run: found, split, prepared, all with one shape."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.case_names import require_unique_names
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.grid import Shape
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.named_weights import read_weights
from jaxswap.medical.data.splitting import leave_out, shared_patients, split
from jaxswap.medical.networks.objective import class_weights
from jaxswap.medical.preparing.loading import Batch, batches
from jaxswap.medical.preparing.normalization import (
    Normalization,
    choose_schemes,
    measure,
)
from jaxswap.medical.preparing.patches import Part
from jaxswap.medical.preparing.prepared_cache import CacheConfig, prepare_all
from jaxswap.medical.preparing.preparing import PrepareConfig, Prepared
from jaxswap.medical.runs.processes import is_first, wait_for_all
from jaxswap.medical.runs.recorded_split import RecordedSplit, record_split
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.runs.trained import Trained


@dataclass(frozen=True, eq=False)
class RunCases:
    """The cases that a run trains and validates on.

    Attributes:
        training: Prepared cases with labels.
        validation: The cases of the fold that is left out. None with fold "all".
        channels: Names of the images' channels.
        label_map: What labels mean.
        shape: Voxels of a whole volume in the network. Cases are padded to this shape.
        positions: The number of each channel in numbered files, see `Dataset`.
        normalizations: How each channel was brought to scale.
        split: Who trains and who validates, with hashes of their files.
        notes: What a user should know of the split, one sentence each.
    """

    training: tuple[Prepared, ...]
    validation: tuple[Prepared, ...]
    channels: tuple[str, ...]
    label_map: LabelMap
    shape: Shape
    positions: tuple[int, ...] = ()
    normalizations: tuple[Normalization, ...] = ()
    split: RecordedSplit | None = None
    notes: tuple[str, ...] = ()

    def trained(self, config: RunConfig) -> Trained:
        """Return what a prediction needs to know of the run."""
        sizes = np.array([case.grid.spacing_mm for case in self.training])
        low, high = (tuple(map(float, f(sizes, axis=0))) for f in (np.min, np.max))
        return Trained(
            config,
            self.channels,
            self.shape,
            self.label_map,
            self.positions,
            ((low[0], low[1], low[2]), (high[0], high[1], high[2])),
            self.normalizations,
        )

    def describe_channels(self) -> list[str]:
        """Return the name of each channel, with its scale if that is unusual."""
        hows = self.normalizations or [Normalization()] * len(self.channels)
        return [
            name if how == Normalization() else f"{name} ({how})"
            for name, how in zip(self.channels, hows, strict=True)
        ]

    def seen(self, config: RunConfig) -> Shape:
        """Return the voxels that the network sees: a whole volume's, or a patch's."""
        patch = config.patch
        return self.shape if patch is None else (patch, patch, patch)

    def batches(
        self, config: RunConfig, start_step: int, part: Part | None = None
    ) -> Generator[Batch, None, None]:
        """Yield the training batches, or a part of each, from a step on."""
        share = 0.0 if config.patch is None else config.foreground_share
        return batches(
            self.training,
            config.batch_size,
            seed=config.seed,
            start_step=start_step,
            patch=self.seen(config),
            foreground_share=share,
            foreground_weights=self._foreground_weights(config),
            workers=config.workers,
            part=part,
        )

    def _foreground_weights(self, config: RunConfig) -> dict[int, float] | None:
        given, values = config.foreground_weights, self.label_map.labels
        if not given:
            return None
        weights = read_weights("foreground_weights", given, values)
        return {values[name]: weight for name, weight in weights.items()}


def load_cases(
    config: RunConfig,
    multiple: int,
    cache: Path,
    *,
    folder: RunFolder | None = None,
    started: Callable[[int], None] = lambda count: None,
    advance: Callable[[], None] = lambda: None,
) -> RunCases:
    """Find, split and prepare the cases of a run.

    Args:
        config: The run.
        multiple: Each side that the network sees must be divisible by this.
        cache: Folder of prepared cases.
        folder: Folder of the run. If it is resumed, what it recorded holds.
        started: Is called with the number of cases once it is known.
        advance: Is called after each case.

    Returns:
        The cases.

    Raises:
        ValueError: If the data set cannot be trained on: no labels, unknown labels, too
            few cases, two cases of one name, a brain that does not fit `shape`.
        FileNotFoundError: If the data set, or a file of a case, is missing.
    """
    dataset = find_dataset(config.data, layout=config.layout, edition=config.meaning)
    require_unique_names(dataset)
    dataset = leave_out(dataset, config.exclude)
    if dataset.label_map is None:
        raise ValueError(
            f"{dataset.root}: nothing says what its labels mean; give `edition` or "
            "`labels`."
        )
    if config.patch is not None and config.patch % multiple:
        raise ValueError(
            f"`patch` is {config.patch}; the network needs a multiple of {multiple}."
        )
    _check_weights(config, dataset.label_map)
    before = None if folder is None else folder.read_split()
    training, validation, notes = _divide(dataset, config, before)
    schemes = choose_schemes(dataset.channels, config.normalization)
    is_resumed = folder is not None and folder.is_run
    normalizations = folder.read().normalizations if folder and is_resumed else ()
    if not normalizations:
        started(len(dataset.labeled) if "ct" in schemes else 0)
        normalizations = measure(dataset, schemes, advance=advance)
    prepare = PrepareConfig(
        multiple, config.shape, config.spacing_mm, config.mask, normalizations
    )
    started(len(training) + len(validation))
    kept = CacheConfig(cache, prepare)
    if jax.process_count() > 1:
        _prepare_share([*training, *validation], dataset, kept)
    prepared = [
        prepare_all(part, dataset, kept, advance=advance)
        for part in (training, validation)
    ]
    now = (
        record_split(training, validation, dataset.root, before) if is_first() else None
    )
    if before is not None and now is not None:
        notes += before.changes(now)
    return RunCases(
        prepared[0],
        prepared[1],
        dataset.channels,
        dataset.label_map,
        config.shape or common_shape([*prepared[0], *prepared[1]]),
        dataset.positions,
        normalizations,
        now,
        tuple(notes),
    )


def _divide(
    dataset: Dataset, config: RunConfig, before: RecordedSplit | None
) -> tuple[Sequence[CaseFiles], Sequence[CaseFiles], list[str]]:
    """Return who trains, who validates, and notes: as recorded, or dealt now."""
    if before is not None:
        return before.divide(dataset)
    parts = split(dataset, config.fold, config.folds, config.seed, config.patient)
    shared = shared_patients(parts, config.patient)
    notes = [
        f"Patient {patient} both trains and validates, because the data set's folds "
        "say so."
        for patient in shared
    ]
    return *parts, notes


def _check_weights(config: RunConfig, label_map: LabelMap) -> None:
    """Raise ValueError before anything is prepared."""
    class_weights(label_map, config.class_weights)
    read_weights("foreground_weights", config.foreground_weights, label_map.labels)


def _prepare_share(
    cases: Sequence[CaseFiles], dataset: Dataset, config: CacheConfig
) -> None:
    """Let each process prepare some cases. Then all find them in the cache."""
    share = cases[jax.process_index() :: jax.process_count()]
    # Later, all processes read all cases. So they find the same faults, and end alike.
    with suppress(ValueError, OSError):
        prepare_all(share, dataset, config)
    wait_for_all("preparing cases")


def common_shape(cases: Sequence[Prepared]) -> Shape:
    """Return the smallest shape that is large enough for all cases."""
    largest = np.max([case.image.shape[:3] for case in cases], axis=0)
    x, y, z = (int(side) for side in largest)
    return x, y, z
