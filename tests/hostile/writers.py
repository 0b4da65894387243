"""Everything that jaxswap writes, in two versions, for faults to come between."""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import evaluation_folders
import jax.numpy as jnp
import numpy as np
import optax
import tiny_datasets
from handmade_plans import full_plan

from benchmarks import harness
from jaxswap._gpu.saved import save_target
from jaxswap._gpu.target import built_in_target
from jaxswap._plans import cache
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.label_maps import LABEL_MAPS, make_label_map
from jaxswap.medical.data.volumes import Volume, save_labels
from jaxswap.medical.experiment.experiment_files import write_json
from jaxswap.medical.prediction.postprocessing import Postprocessing, RegionRule
from jaxswap.medical.preparing.prepared_cache import CacheConfig, prepare_cached
from jaxswap.medical.preparing.preparing import PrepareConfig
from jaxswap.medical.runs.checkpoints import Checkpoints
from jaxswap.medical.runs.recorded_split import FileState, RecordedSplit
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.runs.run_log import RunLog
from jaxswap.medical.runs.state import State
from jaxswap.medical.runs.trained import Trained
from jaxswap.medical.scoring.evaluation import Evaluation, evaluate
from jaxswap.medical.scoring.evaluation_files import write_evaluation
from jaxswap.medical.synthesis.synthetic_case import SyntheticCase
from jaxswap.medical.synthesis.synthetic_files import (
    record_path,
    write_brats,
    write_table,
)

Writer = Callable[[Path, int], object]
"""Writes a version, 1 or 2, into a folder that exists."""

LABELS = make_label_map("blob", {"blob": 1})
OPTIMIZER = optax.sgd(0.1)


def plan_file(folder: Path, version: int) -> None:
    """A plan, its page, its trace and its picture."""
    plan = dataclasses.replace(full_plan(), host_budget_bytes=version * 2**30)
    plan.save(folder / "plan.json")
    plan.to_html(folder / "plan.html")
    plan.to_perfetto(folder / "plan.perfetto.json")
    plan.plot(folder / "plan.svg")


def plan_cache(folder: Path, version: int) -> None:
    """A plan that is kept for later runs, in the folder that a test sets."""
    del folder
    cache.keep("0", dataclasses.replace(full_plan(), host_budget_bytes=version * 2**30))


def target(folder: Path, version: int) -> None:
    """A target that was measured."""
    save_target(
        dataclasses.replace(built_in_target("h100"), memory_bytes=version), folder
    )


def run_folder(folder: Path, version: int) -> None:
    """What a run says of itself, its plan and its cases."""
    config = RunConfig(Path("data"), seed=version)
    trained = Trained(config, ("t1",), (8, 8, 8), LABELS)
    plan = dataclasses.replace(full_plan(), host_budget_bytes=version * 2**30)
    RunFolder(folder).write(trained, plan, split_of(version))


def split_of(version: int) -> RecordedSplit:
    """Cases of a run."""
    cases = {"case": {"image.nii": FileState(version, version, "0" * 64)}}
    return RecordedSplit(cases, {})


def rules(folder: Path, version: int) -> None:
    """What is removed from labels."""
    Postprocessing({"blob": RegionRule(smallest_ml=version)}).save(folder / "p.json")


def checkpoint(folder: Path, version: int) -> None:
    """A checkpoint, the second beside the first."""
    parameters = {"params": {"kernel": jnp.full((2, 3), float(version))}}
    state = State(parameters, OPTIMIZER.init(parameters), (), jnp.int32(version))
    Checkpoints(folder).save_latest(state, {"version": version})


def run_table(folder: Path, version: int) -> None:
    """The log of a run, of which a later version has more rows."""
    with RunLog(folder, 0) as log:
        for step in range(1, version + 1):
            log.write(step, {"loss": 0.5})


def prepared_case(folder: Path, version: int) -> None:
    """A prepared case. It is made anew when a file of the case has changed."""
    config = CacheConfig(folder, PrepareConfig(multiple=8), "float32")
    dataset = find_dataset(tiny_datasets.brats(_data(), ["BraTS2021_00000"]))
    case = dataset.cases[0]
    image = case.images[0].path
    tiny_datasets.write(image, tiny_datasets.head(version))
    prepare_cached(case, dataset, config)


@functools.cache
def _data() -> Path:
    return Path(tempfile.mkdtemp(prefix="jaxswap-tests-writers-"))


def predicted_labels(folder: Path, version: int) -> None:
    """Labels that a network predicted."""
    like = Volume.from_array(np.zeros((3, 4, 5)), np.eye(4))
    save_labels(folder / "a.nii.gz", np.full((3, 4, 5), version, np.uint8), like)


def evaluation(folder: Path, version: int) -> None:
    """Scores, as table, summary and page."""
    write_evaluation(_evaluated(version), folder)


@functools.cache
def _evaluated(version: int) -> Evaluation:
    root = _data() / f"evaluation{version}"
    name = evaluation_folders.case_name(0)
    evaluation_folders.write_case(root / "data", name, image=False)
    labels = evaluation_folders.tumour(version)
    evaluation_folders.write(root / "predictions" / f"{name}.nii.gz", labels)
    known = LABEL_MAPS["brats2023"]
    return evaluate(root / "predictions", root / "data", label_map=known)


def synthetic_case(folder: Path, version: int) -> None:
    """A synthetic case and the table of cases."""
    record = {
        "case": "a",
        "arm": "glioma",
        "index": 0,
        "head": {"size": version},
        "volume_ml": {},
    }
    image = np.full((3, 4, 5), version, np.int16)
    names = ("t1n", "t1c", "t2w", "t2f")
    labels = image.astype(np.uint8)
    case = SyntheticCase(
        dict.fromkeys(names, image), labels, labels, np.eye(4), "LPS", record
    )
    write_brats(folder, case, 0)
    write_table(folder, [json.loads(record_path(folder, "glioma", 0).read_text())])


def experiment_record(folder: Path, version: int) -> None:
    """What an experiment has done."""
    write_json(folder / "speeds.json", {"device": str(version), "programs": {}})


def measurement(folder: Path, version: int) -> None:
    """A line of a benchmark, after the earlier ones."""
    harness.record({"environment": {}, "version": version}, folder / "results.jsonl")


WRITERS: tuple[Writer, ...] = (
    plan_file,
    plan_cache,
    target,
    run_folder,
    rules,
    checkpoint,
    run_table,
    prepared_case,
    predicted_labels,
    evaluation,
    synthetic_case,
    experiment_record,
    measurement,
)
