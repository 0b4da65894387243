"""Plans that were made before, and what is timed and profiled of a step."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import pytest
from gpu_profile import PROGRAM, gpu_profile
from tiny_runs import BLOB, prepared

import jaxswap
from jaxswap._compiled.hlo import parse_module
from jaxswap._profiled.streams import read_steps
from jaxswap.medical.experiment.experiment_programs import follow_plan, timed
from jaxswap.medical.training.prepared_run import TrainingRun
from jaxswap.medical.training.run_plan import PlannedLoss
from jaxswap.medical.training.run_programs import RunPrograms
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


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> RunPrograms:
    folder = tmp_path_factory.mktemp("programs")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        run = prepared(folder, 1.0)
        made = RunPrograms(run)
        made.compile()
    return made


def test_a_profile_of_the_gpu_says_what_copies_cost(
    programs: RunPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, second) = read_steps(gpu_profile(), parse_module(PROGRAM))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(
        jaxswap, "profile", lambda *_, repeats: jaxswap.Profile("H200", (second,))
    )
    row = timed(programs)
    assert row["step_seconds"] > 0
    # Three milliseconds out, hidden; two in, for which the step waits.
    assert row["copy_seconds"] == pytest.approx(5e-3)
    assert row["stall_seconds"] == pytest.approx(2e-3)
    assert row["hidden_seconds"] == pytest.approx(3e-3)
    assert row["copied_bytes"] == 2048


def test_a_profiler_that_fails_leaves_the_times(
    programs: RunPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("CUPTI is in use\nby another process")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jaxswap, "profile", fails)
    row = timed(programs)
    assert row["profile_error"] == "CUPTI is in use"
    assert row["busy_seconds"] > 0


def test_a_step_that_runs_out_of_memory_says_so(
    programs: RunPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too much\nand pages")

    monkeypatch.setattr(RunPrograms, "step", fails)
    assert timed(programs) == {"error": "RESOURCE_EXHAUSTED: too much"}
