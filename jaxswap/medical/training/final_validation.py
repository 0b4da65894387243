"""Labels and scores of a run's validation cases, once it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jax

from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.prediction.case_prediction import (
    FAILURES,
    open_run,
    predict_case,
)
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.scoring.evaluation import Evaluation, evaluate
from jaxswap.medical.scoring.evaluation_files import write_evaluation


@dataclass(frozen=True)
class FinalValidation:
    """What became of the validation cases.

    Attributes:
        folder: Where labels and scores are.
        evaluation: The scores. None if nothing was labeled.
        failures: For each case that could not be labeled, the reason.
    """

    folder: Path
    evaluation: Evaluation | None
    failures: Mapping[str, str] = field(default_factory=dict)


def is_validated_at_end(config: RunConfig) -> bool:
    """Whether a run's validation cases are labeled at its end, in this process.

    A volume that several devices share may be too large for one, so then they are not.
    """
    is_alone = jax.process_count() == 1 and config.mesh is None
    return config.final_validation and config.fold != "all" and is_alone


def validate_at_end(
    folder: RunFolder,
    started: Callable[[int], None] = lambda count: None,
    advance: Callable[[], None] = lambda: None,
) -> FinalValidation:
    """Label the validation cases of a trained run as `predict` does, and score them.

    It writes labels, `metrics.csv`, `summary.json` and `report.html` into the folder
    `validation` of the run. What is there is replaced.

    Args:
        folder: The run. It has saved a checkpoint and recorded its split.
        started: Is called with the number of cases.
        advance: Is called after each case.

    Returns:
        Scores, and the cases that could not be labeled.

    Raises:
        ValueError, FileNotFoundError: If the data set is not as it was.
    """
    config, out = folder.read().config, folder.validation
    opened = open_run(
        folder.path, config.data, layout=config.layout, only_validation=True
    )
    started(len(opened.cases))
    failures: dict[str, str] = {}
    for case in opened.cases:
        try:
            predict_case(opened, case, out, is_overwriting=True)
        except FAILURES as error:
            failures[case.name] = str(error)
            # Older labels of the case would be scored in their place.
            (out / f"{case.name}.nii.gz").unlink(missing_ok=True)
        advance()
    if len(failures) == len(opened.cases):
        return FinalValidation(out, None, failures)
    references = find_dataset(config.data, layout=config.layout, edition=config.meaning)
    evaluation = evaluate(out, references, only_predicted=True)
    write_evaluation(evaluation, out)
    return FinalValidation(out, evaluation, failures)
