"""A case -> what a training step takes on this machine's GPU.

The method's gradient is compared with plain JAX's on a small program first, and its
value and gradient on the real one before it is timed. A process that measures does
nothing else: a device counts one peak a process.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxswap
from benchmarks import compiled, harness
from benchmarks.case import Case, budget_bytes
from benchmarks.inputs import draw
from benchmarks.methods import Method, loss_of
from benchmarks.programs import Args, Loss, unet_of

GRADIENT_TOLERANCE = 1e-3  # of its norm, in float32, on the small program
TOLERANCES = {"bf16": 5e-2, "fp32": 5e-3}
"""How far loss and norm of the gradient may be from plain's on the real program."""
REPEATS = 10
MOST_SECONDS = 20.0
"""A case's steps are repeated for no longer, but at least thrice."""


def measure(
    case: Case, plain: dict[str, Any] | None = None, repeats: int = REPEATS
) -> dict[str, Any]:
    """Check one training step, loss and gradient, and time it.

    Args:
        case: What to measure.
        plain: The plain program's measurement, to compare with and for budgets that
            are shares of it.
        repeats: How many steps to time.

    Returns:
        Bytes, seconds and what was checked; `"error"` if it does not fit.

    Raises:
        ValueError: If the method's gradient is wrong: nothing is timed then.
    """
    error = gradient_error(case)
    if not error <= GRADIENT_TOLERANCE:
        raise ValueError(
            f"the gradient of `{case.method}` is off by {error:.1%} of its norm on "
            f"the small program of {case.workload}."
        )
    measured: dict[str, Any] = {"gradient_error": error}
    loss, args, method = loss_of(case.method, case.workload, is_tiny=case.is_tiny)
    try:
        loss, planned = _carried_out(loss, args, method, case, plain)
        measured |= planned
        step, seen = _compile(loss, args, method)
        measured |= seen
        measured |= _timed(step, draw(args), case, plain, repeats)
    except jaxswap.BudgetError as failure:
        measured |= {"error": "does not fit", "smallest_bytes": failure.smallest_bytes}
    except jax.errors.JaxRuntimeError as failure:
        if "RESOURCE_EXHAUSTED" not in str(failure):
            raise
        measured["error"] = "out of memory"
    measured["peak_bytes"] = harness.peak_bytes()
    if measured.get("host_bytes") and is_gpu():
        seen = jaxswap.inspect(
            jax.value_and_grad(loss), *args, compiler_options=method.options
        )
        measured |= {
            "copied_bytes": seen.swapped_bytes,
            "exposed_bytes": seen.exposed_bytes,
        }
    return measured


def is_gpu() -> bool:
    """Whether JAX's default device is a GPU; else this backend is only tried out."""
    return jax.default_backend() == "gpu"


def plan_of(loss: Loss, args: Args, method: Method, budget: Any) -> jaxswap.Plan:
    """Plan for the GPU at hand; without one, for another that is not compiled for."""
    return jaxswap.plan(
        loss,
        *args,
        budget=budget,
        policy=method.policy,
        target=None if is_gpu() else "h100",
        compile=is_gpu() and method.needs_budget,
        most_compiles=compiled.MOST_COMPILES,
        progress=False,
    )


def _carried_out(
    loss: Loss, args: Args, method: Method, case: Case, plain: dict[str, Any] | None
) -> tuple[Loss, dict[str, Any]]:
    """The loss whose gradient is to be compiled, and what the plan said."""
    if not method.is_planned:
        return loss, {}
    start = time.perf_counter()
    plan = plan_of(loss, args, method, budget_bytes(case.budget, plain))
    return jaxswap.offload(loss, plan=plan), {
        "planning_and_compile_seconds": time.perf_counter() - start,
        "predicted_device_bytes": plan.timeline.device_bytes + plan.correction_bytes,
        "simulated_seconds": plan.seconds,
        "plain_simulated_seconds": plan.plain.seconds,
    }


def _compile(
    loss: Loss, args: Args, method: Method
) -> tuple[Callable[..., Any], dict[str, Any]]:
    start = time.perf_counter()
    traced = jax.jit(jax.value_and_grad(loss)).trace(*args)
    lowered = traced.lower()
    middle = time.perf_counter()
    step = lowered.compile(compiler_options=dict(method.options))
    memory: Any = step.memory_analysis()
    argument, output = memory.argument_size_in_bytes, memory.output_size_in_bytes
    return step, {
        "trace_seconds": middle - start,
        "compile_seconds": time.perf_counter() - middle,
        "argument_bytes": argument,
        "output_bytes": output,
        "temp_bytes": memory.temp_size_in_bytes,
        "host_bytes": memory.host_temp_size_in_bytes,
        "device_bytes": argument
        + output
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
    }


def _timed(
    step: Callable[..., Any],
    values: Args,
    case: Case,
    plain: dict[str, Any] | None,
    repeats: int,
) -> dict[str, Any]:
    """Compare the step's results with plain's, then time it."""
    loss, gradient = step(*values)
    found = {"loss": float(loss), "gradient_norm": float(norm(gradient))}
    del loss, gradient
    wrong = difference(found, plain, case.workload)
    if wrong:
        return found | {"error": wrong}
    start = time.perf_counter()
    jax.block_until_ready(step(*values))
    once = time.perf_counter() - start
    count = max(min(3, repeats), min(repeats, math.ceil(MOST_SECONDS / once)))
    return found | harness.seconds(lambda: step(*values), count)


def difference(
    found: dict[str, float], plain: dict[str, Any] | None, workload: str
) -> str:
    """What is wrong with a step's results; nothing if they are plain's."""
    if not all(math.isfinite(number) for number in found.values()):
        return "loss or gradient is not finite"
    parts = unet_of(workload)
    tolerance = TOLERANCES[parts[1] if parts else "bf16"]
    for name, number in found.items():
        expected = (plain or {}).get(name)
        if expected is not None and abs(number - expected) > tolerance * abs(expected):
            return f"{name.replace('_', ' ')} is {number:.6g}, plain's {expected:.6g}"
    return ""


def gradient_error(case: Case) -> float:
    """Return the distance between a method's gradient and plain JAX's, relative.

    On a small program of the same form, in float32; what plans is asked to need as
    little memory as it can.
    """
    is_unet = unet_of(case.workload) is not None
    workload = "unet3d-32-fp32" if is_unet else case.workload
    is_tiny = case.is_tiny or not is_unet
    loss, args, method = loss_of(case.method, workload, is_tiny=is_tiny)
    plain, _, _ = loss_of("plain", workload, is_tiny=is_tiny)
    if method.policy is not None:
        loss = jaxswap.offload(loss, policy=method.policy)
    elif method.is_planned:
        loss = jaxswap.offload(loss, plan=plan_of(loss, args, method, "smallest"))
    values, options = draw(args), dict(method.options)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(jax.grad(loss), compiler_options=options)(*values)
        expected = jax.jit(jax.grad(plain))(*values)
    difference = jax.tree.map(jnp.subtract, found, expected)
    return float(norm(difference) / norm(expected))


def norm(tree: Any) -> jax.Array:
    """Return the Euclidean norm of all numbers of a tree, in float32."""
    squares = [
        jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(sum(squares))
