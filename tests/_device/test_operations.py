"""Timing the heavy operations of a program one by one."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import pallas as pl

from jaxswap._device import operations
from jaxswap._device.operations import (
    distinct_operations,
    measured_here,
    measured_target,
)
from jaxswap._device.stopwatch import Stopwatch
from jaxswap._device.topology import place_on
from jaxswap._gpu.saved import saved_target
from jaxswap._gpu.target import built_in_target, rates_of
from jaxswap._run.loss import loss_source
from jaxswap._search.ways import keep_all
from jaxswap._simulate.kernels import Kernel
from jaxswap._simulate.simulate import Simulator
from jaxswap._trace.describe import Traced
from jaxswap._trace.options import options_of

A100 = built_in_target("a100-80")
W = jnp.ones((16, 16))
GIB = 2**30


def traced(loss: Any, *args: Any) -> Traced:
    return loss_source(loss, args, {}, 0, False).traced(keep_all)


def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x)


PROGRAM = traced(loss, [W] * 3, jnp.ones((8, 16)))


def watch() -> Stopwatch:
    """A clock that ticks at each look."""
    ticks = iter(range(10**6))
    return Stopwatch(clock=lambda: float(next(ticks)), repeats=1)


def test_equal_operations_are_one() -> None:
    found = distinct_operations(PROGRAM.program.eqns)
    assert len(found) == 3  # forward and two gradients, each three times
    assert {eqn.primitive.name for eqn in found.values()} == {"dot_general"}


def test_operations_in_loops_are_found() -> None:
    def scanned(w: jax.Array, x: jax.Array) -> jax.Array:
        x, _ = lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=4)
        return jnp.sum(x)

    found = distinct_operations(traced(scanned, W, jnp.ones((8, 16))).program.eqns)
    assert len(found) == 3


def test_what_is_known_is_not_timed_again() -> None:
    lines: list[str] = []
    target = measured_target(A100, PROGRAM.program.eqns, GIB, watch(), lines.append)
    assert len(lines) == len(rates_of(target).operations) == 3
    again = measured_target(target, PROGRAM.program.eqns, GIB, watch(), lines.append)
    assert again is target
    assert len(lines) == 3
    assert dataclasses.replace(target, operations=()) == A100


def test_other_numbers_stay_published() -> None:
    target = measured_target(A100, PROGRAM.program.eqns, GIB, watch())
    assert target.rates is None  # A file of it does not pin what is published today.
    rates = rates_of(target)
    assert not rates.is_measured
    assert dataclasses.replace(rates, operations=()) == rates_of(A100)


def test_what_does_not_fit_is_not_timed() -> None:
    assert measured_target(A100, PROGRAM.program.eqns, 100, watch()) is A100


def test_the_simulator_uses_what_was_measured() -> None:
    (name, *_) = distinct_operations(PROGRAM.program.eqns)
    rates = rates_of(dataclasses.replace(A100, operations=((name, 0.25),)))
    graph = PROGRAM.graph
    timeline = Simulator(graph, rates).play_once()
    kernels = {
        graph.equations[step.equation].operation: float(seconds)
        for step, seconds in zip(timeline.steps.steps, timeline.seconds_of, strict=True)
        if isinstance(step, Kernel)
    }
    assert kernels[name] == 0.25
    others = [seconds for key, seconds in kernels.items() if key and key != name]
    assert len(others) == 2
    assert max(others) < 1e-3


def test_every_repetition_runs_on_a_gpu() -> None:
    """XLA would drop equal ones, and copy an operand that is not written in place."""

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NDHWC", "DHWIO", "NDHWC")
        return lax.conv_general_dilated(
            x, kernel, (1, 1, 1), "SAME", dimension_numbers=numbers
        )

    types = (
        jax.ShapeDtypeStruct((1, 8, 8, 8, 16), jnp.bfloat16),
        jax.ShapeDtypeStruct((3, 3, 3, 16, 16), jnp.bfloat16),
    )
    (eqn,) = jax.make_jaxpr(convolve)(*types).jaxpr.eqns
    program = operations.repeated(eqn, 5)
    lowered = jax.jit(program).lower(*place_on(built_in_target("h100"), types))
    text = lowered.compile({**options_of((eqn,))}).as_text() or ""
    text = text[text.index("ENTRY") :]
    assert text.count('custom_call_target="__cudnn$conv') == 5
    assert text.count(" copy(") <= 1


def test_a_kernel_of_two_results_is_repeated() -> None:
    def body(x_ref: Any, y_ref: Any, z_ref: Any) -> None:
        y_ref[...] = z_ref[...] = 2 * x_ref[...]

    shape = jax.ShapeDtypeStruct((4,), jnp.float32)
    call = pl.pallas_call(body, out_shape=(shape, shape), interpret=True)
    (eqn,) = jax.make_jaxpr(call)(shape).jaxpr.eqns
    assert operations.repeated(eqn, 2)(jnp.ones(4)).tolist() == [2.0] * 4


def test_times_are_saved_with_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path))
    monkeypatch.setattr(operations, "free_bytes", lambda device: GIB)
    lines: list[str] = []
    found = measured_here(A100, PROGRAM.program.eqns, lines.append)
    assert lines == [f"timing 3 operations on {A100.device_name}"]
    assert saved_target("a100-80") == found
    assert measured_here(found, PROGRAM.program.eqns, lines.append) is found
    assert len(lines) == 1


def test_times_that_cannot_be_saved_are_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(operations, "free_bytes", lambda device: GIB)
    lines: list[str] = []
    found = measured_here(A100, PROGRAM.program.eqns, lines.append)
    assert len(rates_of(found).operations) == 3
    assert lines[-1].startswith("their times could not be saved: ")
