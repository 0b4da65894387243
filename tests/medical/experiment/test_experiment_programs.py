"""A plan that was made before is followed, and replaced where it does not fit."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
from tiny_runs import BLOB, prepared

import jaxswap
from jaxswap.medical.experiment.experiment_programs import follow_plan
from jaxswap.medical.training.prepared_run import TrainingRun
from jaxswap.medical.training.run_plan import PlannedLoss
from jaxswap.medical.training.training_step import make_loss


def test_a_plan_of_another_program_is_not_followed(tmp_path: pathlib.Path) -> None:
    with jax.numpy_dtype_promotion("standard"):
        run, said = prepared(tmp_path, 1.0), []
        loss = make_loss(run.network, BLOB)

        def run_of(method: str, plan: jaxswap.Plan | None = None) -> TrainingRun:
            del method
            offloaded = jaxswap.offload(loss, plan=plan)
            return dataclasses.replace(run, planned=PlannedLoss(offloaded, plan))

        path = tmp_path / "plan.json"
        assert follow_plan(run_of, path, said.append).planned.plan is None
        number = jax.ShapeDtypeStruct((), jnp.float32)
        options = {"budget": "1GB", "target": "h100", "compile": False}
        jaxswap.plan(jnp.sin, number, **options, progress=False).save(path)
        assert follow_plan(run_of, path, said.append).planned.plan is None
    assert "plan.json does not fit, so the step is planned anew" in said[1]
