"""Operations that were timed on GPUs, and are used without a calibration."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap._gpu.measured_operations import MEASURED_OPERATIONS
from jaxswap._gpu.target import built_in_target, published_rates, rates_of
from jaxswap._trace.operations import operation_name

ROWS = Path(__file__).parents[2] / "benchmarks" / "results"
H200 = built_in_target("h200")


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    padding = [(1, 1)] * 3
    return lax.conv_general_dilated(
        x, kernel, (1, 1, 1), padding, dimension_numbers=numbers
    )


def names(side: int, channels: int) -> list[str]:
    """Of the three passes of a convolution, as they are traced."""
    x = jax.ShapeDtypeStruct((1, side, side, side, channels), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, channels, channels), jnp.bfloat16)

    def passes(x: Any, kernel: Any, cotangent: Any) -> Any:
        y, pullback = jax.vjp(convolve, x, kernel)
        return y, *pullback(cotangent)

    eqns = jax.make_jaxpr(passes)(x, kernel, x).jaxpr.eqns
    found = [name for eqn in eqns if (name := operation_name(eqn))]
    forward, *gradients = found
    kernel_gradient = next(
        n for n in gradients if n.split()[3].startswith("bfloat16[3")
    )
    (input_gradient,) = (n for n in gradients if n != kernel_gradient)
    return [forward, input_gradient, kernel_gradient]


@pytest.mark.parametrize(("side", "channels"), [(192, 16), (96, 32)])
def test_names_are_those_of_traced_programs(side: int, channels: int) -> None:
    known = dict(MEASURED_OPERATIONS["NVIDIA H200"])
    assert set(names(side, channels)) <= known.keys()


@pytest.mark.parametrize(("side", "channels"), [(192, 16), (96, 32)])
def test_seconds_are_those_that_were_measured(side: int, channels: int) -> None:
    lines = (ROWS / "device-nvidia-h200.jsonl").read_text().splitlines()
    (row,) = (
        row
        for row in map(json.loads, lines)
        if row["table"] == "convolutions_nhwc"
        and (row["layout"], row["force_nhwc"]) == ("cl", True)
        and (row["s"], row["ci"], row["dt"]) == (side, channels, "bf16")
    )
    known = dict(MEASURED_OPERATIONS["NVIDIA H200"])
    found = [known[name] for name in names(side, channels)]
    measured = [row[f"{which}_ms"] / 1e3 for which in ("fwd", "dx", "dk")]
    assert found == pytest.approx(measured)


def test_they_are_used_until_the_gpu_is_calibrated() -> None:
    rates = rates_of(H200)
    assert rates.operations == MEASURED_OPERATIONS["NVIDIA H200"]
    assert dataclasses.replace(rates, operations=()) == published_rates(H200)
    mine = dataclasses.replace(H200, rates=published_rates(H200))
    assert rates_of(mine).operations == ()
    assert rates_of(built_in_target("h100")).operations == ()


def test_what_was_timed_on_this_gpu_comes_before_what_was_timed_elsewhere() -> None:
    (name, elsewhere), *_ = MEASURED_OPERATIONS["NVIDIA H200"]
    here = (("a product", 2e-3), (name, elsewhere / 2))
    mine = dataclasses.replace(H200, operations=here)
    known = rates_of(mine).operation_seconds
    assert known == {**dict(MEASURED_OPERATIONS["NVIDIA H200"]), **dict(here)}
    calibrated = dataclasses.replace(mine, rates=published_rates(H200))
    assert rates_of(calibrated).operation_seconds == dict(here)


def test_an_operation_of_a_gpu_that_takes_no_time_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"`operations` of `Target` has 0\.0 for 'p'"):
        dataclasses.replace(H200, operations=(("p", 0.0),))
