"""How fast are copies between the GPU and pinned host memory, each way and both?

The method is the direction, the workload the size of an array: `copy-256MiB`. Copies
that are wrong are not timed. `calibrate` measures all rates that plans are made with
and saves them, so that later plans use them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import jaxswap
from benchmarks import harness
from benchmarks.case import Case

MIB = 2**20
SIZES_MIB = (1, 16, 256, 1024)
DIRECTIONS = ("to host", "to device", "both ways")
REPEATS = 20


def cases(*, is_tiny: bool = False) -> list[Case]:
    """Return the measurements of the suite; `calibrate`, which plans need, first."""
    made = [Case("link", "rates", "calibrate", backend="link", target="")]
    sizes = (1,) if is_tiny else SIZES_MIB
    made = [] if is_tiny else made
    for size in sizes:
        for direction in DIRECTIONS:
            workload = f"copy-{size}MiB"
            made.append(
                Case("link", workload, direction, "", "link", "", is_tiny=is_tiny)
            )
    return made


def measure(case: Case, plain: dict[str, Any] | None = None) -> dict[str, Any]:
    """Time copies of one size in one direction, or calibrate."""
    del plain
    if case.method == "calibrate":
        return calibrated()
    nbytes = int(case.workload.removeprefix("copy-").removesuffix("MiB")) * MIB
    space = jax.memory.Space
    device = jnp.arange(nbytes // 4, dtype=jnp.float32)
    host = jax.device_put(device, space.Host)
    assert bool(jnp.array_equal(jax.device_put(host, space.Device), device))

    # One program, so that copies are those that training steps make.
    def copy(device: jax.Array, host: jax.Array) -> list[jax.Array]:
        copies = []
        if case.method != "to device":
            copies.append(jax.device_put(device, space.Host))
        if case.method != "to host":
            copies.append(jax.device_put(host, space.Device))
        return copies

    program = jax.jit(copy, compiler_options=jaxswap.compiler_options())
    measured = harness.seconds(lambda: program(device, host), REPEATS)
    copied = nbytes * (2 if case.method == "both ways" else 1)
    rate = copied / measured["median_seconds"]
    return {"copied_bytes": copied, **measured, "bytes_per_second": rate}


def calibrated() -> dict[str, Any]:
    """Measure the GPU's rates and save them for later plans."""
    if jax.default_backend() != "gpu":
        return {"error": "there is no GPU to calibrate"}
    target = jaxswap.calibrate(quick=True)
    assert target.rates is not None
    return {"target": target.name, "rates": dataclasses.asdict(target.rates)}
