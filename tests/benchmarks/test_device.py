"""All methods of a program are timed in one process; each failure costs one row."""

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import pytest
from gpu_profile import PROGRAM, gpu_profile

import jaxswap
from benchmarks import device, plan_files
from benchmarks.case import Case
from benchmarks.inputs import draw
from benchmarks.methods import METHODS, UNSCHEDULED, loss_of
from jaxswap._compiled.hlo import parse_module
from jaxswap._profiled.streams import read_steps

MLP = Case("mlp", "mlp", "plain", backend="device", target="", is_tiny=True)
LMS = dataclasses.replace(MLP, method="LMS")
PLANNED = dataclasses.replace(MLP, method="jaxswap", budget="90%")
NAMES = dataclasses.replace(MLP, method="per-tensor list")  # mlp names no values

Rows = list[tuple[Case, dict[str, Any]]]


@pytest.fixture(autouse=True)
def plans(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder for plans that holds none."""
    monkeypatch.setattr(plan_files, "PLANS", tmp_path)
    return tmp_path


def measured(cases: list[Case], left: Callable[[], float] = lambda: 1e9) -> Rows:
    rows: Rows = []
    device.measure(cases, lambda case, row: rows.append((case, row)), left)
    return rows


def save_plan(name: str = "mlp") -> jaxswap.Plan:
    loss, args, _ = loss_of("plain", name, is_tiny=True)
    plan = jaxswap.plan(loss, *args, target="h200", compile=False, progress=False)
    plan.save(plan_files.path_of(PLANNED))
    return plan


def test_plain_comes_first_and_the_others_are_compared_with_it() -> None:
    plan = save_plan()
    rows = measured([MLP, LMS, PLANNED])
    assert [case for case, _ in rows] == [MLP, LMS, PLANNED]
    (_, plain), (_, lms), (_, planned) = rows
    assert "gradient" not in plain
    for row in (lms, planned):
        assert row["gradient_difference"] < 1e-5
        assert row["loss"] == pytest.approx(plain["loss"])
        share = row["median_seconds"] / plain["median_seconds"]
        assert row["of_plain"] == pytest.approx(share)
        assert row["device_bytes"] >= row["temp_bytes"] >= 0
        assert "error" not in row
    assert planned["planned_for"] == "h200"
    assert planned["planned_device_bytes"] == plan.device_bytes


def test_distances_from_float32_are_in_each_row() -> None:
    unet = dataclasses.replace(MLP, workload="unet3d-128-bf16")
    swapped = dataclasses.replace(unet, method="LMS")
    (_, plain), (_, lms) = measured([unet, swapped])
    assert 1e-3 < plain["float32_difference"] < 0.5
    assert lms["plain_float32_difference"] == plain["float32_difference"]
    assert 1e-3 < lms["float32_difference"] < 0.5
    assert "exact" not in plain


def test_float32_workloads_are_compared_with_plain_alone() -> None:
    unet = dataclasses.replace(MLP, workload="unet3d-128-fp32")
    ((_, row),) = measured([unet])
    assert "float32_difference" not in row
    assert "median_seconds" in row


def test_without_memory_for_float32_methods_are_compared_with_plain_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(device, "_in_float32", full)
    (_, plain), (_, lms) = measured([MLP, LMS])
    assert plain["float32_error"] == "out of memory"
    assert "float32_difference" not in lms
    assert lms["gradient_difference"] < 1e-5


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda g: [leaf * 1.5 for leaf in g], "gradient norm is"),
        (lambda g: [g[0] * 0, *g[1:]], "gradient is .* from float32, plain's"),
        (lambda g: [-leaf for leaf in g], "gradient is 2 from float32, plain's"),
    ],
)
def test_a_wrong_gradient_is_not_timed(
    change: Callable[[Any], Any], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offload(loss: Any, **_: Any) -> Any:
        @jax.custom_vjp
        def same(weights: Any) -> Any:
            return weights

        same.defvjp(lambda w: (w, None), lambda _, g: (change(g),))
        return lambda weights, *rest: loss(same(weights), *rest)

    monkeypatch.setattr(jaxswap, "offload", offload)
    monkeypatch.setitem(device.TOLERANCES, "bf16", 0.1)
    (_, row) = measured([MLP, LMS])[1]
    assert re.match(error, row["error"])
    assert "median_seconds" not in row


def test_programs_are_compiled_with_the_options_that_they_need() -> None:
    unet = dataclasses.replace(LMS, workload="unet3d-128-fp32")
    loss, args, _ = loss_of("plain", unet.workload, is_tiny=True)
    expected = jaxswap.compiler_options(loss, *args)
    assert expected != jaxswap.compiler_options()
    assert device._lowered(unet, {})[2] == expected
    unscheduled = dataclasses.replace(unet, method="JAX offload whole, scheduler off")
    options = device._lowered(unscheduled, {})[2]
    assert options == expected | UNSCHEDULED
    assert device._lowered(LMS, {})[2] == jaxswap.compiler_options()


def test_a_plan_for_other_options_costs_one_row() -> None:
    plan = save_plan()
    other = dataclasses.replace(plan, compiler_options={})
    other.save(plan_files.path_of(PLANNED))
    (_, row) = measured([MLP, PLANNED])[1]
    assert "the plan was made with XLA's options {}" in row["error"]


def test_plain_is_run_again_but_not_recorded_where_it_was() -> None:
    ((case, row),) = measured([LMS])
    assert case == LMS
    assert row["of_plain"] > 0


def test_what_cannot_be_built_costs_one_row() -> None:
    rows = dict((case.method, row) for case, row in measured([MLP, NAMES, LMS]))
    assert rows["per-tensor list"]["error"].startswith("ValueError: mlp does not name")
    assert "median_seconds" in rows["LMS"]


def test_a_plan_of_another_program_costs_one_row() -> None:
    save_plan("transformer-unrolled")
    rows = measured([MLP, PLANNED, LMS])
    assert "the plan was made for other" in rows[1][1]["error"]
    assert "median_seconds" in rows[2][1]


def test_a_plan_that_was_not_made_before_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def plan_of(loss: Any, args: Any, method: Any, budget: Any) -> jaxswap.Plan:
        asked.append((method, budget))
        options: Any = {"target": "a100-40", "compile": False, "progress": False}
        return jaxswap.plan(loss, *args, **options)

    monkeypatch.setattr(device, "plan_of", plan_of)
    (_, plain), (_, row) = measured([MLP, PLANNED])
    assert asked == [(METHODS["jaxswap"], int(0.9 * plain["device_bytes"]))]
    assert row["planned_for"] == "a100-40"


@pytest.mark.parametrize("is_compiled", [False, True])
def test_nothing_is_begun_without_time(
    is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_compiled:
        built = device._compile(*device._lowered(LMS, {}))
        found = {("LMS", ""): built}
        monkeypatch.setattr(device, "_compile_all", lambda *_: (found, 0))
    assert [case for case, _ in measured([MLP, LMS], lambda: 0.0)] == [MLP]


def test_parameters_are_scaled_and_data_is_not() -> None:
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 16, 8), "float32")
    image = jax.ShapeDtypeStruct((64, 64), "float32")
    labels = jax.ShapeDtypeStruct((64,), "int32")
    parameters, images, drawn = draw(({"kernel": kernel}, image, labels))
    assert float(parameters["kernel"].std()) == pytest.approx(
        (27 * 16) ** -0.5, rel=0.1
    )
    assert float(images.std()) == pytest.approx(1, rel=0.1)
    assert 0 <= drawn.min() < drawn.max() <= 9


def test_what_is_timed_beside_compilation_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "_compile_all", lambda *_: ({}, 2))
    built = device._compile(*device._lowered(LMS, {}))
    way = ("LMS", "")
    monkeypatch.setattr(device, "_compile_all", lambda *_: ({way: built}, 2))
    (_, (_, row)) = measured([MLP, LMS])
    assert row["compiling_beside"] == 2


def test_a_program_that_does_not_fit_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(device.harness, "seconds", full)
    (_, row) = measured([MLP])[0]
    assert row["error"] == "out of memory"


def test_a_profile_is_a_row() -> None:
    steps = read_steps(gpu_profile(), parse_module(PROGRAM))
    row = device.profile_row(jaxswap.Profile("H200", steps))
    assert row["compute_ms"] == pytest.approx(9)
    assert row["swap_out_hidden_ms"] == pytest.approx(3)
    assert row["swap_in_bytes"] == 1024
    assert row["longest_by_label"][0] == ["Net/encoder0/conv", pytest.approx(4), 1]
    assert row["longest"][0][0].startswith("sm80_xmma_fprop")


def test_a_profile_without_a_gpu_costs_one_row() -> None:
    rows = measured([MLP, dataclasses.replace(MLP, backend="profile")])
    assert rows[1][1]["error"].startswith("RuntimeError: jaxswap.profile needs a GPU")
