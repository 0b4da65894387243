"""Training runs on one case in memory, for tests."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.data.reading import CaseVolumes
from jaxswap.medical.data.volumes import Volume
from jaxswap.medical.preparing.preparing import PrepareConfig, prepare_volumes
from jaxswap.medical.runs.run_cases import RunCases
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.training.run_progress import RunProgress
from jaxswap.medical.training.training_run import TrainingRun, prepare_run

BLOB = make_label_map("blob", {"blob": 1})
SHAPE = (8, 8, 8)


def cases(intensity: float) -> RunCases:
    image = np.random.default_rng(0).normal(size=SHAPE) ** 2
    volume = Volume.from_array(image, np.eye(4))
    labels = Volume.from_array(image > 1, np.eye(4))
    read = CaseVolumes(("T1",), volume.data[..., None], volume, labels)
    case = prepare_volumes(read, BLOB, PrepareConfig(2, SHAPE), "case")
    case.image[0, 0, 0] = intensity
    return RunCases((case,), (case,), ("T1",), BLOB, SHAPE)


def prepared(
    tmp_path: Path, intensity: float, *, dropout: float = 0.3, **settings: Any
) -> TrainingRun:
    options: dict[str, Any] = {"base_filters": 2, "depth": 2, "segmentation_levels": 1}
    options["dropout"] = dropout
    config = RunConfig(
        tmp_path, network_options=options, augment=None, precision="float32", **settings
    )
    return prepare_run(config, RunFolder(tmp_path / "run"), cases(intensity))


def quiet() -> RunProgress:
    return RunProgress(Console(file=io.StringIO()))
