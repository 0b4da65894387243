"""Programs whose results are written in place need less memory, as predicted."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxswap
from jaxswap._schedule.instructions import Run

SIDE, FEATURES = 64, 16
MIB = 1 << 20


def loss(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
    """Convolutions, each normalized, as in a U-Net."""
    forms = ("NDHWC", "DHWIO", "NDHWC")
    for kernel in kernels:
        wide = lax.conv_general_dilated(
            x, kernel, (1, 1, 1), "SAME", dimension_numbers=forms
        )
        wide = wide.astype(jnp.float32)
        mean = jnp.mean(wide, (0, 1, 2, 3), keepdims=True)
        variance = jnp.var(wide, (0, 1, 2, 3), keepdims=True)
        wide = (wide - mean) * lax.rsqrt(variance + 1e-5)
        x = jnp.where(wide >= 0, wide, 0.3 * wide).astype(jnp.bfloat16)
    return jnp.mean(x.astype(jnp.float32) ** 2)


def arguments() -> tuple[list[jax.ShapeDtypeStruct], jax.ShapeDtypeStruct]:
    widths = (4, FEATURES, FEATURES, FEATURES)
    kernels = [
        jax.ShapeDtypeStruct((3, 3, 3, before, FEATURES), jnp.bfloat16)
        for before in widths
    ]
    return kernels, jax.ShapeDtypeStruct((1, SIDE, SIDE, SIDE, 4), jnp.bfloat16)


@functools.cache
def smallest() -> jaxswap.Plan:
    return jaxswap.plan(
        loss,
        *arguments(),
        budget="smallest",
        target="h200",
        compile=False,
        progress=False,
    )


def compiled_bytes(plan: jaxswap.Plan) -> int:
    step = jax.value_and_grad(jaxswap.offload(loss, plan=plan))
    return jaxswap.inspect(step, *arguments(), target="h200").device_bytes


def test_a_compiled_program_writes_over_what_convolutions_made() -> None:
    plan = smallest()
    steps = (*plan.draft.schedule.forward, *plan.draft.schedule.backward)
    assert any(isinstance(step, Run) and step.in_place for step in steps)
    beside = dataclasses.replace(plan, in_place_bytes=0)
    saved = beside.timeline.device_bytes - plan.timeline.device_bytes
    array_bytes = 2 * FEATURES * SIDE**3
    assert saved >= 0.99 * array_bytes
    assert compiled_bytes(beside) - compiled_bytes(plan) >= 0.9 * saved


def test_the_prediction_counts_what_is_written_in_place() -> None:
    plan = smallest()
    assert compiled_bytes(plan) == pytest.approx(plan.device_bytes, rel=0.04)


def test_reports_say_how_many_results_are_written_in_place() -> None:
    plan = smallest()
    steps = (*plan.draft.schedule.forward, *plan.draft.schedule.backward)
    count = sum(isinstance(step, Run) and step.in_place is not None for step in steps)
    assert f"{count} results are written over operands" in str(plan)
    assert plan.summary()["written_in_place"] == {"count": count}
    assert "written over operands" in plan.to_html()
